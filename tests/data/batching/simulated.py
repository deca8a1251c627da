"""Data sets of lengths alone, as large as real ones, and what plans cost.

  python -m tests.data.batching.simulated --samples 1000000
  python -m tests.data.batching.simulated --samples 10000000

prints time and size of a plan, how full the rows are, and the shares of three
sets with weights 0.7, 0.2 and 0.1 in tokens.
"""

import argparse
import dataclasses
import pathlib
import tempfile
import time

import numpy as np

from emma_jax.data.batching import plan, row_cost, summary
from emma_jax.data.batching.row_layout import Layout
from emma_jax.data.pictures.aspect_buckets import TABLE_1024
from emma_jax.data.records import schema
from emma_jax.data.records.lengths import Lengths
from tests import neutral

# The row's shape fits the mixture below: as many
# Und tokens stand beside each picture that is drawn as in the data.
LAYOUT = neutral.layout(
  rows=32,
  und_tokens=12544,
  und_pictures=64,
  references=1,
  targets=4,
  height=1024,
  width=1024,
  und_patches=65536,
)
NATIVE = neutral.preprocess(
  height=1024, width=1024, native=True, min_tokens=256, max_tokens=4096
)
WEIGHTS = {"understanding": 0.7, "drawing": 0.2, "editing": 0.1}
BUCKETS = tuple(TABLE_1024[i] for i in (11, 18, 25))


def lengths(task: str, count: int, seed: int = 0) -> Lengths:
  """Like LLaVA-OneVision, captions of photographs, or edits.

  Of conversations 15% have no picture and 5% several; numbers of turns, of
  tokens and of pixels are far from even.
  """
  rng = np.random.default_rng([seed, schema.TASKS.index(task)])
  kinds = np.full(count, schema.TASKS.index(task), np.uint8)
  turns = pictures = np.ones(count, np.int32)
  if task == "understanding":
    turns = np.minimum(rng.geometric(0.5, count), 12).astype(np.int32)
    pictures = rng.choice(
      np.arange(5), count, p=[0.15, 0.8, 0.03, 0.01, 0.01]
    ).astype(np.int32)
    kinds[pictures == 0] = schema.TASKS.index("text")
  tokens = {
    "understanding": (3.2, 0.8),
    "drawing": (4.4, 0.5),
    "editing": (3.3, 0.4),
  }[task]
  asked = 12 + rng.lognormal(*tokens, turns.sum()).astype(np.int32)
  answers = np.zeros_like(asked)
  if task == "understanding":
    answers = 2 + rng.lognormal(3.7, 1.1, asked.size).astype(np.int32)
  elif task == "editing":
    pictures = 2 * pictures
  area = rng.lognormal(12.8, 0.8, count)
  ratio = rng.choice([1, 3 / 4, 4 / 3, 2 / 3, 9 / 16, 16 / 9, 1.4], count)
  sides = np.sqrt(np.stack([area * ratio, area / ratio], axis=1)).astype(int)
  return Lengths(
    task=kinds,
    stem=np.full(count, -1, np.int8),
    weight=np.ones(count, np.float32),
    turns=turns,
    pictures=pictures,
    turn_tokens=np.stack([asked, answers], axis=1).astype(np.int32),
    sizes=np.repeat(np.maximum(sides, 64), pictures, axis=0).astype(np.int32),
    tokenizer="made",
  )


