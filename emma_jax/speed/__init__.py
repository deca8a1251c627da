"""How fast and how large the published sizes are, beside torch."""
