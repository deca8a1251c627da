"""Comparison variant `token_fusion` of the tiny model; see variants.py.

  python -m emma_jax.cli.train --config configs/tiny_token_fusion.py \\
      --workdir runs/token_fusion
"""

from configs.variants import token_fusion as get_config  # noqa: F401
