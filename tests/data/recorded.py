"""Small record folders of noise pictures, and a config that plans them."""

from pathlib import Path

import ml_collections
import numpy as np

from configs import stages
from emma_jax.data.records import schema
from emma_jax.data.records.lengths import Measure
from emma_jax.data.text.tokenizer import TinyTokenizer
from emma_jax.structs import Drawing, Editing, Record, Understanding
from tests import tiny
from tests.data import made

# Pictures that stand and lie, for the two buckets of `config`.
SIZES = ((40, 70), (64, 40), (32, 64), (80, 50))
BUCKETS = ((32, 64), (64, 32))
COUNTS = {"understanding": 14, "drawing": 11, "editing": 5}
_WORDS = ("red", "blue", "a", "left of", "what is this?")


def record(task: str, i: int) -> Record:
  """Texts and conversations of many lengths, one without a picture in five.

  "sources": edits of one, two and three sources.
  """
  rng = np.random.default_rng([i, *task.encode()])
  size = SIZES[int(rng.integers(len(SIZES)))]
  pixels = rng.integers(0, 256, (*size, 3), np.uint8)
  picture = made.encoded(pixels)
  text = " ".join(rng.choice(_WORDS, rng.integers(1, 6)))
  if task == "drawing":
    return Drawing(prompt=text, picture=picture, id=f"d{i}")
  if task == "sources":
    further = made.encoded(rng.integers(0, 256, (33, 50, 3), np.uint8))
    return Editing(
      sources=(picture, further, further)[: 1 + i % 3],
      instruction=text,
      target=picture,
      id=f"s{i}",
    )
  if task == "editing":
    return Editing(
      sources=(picture,), instruction=text, target=picture, id=f"e{i}"
    )
  turns = tuple((text, f"red {n}") for n in range(rng.integers(1, 4)))
  return Understanding(
    pictures=() if i % 5 == 4 else (picture,), turns=turns, id=f"u{i}"
  )


def folder(path: Path, task: str, count: int, **more) -> Path:
  """Records of a task, counted as the tiny tokenizer does."""
  stored = [schema.Stored(record=record(task, i), **more) for i in range(count)]
  return made.dataset(path, stored, 2, Measure.of(TinyTokenizer()))


def folders(root: Path) -> dict[str, str]:
  """Sources of all tasks."""
  return {
    task: f"records:{folder(root / task, task, n)}"
    for task, n in COUNTS.items()
  }


def config(sources: dict[str, str], **changes) -> ml_collections.ConfigDict:
  """A planned stage of a micro model: three sources, two buckets, four rows."""
  c = tiny.config()
  c.data.update(
    threads=1, max_turns=3, sources=sources, text_dropout=0.5, buckets=BUCKETS
  )
  c.train.update(log_every=2, save_every=3, evaluate=False)
  section = stages.stage(
    "3_quality",
    steps=8,
    learning_rate=1e-3,
    schedule="constant",
    warmup_steps=0,
    ema_decay=0.9,
    samples_per_batch=0,
    rows=4,
    und_tokens=96,
    und_pictures=3,
    references=1,
    targets=2,
    mixture_unit="tokens",
    policy=((".*", "train"),),
    load=((".*", "random"),),
    mixture=(
      (0.0, dict(understanding=1.0, drawing=1.0)),
      (
        0.5,
        dict(understanding=1.0, drawing=1.0, editing=1.0),
        dict(unit="samples"),
      ),
    ),
  )
  section.update(changes)
  c.stages = {"3_quality": section}
  return c
