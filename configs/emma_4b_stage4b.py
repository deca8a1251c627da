"""Stage 4b of EMMA-4B by itself: the router alone.

  python -m emma_jax.cli.train --config configs/emma_4b_stage4b.py:v5e-256 \\
      --workdir runs/emma_4b_stage4b

Machines are in targets.py; without one it is v5p-128.
"""

import ml_collections

from configs import emma_4b


def get_config(target: str = "") -> ml_collections.ConfigDict:
  return emma_4b.get_config(f"stage4b,{target}")
