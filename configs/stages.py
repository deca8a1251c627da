"""The paper's six stages (Table 2) and their tables over parameters.

A stage is: what it minimises, on which mixture, which weights move, where its
starting weights come from. Tables are ordered (regex, value) pairs over the
parameters' paths; the first match counts, every path must be covered and every
line must decide something.
"""

import ml_collections

NAMES = (
  "0_alignment",
  "1_pretraining",
  "2_finetuning",
  "3_quality",
  "4a_expert",
  "4b_router",
)


def policies(experts: bool) -> dict[str, tuple]:
  """Which weights each stage trains [P]: Table 2's row "trained"."""
  spare = (("vision/(stem|router)/.*", "frozen"),) if experts else ()
  whole = (("autoencoder/.*", "frozen"), *spare, (".*", "train"))
  only = lambda regex: ((regex, "train"), (".*", "frozen"))
  out = {
    "0_alignment": only("adapters/und/.*"),
    "1_pretraining": whole,
    "2_finetuning": whole,
    "3_quality": whole,
  }
  if experts:
    out["4a_expert"] = only("vision/stem/.*")
    out["4b_router"] = only("vision/router/.*")
  return out


def first_load(model: ml_collections.ConfigDict, autoencoder: str) -> tuple:
  """Start from random weights, said in so many words, around an autoencoder.

  The Gen branch starts as a copy of the Und branch, the STEM expert as one of
  the versatile expert (paper sections 2 and 4).
  """
  llm, copies = model.llm, []
  if llm.num_shallow and len(llm.shallow_shared) < 6:
    copies.append((r"llm/shallow/gen/(.*)", r"copy:llm/shallow/und/\1"))
  if llm.num_shallow < llm.num_layers and len(llm.deep_shared) < 6:
    copies.append((r"llm/deep/gen/(.*)", r"copy:llm/deep/und/\1"))
  if not llm.final_norm_shared:
    copies.append((r"llm/norm_gen/(.*)", r"copy:llm/norm_und/\1"))
  if model.vision.experts:
    copies.append((r"vision/stem/(.*)", r"copy:vision/versatile/\1"))
  return (
    ("autoencoder/.*", f"weights:{autoencoder}"),
    *copies,
    (".*", "random"),
  )


KEEP = ((".*", "keep"),)
# The expert is a copy of what the versatile one has become by then [P].
KEEP_AND_COPY = (
  (r"vision/stem/(.*)", r"copy:vision/versatile/\1"),
  (".*", "keep"),
)

# Steps are for 1,024 samples a step; learning rates and schedules [P].
_PAPER = {
  "0_alignment": dict(
    steps=547, learning_rate=1e-3, schedule="cosine", warmup_steps=16
  ),
  "1_pretraining": dict(
    steps=976_562, learning_rate=1e-4, schedule="constant", warmup_steps=2500
  ),
  "2_finetuning": dict(
    steps=231_445,
    learning_rate=4e-5,
    schedule="constant",
    warmup_steps=500,
    ema_decay=0.995,
  ),
  "3_quality": dict(
    steps=1_465, learning_rate=1e-5, schedule="cosine", warmup_steps=500
  ),
  "4a_expert": dict(
    steps=14_648,
    learning_rate=4e-6,
    schedule="cosine",
    warmup_steps=500,
    route="stem",
  ),
  "4b_router": dict(
    steps=2_930,
    learning_rate=1e-4,
    schedule="constant",
    warmup_steps=500,
    objective="router",
  ),
}

# Finetuning's three phases [P], of 237M samples: one epoch of questions and
# drawings; about 50M and 50M of them, balanced; then the 12M edits, 1:1:1. That
# leaves 101M for the first.
_BALANCED, _EDITING = 101 / 237, 201 / 237

# Phases: (share of the stage done, weights by source[, options]). Ratios [P].
# `understanding` and `drawing` hold everything; what is to be balanced are
# sources of their own, parts of these.
_MIXTURES = {
  "0_alignment": ((0.0, dict(understanding=1.0)),),
  "1_pretraining": ((0.0, dict(understanding=1.0, drawing=1.0)),),
  "2_finetuning": (
    (0.0, dict(understanding=1.0, drawing=1.0)),
    (
      _BALANCED,
      dict(
        understanding_general=0.5,
        stem=0.5,
        drawing_general=0.5,
        drawing_portrait=0.5,
      ),
      dict(even_buckets=True),
    ),
    (_EDITING, dict(understanding=1.0, drawing=1.0, editing=1.0)),
  ),
  "3_quality": ((0.0, dict(understanding=1.0, drawing=1.0, editing=1.0)),),
  "4a_expert": ((0.0, dict(stem=1.0)),),
  "4b_router": ((0.0, dict(stem=0.5, understanding_general=0.5)),),
}


def stage(name: str, **changes) -> ml_collections.ConfigDict:
  """One stage with every key; `changes` replaces some."""
  c = ml_collections.ConfigDict(
    dict(
      objective="emma",  # emma, router or autoencoder
      steps=0,
      # 0: as many as fill the rows, planned from lengths; all sources must be
      # records:DIR.
      samples_per_batch=1024,
      mixture_unit="samples",  # or tokens (planned): what weights count
      learning_rate=0.0,
      schedule="constant",
      warmup_steps=0,
      final_ratio=0.0,  # the cosine ends at this share of the rate
      lr_multipliers=((".*", 1.0),),
      ema_decay=0.9999,  # [D]
      mixture=_MIXTURES[name],
      policy=(),
      load=KEEP,
      next_stage_weights="ema",  # ema or raw: what the next stage starts from
      route="versatile",  # the expert understanding pictures take
      text_weight=0.25,  # [D] CE : MSE = 0.25 : 1
      velocity_weight=1.0,
      time_mean=0.0,  # [D] t = sigmoid(N(mean, std)), then shifted
      time_std=1.0,
      shift=1.0,  # [D] 1 at 512 pixels, 3 at 1K
      draws=1,  # [D] times and noises of a target in one pass
      time_bins=4,  # of the logged loss by flow time
      # Static shapes: rows of a batch, capacities of a row.
      rows=0,
      und_tokens=0,
      und_pictures=0,
      und_patches=0,  # of native pictures; 0: all are data.height x width
      references=0,
      targets=0,
    )
  )
  c.update(_PAPER[name])
  c.update(changes)
  return c
