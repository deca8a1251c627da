"""What constructions share: records in, records out, all of it on the card.

A construction is an ingest.part.Converter: it runs as a conversion does, in as
many processes, restartable and atomic. Its input is what `emma-data convert`
reads, or folders of records.
"""

from collections.abc import Iterator, Mapping
import dataclasses
import hashlib
from typing import Any, NamedTuple

import numpy as np

from emma_jax.data.ingest.part import Converted, FirstPass, Recipe, Skipped
from emma_jax.data.pictures import images
from emma_jax.data.pictures.images import BadRecord
from emma_jax.data.records import schema


class Ask(NamedTuple):
  """Calls of a back end about a record (remote.Remote), and pictures shown."""

  remote: Any
  calls: int
  pictures: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Construction:
  """Makes records of records: subclasses say what in `step`.

  Args:
    base: makes a record of a row of the input.
  """

  base: Recipe

  def with_source(self, base: Recipe) -> "Construction":
    """The same on another base; see part.Converter."""
    return dataclasses.replace(self, base=base)

  def identity(self) -> Any:
    """JSON of the class, its base and all settings."""
    return {
      "construction": type(self).__name__,
      "base": self.base.identity(),
      **self._settings(),
    }

  def describe(self) -> dict[str, Any]:
    """The base's words for the card, and the settings."""
    return self.base.describe() | {
      "construction": type(self).__name__,
      "settings": self._settings(),
    }

  def _settings(self) -> dict[str, Any]:
    return {
      f.name: plain(getattr(self, f.name))
      for f in dataclasses.fields(self)
      if f.name != "base" and f.repr
    }

  def ready(self, first: FirstPass) -> "Construction":
    """Fields that can get ready do so."""
    return dataclasses.replace(
      self,
      **{
        f.name: _ready(getattr(self, f.name), first)
        for f in dataclasses.fields(self)
        if f.name != "base"
      },
    )

  def asks(self) -> Iterator[Ask]:
    """What is asked of servers about a record at most, for estimates."""
    for f in dataclasses.fields(self):
      if f.name != "base":
        yield from _asked(getattr(self, f.name))

  def make(
    self, row: Mapping[str, Any], where: str, path: str
  ) -> Iterator[Converted | Skipped]:
    """`step` of each record of the row; what the base leaves out stays out."""
    for made in self.base.make(row, where, path):
      if isinstance(made, Skipped):
        yield made
      else:
        yield from self.step(made, where)

  def step(self, made: Converted, where: str) -> Iterator[Converted | Skipped]:
    """What becomes of a record."""
    raise NotImplementedError


def plain(value: Any) -> Any:
  """A setting as JSON."""
  if hasattr(value, "identity"):
    return value.identity()
  if isinstance(value, (list, tuple)):
    return [plain(v) for v in value]
  if isinstance(value, Mapping):
    return {str(k): plain(v) for k, v in value.items()}
  if dataclasses.is_dataclass(value):
    return {
      f.name: plain(getattr(value, f.name))
      for f in dataclasses.fields(value)
      if f.repr
    }
  if value is None or isinstance(value, (bool, int, float, str)):
    return value
  return repr(value)


def _ready(value: Any, first: FirstPass) -> Any:
  if hasattr(value, "ready"):
    return value.ready(first)
  if isinstance(value, tuple):
    return tuple(_ready(v, first) for v in value)
  return value


def _asked(value: Any) -> Iterator[Ask]:
  """Of a field: a back end, a rule that holds one, or several of them."""
  if hasattr(value, "price") and hasattr(value, "tokens"):
    yield Ask(value, 1, 1)
  elif isinstance(value, tuple):
    for one in value:
      yield from _asked(one)
  elif hasattr(value, "answers"):
    yield from _asked(value.answers)


def noted(stored: schema.Stored, **words: Any) -> schema.Stored:
  """The record with more provenance."""
  return dataclasses.replace(stored, provenance={**stored.provenance, **words})


def hash64(text: str | bytes) -> int:
  """Stable over runs and machines; not salted as hash() is.

  >>> hash64("a") == hash64(b"a") < 2**64
  True
  """
  if isinstance(text, str):
    text = text.encode("utf-8", "surrogatepass")
  return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


def pixels(data: bytes, where: str) -> np.ndarray:
  """RGB uint8 (Y, X, 3) of a stored picture."""
  return images.load_picture(data, where)


def texts_of(record: Any) -> tuple[str, ...]:
  """Everything that is said in a record, in order."""
  if hasattr(record, "turns"):
    return tuple(text for turn in record.turns for text in turn if text)
  return (getattr(record, "prompt", "") or getattr(record, "instruction", ""),)


def need_editing(made: Converted, where: str) -> Any:
  """The record of an edit; BadRecord for any other."""
  if made.stored.task != "editing":
    raise BadRecord(where, f"a record of {made.stored.task}, not of editing")
  return made.stored.record
