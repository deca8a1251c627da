"""Comparison variant `all_decoupled` of the tiny model; see variants.py.

  python -m emma_jax.cli.train --config configs/tiny_all_decoupled.py \\
      --workdir runs/all_decoupled
"""

from configs.variants import all_decoupled as get_config  # noqa: F401
