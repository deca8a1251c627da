"""A tiny EMMA on a user's own files, from scratch or from the reference model.

Sources are JSON lines in the formats of public data sets: LLaVA conversations,
{"image", "caption"}, {"source", "instruction", "target"}; see the README.

  python -m emma_jax.cli.train --config configs/files.py --workdir runs/mine \\
      --config.autoencoder=runs/my_autoencoder.safetensors \\
      --config.data.sources.understanding=jsonl:my_data/und_train.jsonl \\
      --config.data.sources.drawing=jsonl:my_data/t2i_train.jsonl \\
      --config.data.sources.editing=jsonl:my_data/edit_train.jsonl \\
      --config.evaluate.sources.understanding=jsonl:my_data/und_val.jsonl \\
      --config.evaluate.sources.drawing=jsonl:my_data/t2i_val.jsonl \\
      --config.evaluate.sources.editing=jsonl:my_data/edit_val.jsonl

files_from_reference.py starts from the shipped model instead of at random.
"""

import ml_collections

from configs import stages, tiny


def get_config() -> ml_collections.ConfigDict:
  """Two stages from random weights around a frozen autoencoder."""
  c = tiny.base()
  c.name = "files"
  # Name or path of weights; the first stage's load table reads it.
  c.autoencoder = "world_autoencoder"
  c.data.sources = dict(
    understanding="jsonl:data/und_train.jsonl",
    drawing="jsonl:data/t2i_train.jsonl",
    editing="jsonl:data/edit_train.jsonl",
  )
  c.evaluate.sources = ml_collections.ConfigDict(
    dict(
      understanding="jsonl:data/und_val.jsonl",
      drawing="jsonl:data/t2i_val.jsonl",
      editing="jsonl:data/edit_val.jsonl",
    )
  )
  c.evaluate.samples = 48
  policy = stages.policies(experts=True)
  # Captions are sentences, so rows are longer than in the world.
  rows = dict(
    samples_per_batch=24,
    rows=8,
    und_tokens=144,
    und_pictures=1,
    references=1,
    targets=2,
    **tiny.FLOW,
  )
  every = dict(understanding=1.0, drawing=1.0, editing=1.0)
  c.stages = ml_collections.ConfigDict(
    {
      "2_finetuning": stages.stage(
        "2_finetuning",
        steps=700,
        learning_rate=1e-3,
        warmup_steps=50,
        policy=policy["2_finetuning"],
        ema_decay=0.99,
        mixture=((0.0, every),),
        **rows,
        load=stages.first_load(c.model, "{autoencoder}"),
      ),
      "3_quality": stages.stage(
        "3_quality",
        steps=500,
        learning_rate=1e-3,
        warmup_steps=0,
        final_ratio=0.02,
        policy=policy["3_quality"],
        ema_decay=0.99,
        **rows,
      ),
    }
  )
  return c
