"""Stage 0 of EMMA-4B by itself: the Und adapter learns, at 512 pixels.

  python -m emma_jax.cli.train --config configs/emma_4b_stage0.py:v5e-256 \\
      --workdir runs/emma_4b_stage0

Machines are in targets.py; without one it is v5p-128.
"""

import ml_collections

from configs import emma_4b


def get_config(target: str = "") -> ml_collections.ConfigDict:
  return emma_4b.get_config(f"stage0,{target}")
