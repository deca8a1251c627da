"""The paper's recipe at full size, for any of its Qwen3s, stages and machines.

A config that takes `get_config(spec)` is one of these; `spec` follows the
file's name after a colon and names a stage, a machine (see targets.py), both or
neither:

  --config configs/emma_4b.py                 all stages at 512 pixels
  --config configs/emma_4b.py:8xh100          the same on 8 H100
  --config configs/emma_1_7b.py:stage2,8xh100 one stage, at its own resolution
  --config configs/emma_4b.py:stage2,fixed    pictures to be understood all of
                                              one size, latents made in the step

Stages 2 to 4 show pictures to be understood at their own sizes [P]; their
latents are to be made by `emma-data encode-latents` first.

A stage by itself starts from the working directory of the one before. What is
looked at while it runs are records that are trained on nowhere, 512 of a
stage: train.validate_sources; with --config.train.validate_every=0 and
sample_every=0 it goes without. The router's wants labelled ones, for its
accuracy: evaluate.router.
"""

import ml_collections

from configs import defaults, stages, targets
from emma_jax import batches

# A row by stage: capacities that samples of its mixture fill evenly, and how
# many those are, on average. Both are for lengths as the paper's data sets are
# described (FineVision: 0.7 pictures, 3.7 turns and 400 tokens of answers a
# sample; captions of 100 tokens). `emma-data plan` says how full yours leave
# them, and which rows they would fill. A picture of 512 pixels is 256 tokens,
# one of 1024 pixels 1024.
#
# `phases` are the capacities that differ in the phases of the mixture, in their
# order: the places of references stay empty until edits join.
_ALIGN = dict(
  samples=4.0, und_tokens=1280, und_pictures=4, references=0, targets=0
)
_PAIRS = dict(
  samples=15.7, und_tokens=3968, und_pictures=8, references=0, targets=8
)
_PAIRS_1024 = dict(und_tokens=7168, und_pictures=4, references=0, targets=5)
_EDITS = dict(
  samples=8.9, und_tokens=4608, und_pictures=3, references=3, targets=6
)
_PHASES = dict(_EDITS, samples=9.9, phases=(_PAIRS_1024, _PAIRS_1024, {}))
_TEXTS = dict(
  samples=6.4, und_tokens=8192, und_pictures=6, references=0, targets=0
)
# The same of pictures at native size [P of stages 2 to 4]: room for one of
# 4,096 tokens, or for more of smaller ones, and text.
_NATIVE = dict(und_pictures=16, und_patches=4 * 4096)
_NATIVE_PAIRS = dict(und_tokens=6144, references=0, targets=5)
_NATIVE_EDITS = dict(_EDITS, **_NATIVE)
_NATIVE_PHASES = dict(
  _NATIVE_EDITS, samples=9.7, phases=(_NATIVE_PAIRS, _NATIVE_PAIRS, {})
)
_NATIVE_TEXTS = dict(_TEXTS, samples=6.1, und_tokens=6912, **_NATIVE)
# All stages in one run have one picture size, of 512 pixels.
_PAIRS_512 = dict(und_tokens=3968, und_pictures=4, references=0, targets=5)
_MIXED = dict(
  samples=8.5, und_tokens=2560, und_pictures=3, references=3, targets=6
)
_MIXED_PHASES = dict(_MIXED, samples=9.5, phases=(_PAIRS_512, _PAIRS_512, {}))
_MIXED_TEXTS = dict(
  samples=5.6, und_tokens=4096, und_pictures=7, references=0, targets=0
)
# Sizes of drawn pictures at 1K [P 1K buckets; D which]: the ratios of cameras
# and screens, of the 33 of aspect_buckets.py; each is a program of its own.
BUCKETS_1024 = (
  (1024, 1024),
  (1152, 896),
  (896, 1152),
  (1216, 832),
  (832, 1216),
  (1344, 768),
  (768, 1344),
)
# The same at 512 pixels, of stage 1.
BUCKETS_512 = tuple((y // 2, x // 2) for y, x in BUCKETS_1024)
# Of _general, _portrait and stem see stages.py: finetuning balances them, and
# the router is trained on two of them. `emma-data label-stem` tells STEM
# pictures from general ones.
SOURCES = (
  "understanding",
  "understanding_general",
  "stem",
  "drawing",
  "drawing_general",
  "drawing_portrait",
  "editing",
)

# Stage by the word in a spec: its name, its picture size [P], its row, that of
# native sizes, and that of the run of all stages.
_STAGES = {
  "stage0": ("0_alignment", 512, _ALIGN, None, _ALIGN),
  "stage1": ("1_pretraining", 512, _PAIRS, None, _PAIRS),
  "stage2": ("2_finetuning", 1024, _PHASES, _NATIVE_PHASES, _MIXED_PHASES),
  "stage3": ("3_quality", 1024, _EDITS, _NATIVE_EDITS, _MIXED),
  "stage4a": ("4a_expert", 1024, _TEXTS, _NATIVE_TEXTS, _MIXED_TEXTS),
  "stage4b": ("4b_router", 1024, _TEXTS, _NATIVE_TEXTS, _MIXED_TEXTS),
}


def get(
  name: str, model: ml_collections.ConfigDict, qwen3: str, spec: str = ""
) -> ml_collections.ConfigDict:
  """The config `name` of a model around `qwen3`'s tokenizer, see above."""
  stage, target, native = _parse(spec)
  c = defaults.get_config()
  c.name = name
  c.model = model
  c.initial = f"runs/{name}_init"  # what `convert init` wrote
  c.data.update(
    dict(
      tokenizer=f"qwen3:weights/{qwen3}",
      height=512,
      width=512,
      min_tokens=256,
      max_tokens=4096,
      # Of the seven ratios none crops more than 13% of what lies between 1:2
      # and 2:1; panoramas beyond 2.3:1 are left out.
      max_crop=0.25,
      workers=8,  # one core does not decode what a host of chips consumes
      prefetch_batches=2,
    )
  )
  # What `emma-data convert` wrote, and counted with this tokenizer.
  c.data.sources = {source: f"records:data/{source}" for source in SOURCES}
  # Records of the same sources that are trained on nowhere.
  c.train.validate_sources = {
    source: f"records:data/{source}_held_out" for source in SOURCES
  }
  c.evaluate.router.sources = tuple(
    f"records:data/{source}_held_out"
    for source in ("stem", "understanding_general")
  )
  c.train.update(
    dict(
      save_every=1000,
      evaluate=False,
      loss_chunk=target.loss_chunk,
      frozen_dtype="bfloat16",
      gradient_shares_every=1000,  # 0.3% of the time
      # At most 1% of any stage's, both together (build/look_cost.py).
      validate_every=1000,
      validate_samples=512,
      sample_every=5000,
    )
  )
  c.mesh.update(dict(zip(("slice", "data", "fsdp", "tensor"), target.mesh)))
  large = stage and _STAGES[stage][1] == 1024
  model.llm.remat = target.remat_1024 if large else target.remat
  model.vision.encoder.remat = (
    target.vision_remat_1024 if large else target.vision_remat
  )
  c.stages = _one(c, stage, target, native) if stage else _all(c, target)
  # A batch of many micro-batches is large for a host, and long in use.
  parts = max(section.accumulation for section in c.stages.values())
  c.data.prefetch_batches = max(1, c.data.prefetch_batches // parts)
  return c


def _parse(spec: str) -> tuple[str, targets.Target, bool]:
  """(stage's word or "", machine, whether at native sizes)."""
  words = [w for w in spec.split(",") if w]
  stage = [w for w in words if w in _STAGES]
  machine = [w for w in words if w not in (*_STAGES, "fixed")]
  if len(stage) > 1 or len(machine) > 1:
    raise ValueError(
      f"{spec!r} names more than one stage or machine; stages "
      f"are {list(_STAGES)}, machines {list(targets.TARGETS)}."
    )
  native = bool(stage) and _STAGES[stage[0]][3] is not None
  if "fixed" in words:
    if not native:
      large = [w for w, (_, _, _, row, _) in _STAGES.items() if row]
      raise ValueError(
        f"{spec!r}: `fixed` is for a stage that has native sizes, one of "
        f"{large}; the others have one size anyway."
      )
    native = False
  target = targets.find((machine or [targets.DEFAULT])[0])
  return (stage or [""])[0], target, native


def _one(
  c: ml_collections.ConfigDict, word: str, target: targets.Target, native: bool
):
  """Changes `c` to one stage's run; returns its stages."""
  name, side, row, own_sizes, _ = _STAGES[word]
  words = list(_STAGES)
  index = words.index(word)
  if index:
    c.initial = f"runs/{c.name}_{words[index - 1]}"
  c.name = f"{c.name}_{word}"
  c.data.update(dict(height=side, width=side, seed=1000 * index))
  if native:
    row = own_sizes
    c.data.update(dict(native=True, latents="stored"))
  if row["targets"]:
    c.data.buckets = BUCKETS_1024 if side > 512 else BUCKETS_512
  section = _stage(name, row, side, target, shift=3.0 if side > 512 else 1.0)
  section.load = ((".*", "weights:{initial}"),)
  if name == "4a_expert":
    section.load = (stages.KEEP_AND_COPY[0], *section.load)
  return ml_collections.ConfigDict({name: section})


def _all(
  c: ml_collections.ConfigDict, target: targets.Target
) -> ml_collections.ConfigDict:
  """All stages at 512 pixels, and `c` changed to their buckets."""
  c.data.buckets = BUCKETS_512
  out = {
    name: _stage(name, row, 512, target)
    for name, _, _, _, row in _STAGES.values()
  }
  out["0_alignment"].load = ((".*", "weights:{initial}"),)
  out["4a_expert"].load = stages.KEEP_AND_COPY
  return ml_collections.ConfigDict(out)


def _stage(name: str, row: dict, side: int, target: targets.Target, **changes):
  """A stage with the recipe's batch, on this machine (emma_jax/batches.py)."""
  row = dict(row)
  samples, phases = row.pop("samples"), row.pop("phases", ())
  if phases:
    mixture = stages.stage(name).mixture
    changes["mixture"] = tuple(
      (*phase, dict(row=of_phase)) if of_phase else phase
      for phase, of_phase in zip(mixture, phases, strict=True)
    )
  picture = (side // 32) ** 2
  tokens = max(
    x["und_tokens"] + picture * (x["references"] + x["targets"])
    for x in (row, *({**row, **of_phase} for of_phase in phases))
  )
  shards = target.row_shards
  batch = stages.RECIPE[name]["batch"]
  rows, accumulation = batches.fit(
    batch / samples, shards, most=max(1, target.tokens // (tokens * shards))
  )
  return stages.stage(
    name,
    **stages.recipe(name, rows * samples),
    rows=rows,
    row_samples=samples,
    measure_rows=True,
    stage_samples=stages.RECIPE[name]["samples"],
    warmup_samples=stages.RECIPE[name]["warmup"],
    half_life=stages.RECIPE[name]["half_life"],
    batch_samples=batch,
    accumulation=accumulation,
    samples_per_batch=0,
    policy=stages.policies(experts=True)[name],
    **row,
    **changes,
  )