def published(source: str, count: int, seed: int = 0) -> Lengths:
  """As the paper's data sets are described, by the sources of full_size.py.

  Conversations as in FineVision: 17M pictures, 90M turns and 10B tokens of
  answers in 24M samples. Prompts and edits as in `lengths`; `sentences` are
  captions like LLaVA-558K's, `captions` as long as prompts.
  """
  kind = source.split("_")[0]
  if kind in ("drawing", "editing"):
    return lengths(kind, count, seed)
  rng = np.random.default_rng([seed, *source.encode()])
  talk = kind not in ("sentences", "captions")
  turns = np.ones(count, np.int32)
  pictures = np.ones(count, np.int32)
  if talk:
    turns = rng.geometric(1 / 3.75, count).astype(np.int32)
    pictures = rng.choice([0, 1, 2], count, p=[0.31, 0.67, 0.02])
  total = int(turns.sum())
  asked = 12 + rng.lognormal(3.0, 0.6, total).astype(np.int32)
  answers = 2 + rng.lognormal(3.9, 1.28, total).astype(np.int32)
  if not talk:
    scale = (2.6, 0.4) if kind == "sentences" else (4.4, 0.5)
    answers = 2 + rng.lognormal(*scale, total).astype(np.int32)
  area = rng.lognormal(13.3, 0.8, count)
  ratio = rng.choice([1, 3 / 4, 4 / 3, 2 / 3, 9 / 16, 16 / 9, 1.4], count)
  sides = np.sqrt(np.stack([area * ratio, area / ratio], axis=1)).astype(int)
  task = np.full(count, schema.TASKS.index("understanding"), np.uint8)
  task[pictures == 0] = schema.TASKS.index("text")
  return Lengths(
    task=task,
    stem=np.full(count, -1, np.int8),
    weight=np.ones(count, np.float32),
    turns=turns,
    pictures=pictures.astype(np.int32),
    turn_tokens=np.stack([asked, answers], axis=1).astype(np.int32),
    sizes=np.repeat(np.maximum(sides, 64), pictures, axis=0).astype(np.int32),
    tokenizer="made",
  )


def config(
  layout: Layout = LAYOUT, buckets=(), phases=None, segment: int = 1000
) -> plan.PlanConfig:
  """Of a plan whose sources are tasks."""
  sizes = buckets or ((layout.height, layout.width),)
  phases = phases or (neutral.phase(WEIGHTS, unit="tokens"),)
  names = sorted({name for phase in phases for name in phase.weights})
  rules = row_cost.RowLimits(
    layouts=tuple(
      dataclasses.replace(layout, height=y, width=x) for y, x in sizes
    ),
    framing=neutral.framed(NATIVE),
    max_turns=None,
  )
  return plan.PlanConfig(
    seed=3,
    rows=layout.rows,
    segment=segment,
    phases=tuple(phases),
    sources=tuple(
      plan.PlannedSource(name=n, folder=n, digest=n) for n in names
    ),
    rules=rules,
  )


def drawer(
  made: plan.PlanConfig, counts: dict[str, int]
) -> plan.SegmentPlanner:
  """Of sets of so many records; a source's name begins with its task."""
  tables = [
    row_cost.count(lengths(s.name.split("_")[0], counts[s.name]), made.rules)
    for s in made.sources
  ]
  return plan.SegmentPlanner(made, tables)


def _report(made: plan.PlanConfig, counts: dict[str, int], samples: int):
  """One plan, made by one thread; its files are counted and removed."""
  start = time.process_time()
  with tempfile.TemporaryDirectory() as folder:
    kept = plan.Plan(made, folder)
    kept.use(drawer(made, counts))
    loaded = time.process_time()
    found = summary.summarise(kept, samples=samples)
    end = time.process_time()
    size = sum(p.stat().st_size for p in pathlib.Path(folder).rglob("*.npz"))
  print(
    f"{len(made.rules.buckets)} bucket(s), {found.samples:,} samples of "
    f"{sum(counts.values()):,}: lengths made and read {loaded - start:.1f}"
    f" s, planned {end - loaded:.1f} s, {size / 1e6:.1f} MB; fill of the "
    f"rows {found.fill['slots']:.4f}"
  )
  for name, share in found.phases[0].tokens.items():
    print(f"  {name:15} wanted {WEIGHTS[name]:.4f}  tokens {share:.5f}")


def main():
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--samples", type=int, default=1_000_000)
  samples = parser.parse_args().samples
  counts = {
    name: round(share * samples)
    for name, share in {
      "understanding": 0.8,
      "drawing": 0.15,
      "editing": 0.05,
    }.items()
  }
  for buckets in ((), BUCKETS):
    _report(config(buckets=buckets), counts, samples)


if __name__ == "__main__":
  main()
