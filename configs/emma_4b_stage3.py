"""Stage 3 of EMMA-4B by itself: the same on the best data, all three tasks.

  python -m emma_jax.cli.train --config configs/emma_4b_stage3.py:v5e-256 \\
      --workdir runs/emma_4b_stage3

Machines are in targets.py; without one it is v5p-128.
"""

import ml_collections

from configs import emma_4b


def get_config(target: str = "") -> ml_collections.ConfigDict:
  return emma_4b.get_config(f"stage3,{target}")
