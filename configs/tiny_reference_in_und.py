"""Comparison variant `reference_in_und` of the tiny model; see variants.py.

  python -m emma_jax.cli.train --config configs/tiny_reference_in_und.py \\
      --workdir runs/reference_in_und
"""

from configs.variants import reference_in_und as get_config  # noqa: F401
