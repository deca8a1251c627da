"""A tiny EMMA in the embedded world, through all the paper's stages.

Trains from scratch in about ten minutes on two cores:

  python -m emma_jax.cli.train --config configs/tiny.py --workdir runs/demo

Learning rates are higher and stages shorter than the paper's (Table 2): the
model is 2,000 times smaller and starts from nothing instead of from Qwen3. The
shape of the recipe is the paper's: what each stage trains, on which tasks, in
which ratio, under which schedule. After a colon: one of variants.py;
`shapes`, which trains as the full size does, on pictures of five shapes; or
`sources`, edits of two pictures, from the shipped model.

  python -m emma_jax.cli.train --config configs/tiny.py:token_fusion \\
      --workdir runs/token_fusion
  bash launch/shapes.sh       # makes the records of :shapes, trains, grades
  python -m emma_jax.cli.train --config configs/tiny.py:sources \\
      --workdir runs/sources
"""

import ml_collections

from configs import defaults, models, stages, variants

# What only draws learns from several noises a picture: it bears a higher rate.
_RATES = (("(.*/)?(gen|norm_gen|time|velocity)/.*", 2.0), (".*", 1.0))
# Nine tokens are told from noise by their many channels: only late times teach
# what to draw. Most of the cost of a step is the context, so four noises of a
# target cost a third more than one.
FLOW = dict(time_mean=1.0, draws=4, text_weight=0.5, lr_multipliers=_RATES)
# Samples and rows of a batch: small batches learn fastest per second here.
_BATCH = dict(
  samples_per_batch=48,
  rows=16,
  und_tokens=96,
  und_pictures=1,
  references=1,
  targets=2,
  **FLOW,
)
# Half understanding, half drawing: fewer Gen tokens, more text.
_PAIRS = dict(
  samples_per_batch=48,
  rows=12,
  und_tokens=144,
  und_pictures=2,
  references=0,
  targets=2,
  **FLOW,
)
# No drawing at all: no targets.
_TEXT = dict(
  samples_per_batch=32,
  rows=16,
  und_tokens=128,
  und_pictures=2,
  references=0,
  targets=0,
)


# Steps of the six stages: about ten minutes on two cores.
DEMO = {
  "0_alignment": 30,
  "1_pretraining": 350,
  "2_finetuning": 500,
  "3_quality": 1500,
  "4a_expert": 60,
  "4b_router": 60,
}


def get_config(variant: str = "") -> ml_collections.ConfigDict:
  """The six stages, or as many as a variant of the model (variants.py) has.

  "shapes" and "sources": see the functions of that name.
  """
  if variant in ("shapes", "sources"):
    return shapes() if variant == "shapes" else sources()
  c = base()
  c.name = variant or "tiny"
  c.evaluate.reference = not variant
  if variant:
    variants.change_model(c.model, variant)
  c.stages = tiny_stages(c.model)
  for stage in c.stages.values():
    stage.und_tokens += variants.more_und_tokens(c.model.fusion, stage, 9)
  return c


# Canvases of the world's `*_shapes` tasks: (height, width).
CANVASES = ((96, 96), (64, 128), (128, 64), (96, 128), (128, 96))


def shapes() -> ml_collections.ConfigDict:
  """Pictures of five shapes, as at full size: drawn in buckets, understood at
  their own sizes with latents made beforehand, batches planned from lengths.

  launch/shapes.sh makes the records.
  """
  c = base()
  c.name = "shapes"
  c.evaluate.held_out = False  # those sets are square
  c.evaluate.sources = {
    task: f"world:{task}_shapes:test"
    for task in ("understanding", "drawing", "editing")
  }
  c.data.update(
    dict(buckets=CANVASES, native=True, latents="stored", max_tokens=12)
  )
  c.data.sources = {
    task: f"records:data/shapes/{task}"
    for task in ("understanding", "stem", "drawing", "editing")
  }
  c.evaluate.router.sources = (
    "world:understanding_shapes:test",
    "world:stem_shapes:test",
  )
  c.stages = tiny_stages(c.model)
  # 35% of the pictures of `understanding` are STEM: half and half in all.
  c.stages["4b_router"].mixture = ((0.0, dict(understanding=77, stem=23)),)
  for stage in c.stages.values():
    stage.samples_per_batch = 0
    # Four patches a token; the largest canvas has 12 tokens, the mean is 9.8.
    stage.und_patches = 4 * max(12, 10 * stage.und_pictures)
    stage.und_tokens = round(0.84 * stage.und_tokens)
  # Until edits join, rows are those of pretraining.
  keys = ("und_tokens", "und_pictures", "und_patches", "references", "targets")
  pairs = {key: c.stages["1_pretraining"][key] for key in keys}
  (start, weights), edits = c.stages["2_finetuning"].mixture
  c.stages["2_finetuning"].mixture = ((start, weights, dict(row=pairs)), edits)
  return c


