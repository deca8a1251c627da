"""What `emma-train finetune` starts from: the paper's stage 3 on own data.

  emma-train finetune reference my_pictures --out runs/mine

The model's own config says what the model is and how it sees pictures; where it
has a stage 3 its rate, schedule, times and tables are taken, else those here.
Rows, samples and steps follow from the data. Any key can be set, here's or the
run's: --config.finetune.passes=50, --config.stages.finetune.steps=300.
"""

import ml_collections

from configs import defaults, stages


def get_config() -> ml_collections.ConfigDict:
  """Without a model and sources, which the command brings."""
  c = defaults.get_config()
  c.name = "finetune"
  c.data.sources = ml_collections.ConfigDict()
  c.data.workers = 0
  c.evaluate.held_out = False  # the world's own sets
  c.train.gradient_shares_every = 0
  c.train.validate_samples = 64
  c.finetune = ml_collections.ConfigDict(
    dict(
      # Samples of a step, about: rows are whole. Stage 3's own batch is made
      # for millions of samples; a few dozen would be seen at once.
      batch=16,
      # How often a picture is seen. Twelve pictures learned with the tiny model
      # are drawn after some hundred passes; more only learn them by heart.
      passes=200,
      min_steps=100,
      max_steps=10_000,
      # Of each task, the share that is not trained on, and at most so many.
      held_out=0.15,
      most_held_out=64,
      shown=4,  # of each task, on the sheet of before and after
    )
  )
  c.stages = ml_collections.ConfigDict(
    {
      "finetune": stages.stage(
        "3_quality",
        samples_per_batch=0,  # planned: rows are full
        policy=stages.policies(experts=True)["3_quality"],
        references=1,
        targets=2,
        und_pictures=1,
      )
    }
  )
  return c
