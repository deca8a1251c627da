"""Files of every format, written once: what is on people's disks.

`kept.zip` was written by the code of the time; today's must read it. It is
made anew only where a format gets another version, and the old one is then
kept beside it:

  python -m tests.data.kept

The folder has records of all tasks in two shards, latents of them, and the
first segment of a plan.
"""

import dataclasses
from pathlib import Path
import tempfile
import zipfile

import numpy as np

from emma_jax.data.batching import plan, row_cost
from emma_jax.data.batching.segment import Segment
from emma_jax.data.records import latents, schema
from emma_jax.data.records.card import Card
from emma_jax.data.records.lengths import Length, Lengths
from emma_jax.structs import STEM_GENERAL, Drawing, Editing, Understanding
from tests import neutral
from tests.data import made
from tests.data.batching import simulated

FILE = Path(__file__).with_suffix(".zip")
SETTINGS = latents.Settings(
  framing=neutral.framing(
    ((32, 64), (64, 32)), height=32, width=64, native=True, max_tokens=9
  ),
  autoencoder="0123456789ab",
  dtype="float32",
)
PLAN_KEY = "the key of a plan"


def stored() -> list[schema.Stored]:
  """One of each task, and what a header may have besides."""
  a, b = (
    made.picture(c, *size)
    for c, size in (("red", (20, 30)), ("blue", (40, 24)))
  )
  return [
    schema.Stored(
      record=Understanding(
        pictures=(a, b),
        turns=(("<image>red?\n<image>", "nö 红"), ("b", "y")),
        stem=STEM_GENERAL,
        id="u",
      ),
      provenance={"dataset": "made", "n": 1.5},
    ),
    schema.Stored(
      record=Understanding(pictures=(), turns=(("red", "blue"),), id="t"),
      weight=0.5,
    ),
    schema.Stored(record=Drawing(prompt="red", picture=a, id="d"), weight=2),
    schema.Stored(
      record=Editing(sources=(a,), instruction="do", target=b, id="e")
    ),
  ]


def numbers(count: int, dtype: str) -> list[np.ndarray | None]:
  """Latents of so many pictures; of a fifth there are none."""
  rng = np.random.default_rng(count)
  return [
    None if i == 4 else rng.normal(size=(1 + i % 2, 2, 3)).astype(dtype)
    for i in range(count)
  ]


def _lengths(task: str, count: int) -> Lengths:
  """Of whole random numbers, which no library rounds otherwise."""
  rng = np.random.default_rng([count, *task.encode()])
  numbers = lambda low, high, n: rng.integers(low, high, n).tolist()
  rows = []
  for i in range(count):
    pictures = {"drawing": 1, "editing": 2}.get(task, i % 3)
    turns = 1 + i % 2 if task == "understanding" else 1
    answers = numbers(1, 400, turns) if task == "understanding" else [0]
    rows.append(
      Length(
        task=task if pictures else "text",
        stem=-1,
        weight=1.0,
        turn_tokens=tuple(zip(numbers(9, 200, turns), answers)),
        sizes=tuple(
          zip(numbers(200, 1500, pictures), numbers(200, 1500, pictures))
        ),
      )
    )
  return Lengths.of(rows, "made")


def segment() -> Segment:
  """Of a small plan, whose rows are not all full."""
  config = simulated.config(
    dataclasses.replace(simulated.LAYOUT, rows=2), simulated.BUCKETS, segment=3
  )
  counts = {"understanding": 60, "drawing": 20, "editing": 9}
  tables = [
    row_cost.count(_lengths(s.name, counts[s.name]), config.rules)
    for s in config.sources
  ]
  return plan.SegmentPlanner(config, tables).segment(0, None)


def write(folder: Path) -> None:
  """All of it below `folder`."""
  records = made.dataset(folder / "records", stored(), 2)
  card = Card.load(records)
  parts = Path(latents.folder_of(records, SETTINGS.of(card)))
  parts.mkdir()
  for shard, tasks, dtype in zip(
    card.shards, (("u", "d"), ("t", "e")), ("float16", "bfloat16")
  ):
    counts = {"u": 2, "d": 1, "t": 0, "e": 2}
    latents.write_part(
      parts,
      shard,
      [latents.encode(numbers(counts[t], "float32"), dtype) for t in tasks],
      pictures=sum(counts[t] for t in tasks),
      missing=0,
      weights="abc",
      dtype=dtype,
    )
  segment().save(folder / "segment-000000.npz", PLAN_KEY)


def unpack(folder: Path) -> Path:
  with zipfile.ZipFile(FILE) as file:
    file.extractall(folder)
  return folder


def main() -> None:
  with tempfile.TemporaryDirectory() as temporary:
    root = Path(temporary)
    write(root)
    # Shards are padded with zeros: compressed, all is a few KB.
    with zipfile.ZipFile(FILE, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as z:
      for path in sorted(p for p in root.rglob("*") if p.is_file()):
        name = path.relative_to(root).as_posix()
        z.writestr(
          zipfile.ZipInfo(name), path.read_bytes(), zipfile.ZIP_DEFLATED
        )
  print(f"{FILE}: {FILE.stat().st_size} bytes")


if __name__ == "__main__":
  main()
