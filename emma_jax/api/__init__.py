"""The package as Python sees it: `emma_jax.load` and what it gives."""
