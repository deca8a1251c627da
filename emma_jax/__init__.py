"""EMMA (arXiv 2512.04810) in JAX: one model that understands, draws, edits."""

__version__ = "0.1.0"
