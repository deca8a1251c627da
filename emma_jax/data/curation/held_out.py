"""A data set in two: what is trained on, and what is held out of it.

Records that show the same first picture (questions about it, edits of it) stay
together, so nothing that is held out was seen. Which ones are held out is
decided by their pictures' bytes: the same set is cut the same way wherever it
lies, in whichever order.
"""

from collections.abc import Iterator, Sequence
import dataclasses
import functools
import os
from typing import Literal

import numpy as np

from emma_jax import files, ranges
from emma_jax.data.curation.base import Construction, hash64, texts_of
from emma_jax.data.ingest import containers
from emma_jax.data.ingest.job import ConversionError
from emma_jax.data.ingest.part import Converted, FirstPass, Skipped, Tick
from emma_jax.data.pictures.images import BadRecord

_CHOSEN = "held-out.npz"
# What a record that is not wanted is counted as.
OTHER_TASK, HELD_OUT, TRAINED = "other task", "held out", "trained on"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Split(Construction):
  """Keeps one part of a task's records.

  Args:
    task: of structs.TASKS.
    part: which one.
    share: of the records that is held out: at least one picture's, and never
      the last one's.
    most: records that are held out at most, but for those of one picture.
    plan: what `ready` found.
  """

  task: str
  part: Literal["train", "held_out"]
  share: float
  most: int
  plan: str = dataclasses.field(default="", repr=False)

  def __post_init__(self):
    if self.share not in ranges.SHARE or self.most < 0:
      raise ConversionError(
        f"{self.share=} is a share from 0 to 1, {self.most=} not negative."
      )

  def ready(self, first: FirstPass) -> "Split":
    """Itself with who is held out, found in a pass over all records."""
    plan = os.path.join(first.work, _CHOSEN)
    if not os.path.exists(plan):
      keys = [np.load(path) for path in first.collect("keys", note_keys, self)]
      chosen = choose(np.concatenate(keys), self.share, self.most)
      with files.atomic_write(plan) as file:
        np.save(file, chosen)
    return dataclasses.replace(self, plan=plan)

  def step(self, made: Converted, where: str) -> Iterator[Converted | Skipped]:
    """The record if it is of this part, or why it is not."""
    task = task_of(made)
    if task != self.task:
      yield Skipped(OTHER_TASK, f"a record of {task}")
      return
    held_out = key_of(made) in _held_out(self.plan)
    if held_out == (self.part == "held_out"):
      yield made
    else:
      yield Skipped(HELD_OUT if held_out else TRAINED, "of the other part")


def task_of(made: Converted) -> str:
  """Of structs.TASKS: conversations about nothing are understanding."""
  return "understanding" if made.stored.task == "text" else made.stored.task


def key_of(made: Converted) -> int:
  """Of what a record shows first; of text alone, of what it says."""
  pictures = made.stored.pictures
  if pictures:
    return hash64(bytes(pictures[0]))
  return hash64("\n".join(texts_of(made.stored.record)))


def choose(keys: np.ndarray, share: float, most: int) -> np.ndarray:
  """(n,) uint64 keys that are held out, of the keys of all records.

  >>> choose(np.array([5, 5, 7, 9], np.uint64), share=0.25, most=10).tolist()
  [5]
  >>> choose(np.array([5, 5], np.uint64), share=0.5, most=10).tolist()
  []
  """
  unique, counts = np.unique(keys, return_counts=True)
  wanted = min(most, max(1, round(share * keys.size))) if share else 0
  before = np.cumsum(counts) - counts
  return unique[:-1][before[:-1] < wanted]


def note_keys(
  part: containers.Part, path: str, split: Split, tick: Tick
) -> None:
  """Writes the keys of the task's records in a part."""
  keys: list[int] = []
  for where, row in containers.read(part, split.base.options):
    try:
      if isinstance(row, BadRecord):
        raise row
      made: Sequence[Converted | Skipped] = list(
        split.base.make(row, where, part.path)
      )
      keys += [
        key_of(one)
        for one in made
        if isinstance(one, Converted) and task_of(one) == split.task
      ]
    except BadRecord:
      pass  # counted when the records are written
    tick(False, 0)
  with files.atomic_write(path) as file:
    np.save(file, np.array(keys, np.uint64))


@functools.lru_cache(maxsize=4)
def _held_out(plan: str) -> frozenset[int]:
  return frozenset(np.load(plan).tolist())
