"""Samples into rows, by their needs alone: first fit over open rows.

A sample goes into the oldest open row that has room for it. Where none has, a
new row is opened; of a limited number of open rows the oldest one closes first.
So no sample waits for longer than that, and rows close nearly full: later
samples fill their gaps.

The room of a row is one whole number, a field per capacity with a guard bit
above it: subtracting a sample's needs clears the guard of a field that is too
small, so one subtraction compares all capacities. Each bucket has a field, too:
a row has 1 in that of its own, and so has a sample that must be of it.
"""

from collections.abc import Iterator, Sequence
import sys
from typing import NamedTuple

import numpy as np

from emma_jax.data.batching.row_cost import ANY_BUCKET

# Most open rows. More fill hardly better, and every sample looks at them.
WINDOW = 64
# Of a batch's rows: in small batches, many open rows would keep samples back
# for many steps.
BATCHES = 2
# Rows of the smallest batch that leaves all of them open.
OPEN_ALL = WINDOW // BATCHES


class Full(NamedTuple):
  """A batch: the samples' numbers by row, and what was placed until then."""

  bucket: int
  rows: list[list[int]]
  placed: int  # samples of the call that are in rows, open ones included


class Rows:
  """Open rows, and closed ones that wait for their batch to be complete."""

  def __init__(
    self,
    capacities: Sequence[int],
    buckets: int,
    rows: int,
    least: Sequence[int],
  ):
    """No rows yet.

    Args:
      capacities: of a row.
      buckets: how many there are; a row is of one.
      rows: of a batch, all of one bucket.
      least: no sample takes less of a capacity; a row with less is closed.
    """
    self._rows, self._buckets = rows, buckets
    self._window = min(WINDOW, BATCHES * rows)
    self._shifts, at, self._guard = [], 0, 0
    for size in [*capacities, *[1] * buckets]:
      self._shifts.append(at)
      at += int(size).bit_length() + 1
      self._guard |= 1 << (at - 1)
    self._empty = [
      self._guard | self._number([*capacities, *self._one_hot(bucket)])
      for bucket in range(buckets)
    ]
    self._least = self._number([*least, *[0] * buckets])
    # Takes a bucket's field out of a need: it is asked for, not used up.
    self._used = (1 << self._shifts[len(capacities)]) - 1
    self._room: list[int] = []
    self._kind: list[int] = []
    self._held: list[list[int]] = []
    self._closed: list[list[list[int]]] = [[] for _ in range(buckets)]
    self._last = 0  # bucket of the last sample that has one

  def fill(
    self, first: int, need: np.ndarray, bucket: np.ndarray
  ) -> Iterator[Full]:
    """Places samples one after the other; gives every batch when it is full.

    Whoever stops listening after a batch leaves the samples behind
    `Full.placed` unplaced.

    Args:
      first: number of the first sample.
      need: (n, capacities), what each takes.
      bucket: (n,), or ANY_BUCKET.
    """
    asks, guard, used = self._numbers(need, bucket), self._guard, self._used
    room, kinds = self._room, bucket.tolist()
    for i, ask in enumerate(asks):
      for at, free in enumerate(room):  # noqa: B007, it is used below
        if (free - ask) & guard == guard:
          break
      else:
        at = self._open(kinds[i])
      if kinds[i] != ANY_BUCKET:
        self._last = kinds[i]
      left = room[at] = room[at] - (ask & used)
      self._held[at].append(first + i)
      full = None
      if (left - self._least) & guard != guard:
        full = self._close(at)
      elif len(room) > self._window:
        full = self._close(0)
      if full is not None:
        yield Full(full[0], full[1], i + 1)

  def take_over(
    self, first: int, need: np.ndarray, bucket: np.ndarray, last: int
  ) -> None:
    """Places samples that waited in rows of another shape, all of them.

    Arguments are those of `fill`, and `last` of those rows. Batches that they
    complete come when the next row closes.
    """
    self._last = last
    of_a_batch, self._rows = self._rows, sys.maxsize
    for _ in self.fill(first, need, bucket):
      pass
    self._rows = of_a_batch

  def waiting(self) -> tuple[list[list[int]], list[int], list[bool]]:
    """(samples, bucket, closed) of the rows that are in no batch yet."""
    rows, kinds, closed = list(self._held), list(self._kind), []
    closed = [False] * len(rows)
    for kind, queue in enumerate(self._closed):
      rows += queue
      kinds += [kind] * len(queue)
      closed += [True] * len(queue)
    return rows, kinds, closed

  @property
  def last(self) -> int:
    """Bucket of the last sample that had one; where samples of none go."""
    return self._last

  def restore(
    self,
    rows: Sequence[Sequence[int]],
    kinds: Sequence[int],
    closed: Sequence[bool],
    need: np.ndarray,
    last: int,
  ) -> None:
    """Undoes `waiting`; `need` (n, capacities) of the samples by number."""
    asks = self._numbers(need, np.full(len(need), ANY_BUCKET))
    for row, kind, done in zip(rows, kinds, closed):
      if done:
        self._closed[kind].append(list(row))
        continue
      self._room.append(self._empty[kind] - sum(asks[i] for i in row))
      self._kind.append(kind)
      self._held.append(list(row))
    self._last = last

  def _open(self, bucket: int) -> int:
    # Samples of no bucket follow the pictures, so that their rows find both.
    bucket = self._last if bucket == ANY_BUCKET else bucket
    self._room.append(self._empty[bucket])
    self._kind.append(bucket)
    self._held.append([])
    return len(self._room) - 1

  def _close(self, at: int) -> tuple[int, list[list[int]]] | None:
    """(bucket, rows) where that completes a batch."""
    bucket = self._kind.pop(at)
    self._room.pop(at)
    queue = self._closed[bucket]
    queue.append(self._held.pop(at))
    if len(queue) < self._rows:
      return None
    # More than a batch only behind `take_over`.
    full, self._closed[bucket] = queue[: self._rows], queue[self._rows :]
    return bucket, full

  def _one_hot(self, bucket: int) -> list[int]:
    return [int(bucket == b) for b in range(self._buckets)]

  def _number(self, values: Sequence[int]) -> int:
    return sum(int(v) << s for v, s in zip(values, self._shifts))

  def _numbers(self, need: np.ndarray, bucket: np.ndarray) -> list[int]:
    """RowCost and buckets as whole numbers, of any size."""
    fields = self._shifts[need.shape[1] :]
    # Of Python's own integers, which have no width.
    asks = np.zeros(len(need), object)
    for column, shift in zip(need.T, self._shifts):
      if column.any():
        asks += column.astype(object) << shift
    out = asks.tolist()
    if self._buckets > 1:
      marks = [1 << field for field in fields] + [0]  # [-1]: ANY_BUCKET
      out = [ask | marks[kind] for ask, kind in zip(out, bucket.tolist())]
    return out
