"""The reference tiny model that ships with the package: tiny.py, for longer.

  python -m emma_jax.cli.train --config configs/reference.py \\
      --workdir runs/reference
  python -m emma_jax.cli.pack model --workdir runs/reference \\
      --out emma_jax/assets/reference.safetensors
"""

import ml_collections

from configs import tiny

STEPS = {
  "0_alignment": 120,
  "1_pretraining": 1000,
  "2_finetuning": 2500,
  "3_quality": 10_000,
  "4a_expert": 100,
  "4b_router": 100,
}
# At 1:1:1 drawing and editing were learnt long before questions about places,
# which need hundreds of thousands of samples: two questions a drawing and edit.
_QUESTIONS = dict(
  mixture=((0.0, dict(understanding=2.0, drawing=1.0, editing=1.0)),),
  rows=12,
  und_tokens=128,
  und_pictures=2,
  references=1,
  targets=2,
)


def get_config() -> ml_collections.ConfigDict:
  """The six stages of tiny.py, more steps each."""
  c = tiny.base()
  c.name = "reference"
  c.data.seed = 1  # not the demo's samples
  c.train.log_every = 50
  c.train.save_every = 250
  c.evaluate.samples = 500
  c.evaluate.held_out_samples = 200
  c.stages = tiny.tiny_stages(c.model, STEPS, ema_decay=0.999)
  c.stages["3_quality"].update(_QUESTIONS)
  return c
