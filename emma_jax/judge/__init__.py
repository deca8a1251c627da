"""Models that judge: what they are asked, and what they reply."""
