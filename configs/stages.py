"""The paper's six stages (Table 2) and their tables over parameters.

A stage is: what it minimises, on which mixture, which weights move, where its
starting weights come from. Tables are ordered (regex, value) pairs over the
parameters' paths; the first match counts, every path must be covered and every
line must decide something.
"""

import ml_collections

from emma_jax import batches

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

# Learning rates, schedules and numbers of samples [P]. The paper records
# neither batch nor warm-up nor average [D]; all three are in samples, so that
# they are the same on every machine (emma_jax/batches.py). What peers publish,
# samples a step:
#
#   LLaVA-OneVision  512 for alignment on the same 558K pairs, at the same
#                    1e-3; 256 for finetuning (its scripts: 128 GPUs, 1 a GPU,
#                    accumulation 2); warm-up 3% of each stage
#   VILA             1,024 for alignment and pretraining, 2,048 for finetuning
#                    (its scripts)
#   Show-o2          512: 64 GPUs of 6 drawings and 2 questions, 128 of 2 and 2
#                    (its configs); warm-up 2,000 steps, then 3%
#   Janus-Pro        256, 512, 128 (its report), at rates of 1e-3, 1e-4, 4e-5
#   SANA             64 pictures a GPU (its configs): 1,024 on 16, 4,096 on 64
#   BAGEL            packed: 12.5M tokens in pretraining, 4.9M in finetuning
#                    (its report) of some 1,200 to 13,000 a sample, so about
#                    5,000 and 500 to 2,000; 2,000 to 2,500 steps of warm-up;
#                    averages of 0.9999, in finetuning 0.995
#
# Batches lie in this range; those of 1,024, 4,096, 2,304 and 1,536 are what 256
# devices hold with one row of full_size.py each.
# Half-lives: 28.4M is a decay of 0.9999 a step of 4,096, 7.1M of 1,024, 319K is
# 0.995 a step of 2,304. (The average follows faster in the first steps, so it
# is never older than a tenth of a stage.)
RECIPE = {
  "0_alignment": dict(
    samples=560_000,
    batch=1024,
    warmup=16_800,
    half_life=7_100_000,
    learning_rate=1e-3,
    schedule="cosine",
  ),
  "1_pretraining": dict(
    samples=1_000_000_000,
    batch=4096,
    warmup=10_240_000,  # 2,500 steps
    half_life=28_400_000,
    learning_rate=1e-4,
    schedule="constant",
  ),
  "2_finetuning": dict(
    samples=237_000_000,
    batch=2304,
    warmup=768_000,  # 500 steps
    half_life=319_000,
    learning_rate=4e-5,
    schedule="constant",
  ),
  # 3% of the samples from here on.
  "3_quality": dict(
    samples=1_500_000,
    batch=2304,
    warmup=45_000,
    half_life=7_100_000,
    learning_rate=1e-5,
    schedule="cosine",
  ),
  "4a_expert": dict(
    samples=15_000_000,
    batch=1536,
    warmup=450_000,
    half_life=7_100_000,
    learning_rate=4e-6,
    schedule="cosine",
  ),
  "4b_router": dict(
    samples=3_000_000,
    batch=1536,
    warmup=90_000,
    half_life=7_100_000,
    learning_rate=1e-4,
    schedule="constant",
  ),
}
_OBJECTIVES = {
  "4a_expert": dict(route="stem"),
  "4b_router": dict(objective="router"),
}


def recipe(name: str, samples: float) -> dict:
  """Keys of a stage of `samples` a step: what follows from RECIPE."""
  r = RECIPE[name]
  factor = batches.rate_factor(samples / r["batch"])
  steps = max(1, round(r["samples"] / samples))
  return dict(
    steps=steps,
    learning_rate=factor * r["learning_rate"],
    rate_factor=factor,
    schedule=r["schedule"],
    warmup_steps=min(steps, max(1, round(r["warmup"] / samples))),
    ema_decay=batches.decay(samples, r["half_life"]),
  )


# Finetuning's three phases [P], of 237M samples: questions and drawings; about
# 50M and 50M of them, balanced; then the 12M edits, 1:1:1, the last 15%. That
# leaves 101M for the first, which the paper calls one epoch: of the 225M that
# it names it is less than half [D: Table 2's numbers are kept].
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
      samples_per_batch=RECIPE[name]["batch"],
      # Planned rows are expected to hold so many samples each, and the recipe's
      # batch has so many: what the rate was multiplied with is for the
      # difference, see emma_jax/batches.py. 0: not said.
      row_samples=0.0,
      # True: before the first step that number is measured, by planning some
      # batches of each phase, and rows, micro-batches, steps, rate, warm-up and
      # average are made to fit it.
      measure_rows=False,
      # What is then kept: of the stage, of its warm-up, and until the average
      # has forgotten half.
      stage_samples=0,
      warmup_samples=0,
      half_life=0,
      batch_samples=0,
      rate_factor=1.0,
      accumulation=1,  # micro-batches of a step, of equally many rows
      mixture_unit="samples",  # or tokens (planned): what weights count
      # Each source's pictures to draw come from all aspect ratios alike
      # (planned); questions come as they are.
      mixture_even_buckets=False,
      learning_rate=0.0,
      schedule="constant",
      warmup_steps=0,
      final_ratio=0.0,  # the cosine ends at this share of the rate
      lr_multipliers=((".*", 1.0),),
      ema_decay=0.0,
      mixture=_MIXTURES[name],
      policy=(),
      load=KEEP,
      next_stage_weights="ema",  # ema or raw: what the next stage starts from
      route="versatile",  # the expert understanding pictures take
      text_weight=0.25,  # [D] CE : MSE = 0.25 : 1
      velocity_weight=1.0,
      # On the losses of tasks. Drawings and edits are pooled: at 1 : 1 every
      # picture counts alike [D].
      task_weights=dict(understanding=1.0, drawing=1.0, editing=1.0),
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
  c.update(recipe(name, RECIPE[name]["batch"]) | _OBJECTIVES.get(name, {}))
  c.update(changes)
  return c
