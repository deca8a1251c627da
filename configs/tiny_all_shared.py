"""Comparison variant `all_shared` of the tiny model; see variants.py.

  python -m emma_jax.cli.train --config configs/tiny_all_shared.py \\
      --workdir runs/all_shared
"""

from configs.variants import all_shared as get_config  # noqa: F401
