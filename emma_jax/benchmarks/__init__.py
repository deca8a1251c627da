"""Published test sets: read, predicted, judged, aggregated, reported."""
