"""Metrics, one file each, with their implementations side by side."""
