"""Stage 2 of EMMA-4B by itself: 1024 pixels, edits in its second half.

  python -m emma_jax.cli.train --config configs/emma_4b_stage2.py:v5e-256 \\
      --workdir runs/emma_4b_stage2

Machines are in targets.py; without one it is v5p-128.
"""

import ml_collections

from configs import emma_4b


def get_config(target: str = "") -> ml_collections.ConfigDict:
  return emma_4b.get_config(f"stage2,{target}")