def sources() -> ml_collections.ConfigDict:
  """Edits of one picture and of two, taught to the shipped model.

  Its score of edits is of two: "the star of the first picture on the background
  of the second".
  """
  c = base()
  c.name = "sources"
  c.data.sources.editing_two = "world:editing_two:train"
  c.evaluate.held_out = False  # those sets are of one
  c.evaluate.ceiling = False
  c.evaluate.sources.editing = "world:editing_two:test"
  c.stages = tiny_stages(c.model)
  quality = c.stages["3_quality"]
  quality.update(
    dict(
      steps=1000,
      learning_rate=5e-4,
      samples_per_batch=36,
      references=3,
      load=((".*", "weights:reference"),),
      mixture=(
        (0.0, dict(understanding=1, drawing=1, editing=1, editing_two=3)),
      ),
    )
  )
  c.stages = ml_collections.ConfigDict({"3_quality": quality})
  return c


def base() -> ml_collections.ConfigDict:
  """Everything but the stages."""
  c = defaults.get_config()
  # From scratch the gradients of the first steps are far larger than later
  # ones; 0.999 would remember them, and take tiny steps, for a thousand steps.
  c.optimizer.b2 = 0.98
  # A small model follows its text without much help; more guidance distorts.
  # The world's conversations have three turns and answers of a few words, and
  # are scored often: 20 steps take less than half of the time of 50.
  c.data.max_turns = 3
  c.sample.max_tokens = 32
  c.sample.max_context = 4096
  c.evaluate.steps = 20
  # What a look costs here is mostly its programs, once a stage.
  c.train.validate_every = 500
  c.train.validate_samples = 96
  c.train.sample_every = 500
  c.train.sample_tokens = 16
  c.sample.text_guidance = 1.5
  c.sample.edit_text_guidance = 2.5
  c.sample.edit_image_guidance = 1.5
  c.model = models.tiny()
  return c


def tiny_stages(
  model: ml_collections.ConfigDict,
  steps: dict[str, int] = DEMO,
  ema_decay: float = 0.99,
) -> ml_collections.ConfigDict:
  """The six stages at this size; without experts, four."""
  policy = stages.policies(model.vision.experts)
  copy = stages.KEEP_AND_COPY if model.vision.experts else stages.KEEP
  out = {}

  def add(name: str, **changes) -> None:
    if name in policy:
      out[name] = stages.stage(
        name,
        steps=steps[name],
        warmup_steps=min(50, steps[name]),
        policy=policy[name],
        ema_decay=ema_decay,
        **changes,
      )

  add(
    "0_alignment",
    learning_rate=1e-3,
    **_TEXT,
    load=stages.first_load(model, "world_autoencoder"),
  )
  add("1_pretraining", learning_rate=1e-3, **_PAIRS)
  add(
    "2_finetuning",
    learning_rate=1e-3,
    mixture=(
      (0.0, dict(understanding=1.0, drawing=1.0)),
      (0.1, dict(understanding=1.0, drawing=1.0, editing=1.0)),
    ),
    **_BATCH,
  )
  add("3_quality", learning_rate=1e-3, final_ratio=0.02, **_BATCH)
  add("4a_expert", learning_rate=5e-4, load=copy, **_TEXT)
  add("4b_router", learning_rate=5e-3, **_TEXT)
  return ml_collections.ConfigDict(out)
