"""Whether pictures that are evaluated on were trained on, too.

By the bytes of the pictures as they are stored: a copy is found under any name,
a picture that was saved anew is not. So many records of each training source
are looked at, spread evenly; only pictures of equal size are read.
"""

from collections.abc import Iterator, Mapping
import dataclasses
import functools
import hashlib
import os
from typing import Any

import numpy as np

from emma_jax.data.loading.sources import SourceSpec, open_source
from emma_jax.data.pictures.images import BadRecord
from emma_jax.data.records.schema import pictures_of

# Records of a training source that are looked at, and bytes of them.
_RECORDS, _BYTES = 20_000, 2 * 2**30


@dataclasses.dataclass(frozen=True)
class Seen:
  """How a task's samples and the training's pictures compare.

  Args:
    samples: that have pictures.
    shared: of them, those with a picture that is trained on.
    compared: training records that were looked at.
    records: training records in all; None where a source does not open.
  """

  samples: int
  shared: int
  compared: int
  records: int | None

  @property
  def unseen(self) -> bool:
    """Nothing is shared, and all was looked at."""
    return self.shared == 0 and self.compared == self.records

  def words(self) -> str:
    """For the notes below a table; "" where there is nothing to say."""
    if self.unseen:
      return ""
    of = "an unknown number of" if self.records is None else f"{self.records:,}"
    looked = f"{self.compared:,} of {of} training records were looked at"
    if not self.shared:
      return f"whether its pictures were trained on is not known: {looked}."
    return (
      f"{self.shared} of {self.samples} samples have pictures that the model "
      f"was trained on ({looked})."
    )


def compare(spec: str, count: int, training: Mapping[str, str]) -> Seen:
  """The first `count` records of a source with a config's `data.sources`."""
  return _compare(spec, count, tuple(sorted(set(training.values()))))


def drawn_from(split: str, training: Mapping[str, str]) -> bool:
  """Whether the world's samples of a split are trained on."""
  specs = [SourceSpec.parse(spec) for spec in training.values()]
  return any(s.kind == "world" and s.split == split for s in specs)


@functools.lru_cache(maxsize=16)  # a run evaluates the same again and again
def _compare(spec: str, count: int, training: tuple[str, ...]) -> Seen:
  samples: list[set[str]] = []
  sizes: set[int] = set()
  source = open_source(spec)
  for index in range(min(count, len(source))):
    found = list(_pictures(source, index))
    if found:
      samples.append({_digest(picture) for picture in found})
      sizes |= {_size(picture) for picture in found}
  wanted = set().union(*samples)
  shared: set[str] = set()
  compared, records = 0, 0
  missing = False
  for name in training:
    if SourceSpec.parse(name).kind == "world":
      continue  # drawn for training alone
    try:
      trained = open_source(name)
    except (OSError, ValueError, ImportError):
      missing = True
      continue
    records += len(trained)
    looked, found_here = _look(trained, wanted, sizes)
    compared += looked
    shared |= found_here
  return Seen(
    samples=len(samples),
    shared=sum(bool(pictures & shared) for pictures in samples),
    compared=compared,
    records=None if missing else records,
  )


def _look(
  source: Any, wanted: set[str], sizes: set[int]
) -> tuple[int, set[str]]:
  """(records looked at, digests of `wanted` that they have)."""
  found: set[str] = set()
  count = min(len(source), _RECORDS) if wanted else len(source)
  read = 0
  for i in range(count if wanted else 0):
    for picture in _pictures(source, i * len(source) // count):
      size = _size(picture)
      read += size if isinstance(picture, bytes) or size in sizes else 0
      if size in sizes:
        found |= {_digest(picture)} & wanted
    if read > _BYTES:
      return i + 1, found
  return count, found


def _pictures(source: Any, index: int) -> Iterator[Any]:
  """As they are stored; none of a record that cannot be read."""
  try:
    for picture in pictures_of(source[index]):
      if isinstance(picture, (bytes, str, np.ndarray)):
        yield picture
  except (BadRecord, OSError):
    return


def _size(picture: bytes | str | np.ndarray) -> int:
  if isinstance(picture, str):
    return os.path.getsize(picture)
  return picture.nbytes if isinstance(picture, np.ndarray) else len(picture)


def _digest(picture: bytes | str | np.ndarray) -> str:
  if isinstance(picture, str):
    with open(picture, "rb") as file:
      return hashlib.file_digest(file, "sha256").hexdigest()
  data = picture.tobytes() if isinstance(picture, np.ndarray) else picture
  return hashlib.sha256(data).hexdigest()
