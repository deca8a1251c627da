"""A stretch of a plan on disk: which samples stand in which rows."""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any, NamedTuple
import zipfile

import numpy as np

from emma_jax import files
from emma_jax.data.batching.mixture import Draw


class PlannedBatch(NamedTuple):
  """A batch of all hosts, before anything of it is read."""

  bucket: int
  rows: list[list[Draw]]  # in reading order
  passed: int  # elements left out since the batch before: they fit no row


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Samples:
  """A table of draws; arrays (n,)."""

  source: np.ndarray
  epoch: np.ndarray
  index: np.ndarray  # of the source's element
  turns: np.ndarray  # kept; 0: all

  def __len__(self) -> int:
    return self.index.size

  def take(self, which: Any) -> "Samples":
    """The rows of the table that an index, mask or slice names."""
    return Samples(**{n: getattr(self, n)[which] for n in _columns()})

  @classmethod
  def joined(cls, parts: Sequence["Samples"]) -> "Samples":
    """The tables of `parts` one after the other."""
    return cls(
      **{n: np.concatenate([getattr(p, n) for p in parts]) for n in _columns()}
    )


def _columns() -> list[str]:
  return [f.name for f in dataclasses.fields(Samples)]


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class State:
  """Where planning goes on: a function of the number of the next batch."""

  batch: int  # that comes next
  drawn: np.ndarray  # (lanes,) int64, see order.Position
  used: np.ndarray
  phase: int
  passed: int  # elements left out behind the last batch
  last: int  # see fit.Rows
  waiting: Samples  # in rows that are in no batch yet
  row_sizes: np.ndarray  # (rows,) int32, of those rows
  row_buckets: np.ndarray
  row_closed: np.ndarray  # bool

  @classmethod
  def start(cls, lanes: int) -> "State":
    """That of batch 0: nothing drawn, no row open."""
    none = np.zeros(0, np.int64)
    nothing = Samples(**dict.fromkeys(_columns(), none))
    zeros = np.zeros(lanes, np.int64)
    return cls(
      batch=0,
      drawn=zeros,
      used=zeros,
      phase=0,
      passed=0,
      last=0,
      waiting=nothing,
      row_sizes=none,
      row_buckets=none,
      row_closed=none.astype(bool),
    )


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Segment:
  """Batches `first`, `first` + 1, ... of a plan, and the state behind them."""

  first: int
  names: tuple[str, ...]  # of the sources
  bucket: np.ndarray  # (batches,)
  passed: np.ndarray  # (batches,)
  row_sizes: np.ndarray  # (batches, rows): samples in each row
  samples: Samples  # in the order of batches and rows
  after: State

  def __len__(self) -> int:
    return self.bucket.size

  def span(self, step: int) -> tuple[int, int]:
    """First and last + 1 of the samples of a batch."""
    counts = self.row_sizes[: step - self.first + 1].sum(axis=1)
    return int(counts[:-1].sum()), int(counts.sum())

  def batch(self, step: int) -> PlannedBatch:
    """Of a step in first, ..., first + len - 1."""
    i = step - self.first
    start, stop = self.span(step)
    s = self.samples.take(slice(start, stop))
    draws = [
      Draw(self.names[source], epoch, index, turns)
      for source, epoch, index, turns in zip(
        s.source.tolist(), s.epoch.tolist(), s.index.tolist(), s.turns.tolist()
      )
    ]
    stops = np.cumsum(self.row_sizes[i]).tolist()
    rows = [draws[a:b] for a, b in zip([0, *stops], stops)]
    return PlannedBatch(int(self.bucket[i]), rows, int(self.passed[i]))

  def save(self, path: str, key: str) -> None:
    """Whole or not at all; the same plan gives the same bytes."""
    arrays: dict[str, Any] = dict(
      key=np.array(key),
      names=np.array(self.names),
      first=self.first,
      bucket=self.bucket,
      passed=self.passed,
      row_sizes=self.row_sizes,
    )
    arrays |= _flat("samples", self.samples)
    state = {
      f.name: getattr(self.after, f.name) for f in dataclasses.fields(State)
    }
    arrays |= _flat("waiting", state.pop("waiting"))
    arrays |= {f"after.{name}": value for name, value in state.items()}
    arrays = {k: _small(v) for k, v in arrays.items()}
    # Processes of many hosts may write it at once.
    with files.atomic_write(path, shared=True) as file:
      np.savez(file, **arrays)

  @classmethod
  def load(cls, path: str, key: str) -> "Segment | None":
    """None where there is none that is whole and of this plan."""
    try:
      with open(path, "rb") as raw, np.load(raw, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
      if str(arrays["key"]) != key:
        return None
      return cls(
        first=int(arrays["first"]),
        names=tuple(arrays["names"].tolist()),
        bucket=arrays["bucket"],
        passed=arrays["passed"],
        row_sizes=arrays["row_sizes"],
        samples=_table("samples", arrays),
        after=_state(arrays),
      )
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
      return None  # damaged, or not there: it is computed again


def _flat(name: str, samples: Samples) -> dict[str, np.ndarray]:
  return {f"{name}.{n}": getattr(samples, n) for n in _columns()}


def _table(name: str, arrays: Mapping[str, np.ndarray]) -> Samples:
  return Samples(**{n: arrays[f"{name}.{n}"] for n in _columns()})


def _state(arrays: Mapping[str, np.ndarray]) -> State:
  get = lambda name: arrays[f"after.{name}"]
  whole = lambda name: get(name).astype(np.int64)
  return State(
    batch=int(get("batch")),
    phase=int(get("phase")),
    last=int(get("last")),
    passed=int(get("passed")),
    drawn=whole("drawn"),
    used=whole("used"),
    waiting=_table("waiting", arrays),
    row_sizes=get("row_sizes"),
    row_buckets=get("row_buckets"),
    row_closed=get("row_closed"),
  )


def _small(values: Any) -> np.ndarray:
  """In the smallest whole type that holds all values."""
  values = np.asarray(values)
  if values.dtype.kind != "i" or not values.size:
    return values
  return values.astype(np.min_scalar_type(values.max()))
