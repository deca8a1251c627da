"""Comparison variant `no_experts` of the tiny model; see variants.py.

  python -m emma_jax.cli.train --config configs/tiny_no_experts.py \\
      --workdir runs/no_experts
"""

from configs.variants import no_experts as get_config  # noqa: F401
