"""A data set in two: what is trained on, and what is held out of it.

All tasks are cut together: pictures are chosen, and a record that shows one of
them is held out, whatever its task. So nothing that is held out for one task is
seen in another, neither as a picture to draw, nor in a question, nor before or
after an edit. Which ones are chosen is decided by their bytes: the same set is
cut the same way wherever it lies, in whichever order.
"""

from collections import Counter, defaultdict
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
from emma_jax.structs import TASKS

_CHOSEN = "held-out.npz"
# What a record that is not wanted is counted as.
OTHER_TASK, HELD_OUT, TRAINED = "other task", "held out", "trained on"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Split(Construction):
  """Keeps one part of a task's records.

  Args:
    task: of structs.TASKS.
    tasks: that are cut together.
    part: which one.
    share: of each task's records that is held out: at least one picture's, and
      never all.
    most: records of a task that are held out at most, but for those of one
      picture, and those that show what another task needs.
    plan: what `ready` found.
  """

  task: str
  tasks: tuple[str, ...]
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
    """Itself with what is held out, found in a pass over all records."""
    plan = os.path.join(first.work, _CHOSEN)
    if not os.path.exists(plan):
      parts = [np.load(p) for p in first.collect("shown", note_shown, self)]
      chosen = choose(_joined(parts), self.share, self.most)
      with files.atomic_write(plan) as file:
        np.save(file, chosen)
    return dataclasses.replace(self, plan=plan)

  def step(self, made: Converted, where: str) -> Iterator[Converted | Skipped]:
    """The record if it is of this part, or why it is not."""
    task = task_of(made)
    if task != self.task:
      yield Skipped(OTHER_TASK, f"a record of {task}")
      return
    held_out = not _held_out(self.plan).isdisjoint(shown_by(made))
    if held_out == (self.part == "held_out"):
      yield made
    else:
      yield Skipped(HELD_OUT if held_out else TRAINED, "of the other part")


def task_of(made: Converted) -> str:
  """Of structs.TASKS: conversations about nothing are understanding."""
  return "understanding" if made.stored.task == "text" else made.stored.task


def shown_by(made: Converted) -> set[int]:
  """Of the pictures that a record shows; of text alone, of what it says."""
  pictures = made.stored.pictures
  if pictures:
    return {hash64(bytes(picture)) for picture in pictures}
  return {hash64("\n".join(texts_of(made.stored.record)))}


def choose(shown_N3: np.ndarray, share: float, most: int) -> np.ndarray:
  """(n,) uint64 pictures that are held out.

  In the order of their numbers, so many that each task has its share. One that
  would hold out far more of any task than its share (all edits of one picture)
  is taken only where no other is left, and none that would leave a task nothing
  to train on.

  Args:
    shown_N3: uint64 (record, index of its task, picture) of each picture that a
      record shows.
    share, most: see Split.

  >>> questions = [(0, 0, 5), (1, 0, 5), (2, 0, 7), (3, 0, 9)]
  >>> choose(np.array(questions, np.uint64), share=0.25, most=10).tolist()
  [5]
  >>> choose(np.array(questions[:2], np.uint64), share=0.5, most=10).tolist()
  []
  """
  records: defaultdict[int, set[int]] = defaultdict(set)  # of a picture
  task_of_record: dict[int, int] = {}
  for record, task, picture in shown_N3.tolist():
    records[picture].add(record)
    task_of_record[record] = task
  total = Counter(task_of_record.values())
  wanted = {
    task: min(most, max(1, round(share * count))) if share else 0
    for task, count in total.items()
  }
  out: list[int] = []
  held: set[int] = set()
  count: Counter[int] = Counter()
  for limit in (
    {task: min(2 * wanted[task], total[task] - 1) for task in total},
    {task: total[task] - 1 for task in total},
  ):
    for picture in sorted(records.keys() - set(out)):
      more = Counter(task_of_record[r] for r in records[picture] - held)
      if any(count[task] < wanted[task] for task in more) and all(
        count[task] + n <= limit[task] for task, n in more.items()
      ):
        out.append(picture)
        held |= records[picture]
        count += more
  return np.array(sorted(out), np.uint64)


def note_shown(
  part: containers.Part, path: str, split: Split, tick: Tick
) -> None:
  """Writes (record, task, picture) of a part, as `choose` takes them."""
  shown: list[tuple[int, int, int]] = []
  count = 0
  for where, row in containers.read(part, split.base.options):
    try:
      if isinstance(row, BadRecord):
        raise row
      made: Sequence[Converted | Skipped] = list(
        split.base.make(row, where, part.path)
      )
    except BadRecord:
      made = []  # counted when the records are written
    for one in made:
      if isinstance(one, Converted) and task_of(one) in split.tasks:
        task = TASKS.index(task_of(one))
        shown += [(count, task, picture) for picture in shown_by(one)]
        count += 1
    tick(False, 0)
  with files.atomic_write(path) as file:
    np.save(file, np.array(shown, np.uint64).reshape(-1, 3))


def _joined(parts: Sequence[np.ndarray]) -> np.ndarray:
  """All parts' lines, with records counted through."""
  out, first = [], 0
  for shown_N3 in parts:
    out.append(shown_N3 + np.array([first, 0, 0], np.uint64))
    first += int(shown_N3[-1, 0]) + 1 if len(shown_N3) else 0
  return np.concatenate(out)


@functools.lru_cache(maxsize=4)
def _held_out(plan: str) -> frozenset[int]:
  return frozenset(np.load(plan).tolist())
