"""How each published benchmark asks, scores and averages."""
