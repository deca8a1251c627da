"""What every evaluation is made of: outcomes of samples, shares, distances."""

from collections.abc import Callable, Iterable, Iterator, Sequence
import dataclasses
import math
from typing import Any, Generic, TypeVar

import numpy as np

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
    {"score", "n", "kinds": {kind: {"score", "n"}}}; a score is None where
    nothing could be scored.
  """
  counts: dict[str, list[int]] = {}
  for outcome in outcomes:
    for kind, right in outcome.marks:
      if right is not None:
        count = counts.setdefault(kind, [0, 0])
        count[0] += bool(right)
        count[1] += 1
  kinds = {
    kind: {"score": right / n, "n": n}
    for kind, (right, n) in sorted(counts.items())
  }
  n = sum(entry["n"] for entry in kinds.values())
  if not n:
    score = None
  elif macro:
    score = math.fsum(e["score"] for e in kinds.values()) / len(kinds)
  else:
    score = sum(right for right, _ in counts.values()) / n
  return {"score": score, "n": n, "kinds": kinds}


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


def fidelity(
  pairs: Sequence[tuple[np.ndarray, np.ndarray]],
) -> dict[str, float]:
  """Means over pairs of uint8 pictures: PSNR in dB, L1 in levels of 255."""
  l1 = [float(np.abs(a.astype(np.float64) - b).mean()) for a, b in pairs]
  return {
    "psnr": math.fsum(psnr(a, b) for a, b in pairs) / len(pairs),
    "l1": math.fsum(l1) / len(pairs),
  }
