"""All six stages in two minutes on two cores: does everything work here?

  python -m emma_jax.cli.train --config configs/smoke.py --workdir runs/smoke

tiny.py with a smaller language model, a few steps a stage, few samples. It
learns nothing; each part of a run is done once: weights, stages, looks, samples
drawn, edited and answered, scores, checkpoints, the report.
"""

import ml_collections

from configs import tiny

_STEPS = 8


def get_config() -> ml_collections.ConfigDict:
  """The stages of tiny.py, of `_STEPS` steps each."""
  c = tiny.base()
  c.name = "smoke"
  c.model.llm.update(num_layers=2, num_shallow=1)
  c.model.vision.encoder.num_layers = 2
  c.stages = tiny.tiny_stages(c.model, dict.fromkeys(tiny.DEMO, _STEPS))
  for stage in c.stages.values():
    stage.update(dict(warmup_steps=2, ema_decay=0.5))
    # A third of the rows: what a step costs is mostly its program.
    stage.rows //= 3
    stage.samples_per_batch //= 3
  c.train.log_every = 4
  c.train.gradient_shares_every = 0
  c.train.validate_samples = 16
  c.train.sample_count = 2
  c.sample.steps = 4
  c.sample.max_tokens = 8
  c.evaluate.update(
    dict(
      samples=8,
      stage_samples=8,
      steps=4,
      batch=8,
      held_out=False,
      ceiling=False,
    )
  )
  c.evaluate.router.samples = 32
  return c
