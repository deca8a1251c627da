"""What every evaluation is made of: outcomes of samples, shares, distances."""

import collections
from collections.abc import Callable, Iterable, Iterator, Sequence
import dataclasses
import math
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np

from emma_jax import stats
from emma_jax.structs import RawPicture, Record

R = TypeVar("R", bound=Record)

# Told what is being done, how much of it is done, and how much there is.
Progress = Callable[[str, int, int], None]
Scores = dict[str, Any]  # JSON

# Rounding to 8 bits alone costs 59 dB: a picture beyond this is equal.
MAX_PSNR = 60.0


def quiet(what: str, done: int, total: int):
  """A Progress that shows nothing."""
  del what, done, total


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Outcome(Generic[R]):
  """What a model made of one record.

  `marks` is a (kind, right) per thing that counts: a turn, or the picture;
  right is None where no exact score exists.
  """

  record: R
  marks: tuple[tuple[str, bool | None], ...]
  picture: np.ndarray | None = None  # drawn or edited
  answers: tuple[str, ...] = ()  # one per turn


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Evaluation:
  """Scores, and by task or held-out set what they were given for."""

  scores: Scores
  outcomes: dict[str, list[Outcome]]


def tally(outcomes: Iterable[Outcome], *, macro: bool) -> Scores:
  """Share of right marks, overall and per kind.

  Args:
    outcomes: their marks count; those that are None don't.
    macro: the overall score is the mean of the kinds' scores (of those that
      occur); else every mark counts the same.

  Returns:
    {"score", "n", "ci95", "ci_method", "kinds": {kind: {"score", "n",
    "ci95"}}}; a score is None where nothing could be scored, its 95% interval,
    [low, high], also where too little was (`stats.scored`). What was asked of
    one record is one cluster.
  """
  marks = [
    Mark(bool(right), record, kind)
    for record, outcome in enumerate(outcomes)
    for kind, right in outcome.marks
    if right is not None
  ]
  by_kind: dict[str, list[Mark]] = {}
  for mark in marks:
    by_kind.setdefault(mark.kind, []).append(mark)
  kinds = {
    kind: {"score": _share(some), "n": len(some), "ci95": interval(some)[0]}
    for kind, some in sorted(by_kind.items())
  }
  if not marks:
    score = None
  elif macro:
    score = math.fsum(map(_share, by_kind.values())) / len(kinds)
  else:
    score = _share(marks)
  ci95, method = interval(marks, macro)
  return {
    "score": score,
    "n": len(marks),
    "ci95": ci95,
    "ci_method": method,
    "kinds": kinds,
  }


class Mark(NamedTuple):
  """Whether one thing of a record was right."""

  right: bool
  record: int
  kind: str


def _share(marks: Sequence[Mark]) -> float:
  return sum(mark.right for mark in marks) / len(marks)


def interval(
  marks: Sequence[Mark], macro: bool = False
) -> tuple[list[float] | None, str]:
  """(95% interval of the share, or `macro` of the mean over kinds; how it was
  made); None where nothing can be said."""
  records = [mark.record for mark in marks]
  kinds = collections.Counter(mark.kind for mark in marks)
  if macro and len(kinds) > 1:
    if len(set(records)) < len(records):
      return None, "none: several marks of a record"
    # Resampling within kinds is sure of a kind that is all right by chance.
    # Wilson's, of as many samples as the kinds are worth: all, where they are
    # of one size.
    worth = len(kinds) ** 2 / math.fsum(1 / n for n in kinds.values())
    right = collections.Counter(mark.kind for mark in marks if mark.right)
    mean = math.fsum(right[kind] / n for kind, n in kinds.items()) / len(kinds)
    ends = stats.wilson(min(mean, 1.0) * worth, worth)
    return [ends.low, ends.high], f"wilson, {len(kinds)} kinds"
  found = stats.scored([float(mark.right) for mark in marks], records, seed=0)
  if found.interval is None:
    return None, found.method
  return [found.interval.low, found.interval.high], found.method


def batches(
  items: Sequence[Any], size: int
) -> Iterator[tuple[int, Sequence[Any]]]:
  """(first index, items) of parts of `size` items; the last may be shorter.

  >>> list(batches("abc", 2))
  [(0, 'ab'), (2, 'c')]
  """
  for start in range(0, len(items), size):
    yield start, items[start : start + size]


def only(
  kind: type[R] | tuple[type[R], ...], records: Sequence[Record]
) -> list[R]:
  """The records, all of this kind of record.

  Raises:
    TypeError: one is of another kind.
  """
  out: list[R] = []
  for record in records:
    if not isinstance(record, kind):
      raise TypeError(f"{type(record).__name__} {record.id!r} is no {kind}.")
    out.append(record)
  return out


def pixels(picture: RawPicture | None) -> np.ndarray:
  """A decoded picture itself, (Y, X, 3) uint8.

  Raises:
    TypeError: it is none: a path, bytes, or nothing.
  """
  if not isinstance(picture, np.ndarray):
    raise TypeError(f"A picture is needed, but this is {type(picture)}.")
  return picture


def psnr(one_YXC: np.ndarray, other_YXC: np.ndarray) -> float:
  """Peak signal to noise of two uint8 pictures in dB, at most MAX_PSNR."""
  error = one_YXC.astype(np.float64) - other_YXC
  mean = float((error * error).mean())
  return min(MAX_PSNR, 10 * math.log10(255**2 / mean)) if mean else MAX_PSNR


def fidelity(pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> dict[str, Any]:
  """Means over pairs of uint8 pictures: PSNR in dB, L1 in levels of 255.

  "psnr_ci95": [low, high] of the mean; None of a single pair.
  """
  l1 = [float(np.abs(a.astype(np.float64) - b).mean()) for a, b in pairs]
  levels = [psnr(a, b) for a, b in pairs]
  found = None
  if len(pairs) > 1:
    mean = stats.cluster_bootstrap(levels, seed=0).interval
    found = [mean.low, mean.high]
  return {
    "psnr": math.fsum(levels) / len(pairs),
    "psnr_ci95": found,
    "l1": math.fsum(l1) / len(pairs),
  }
