"""EMMA-4B through the paper's six stages, from published weights.

  python -m emma_jax.cli.convert init --config configs/emma_4b.py \\
      --qwen3 weights/Qwen3-4B --siglip2 weights/siglip2-so400m-patch16-512 \\
      --dcae weights/dc-ae-f32c32-sana-1.1-diffusers --out runs/emma_4b_init
  python -m emma_jax.cli.train --config configs/emma_4b.py \\
      --workdir runs/emma_4b [--config.data.sources.KEY=jsonl:PATH ...]

Nothing is random but what is new in EMMA, and that is in the first file. Rates,
schedules, ratios and numbers of samples are the paper's (Table 2). After a
colon: one stage, a machine; see full_size.py and targets.py:

  python -m emma_jax.cli.train --config configs/emma_4b.py:stage1,8xh100 \\
      --workdir runs/emma_4b_stage1
"""

import ml_collections

from configs import full_size, models


def get_config(spec: str = "") -> ml_collections.ConfigDict:
  """All stages, or the one that `spec` names, for the machine it names."""
  return full_size.get("emma_4b", models.emma_4b(), "Qwen3-4B", spec)
