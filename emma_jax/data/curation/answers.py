"""What others say about a record: scores, judgements, words read, labels.

Two back ends give an answer, a JSON object such as {"score": 6.1}: a file that
was computed before (here), and a model behind an OpenAI-compatible server
(client.py). Nothing is guessed: a record without an answer ends the run, unless
its user has said that it is to be left out, or kept.
"""

import array
from collections.abc import Iterator, Mapping
import dataclasses
import functools
import hashlib
import json
import math
import os
from typing import Any, Literal, Protocol

import numpy as np

from emma_jax import files
from emma_jax.data.curation.base import hash64
from emma_jax.data.ingest.job import ConversionError, file_state
from emma_jax.data.ingest.part import FirstPass, Skipped
from emma_jax.data.pictures.images import BadRecord
from emma_jax.data.records import schema

# What becomes of a record without an answer.
Missing = Literal["error", "drop", "keep"]


class NoAnswer(BadRecord):
  """There is no answer about this record."""


class Refused(NoAnswer):
  """A content filter has refused to give one, and would do so again."""


class Answering(Protocol):
  """What can be asked about a record."""

  def answer(self, stored: schema.Stored, where: str) -> Mapping[str, Any]:
    """About a record; NoAnswer where there is none."""
    ...


class Answers(Answering, Protocol):
  """A back end. It pickles."""

  def identity(self) -> Any:
    """JSON of all that decides the answers."""
    ...

  def ready(self, first: FirstPass) -> "Answers":
    """Called once per run, before the first answer."""
    ...


def ask(
  answers: Answering, stored: schema.Stored, where: str, missing: Missing
) -> Mapping[str, Any] | None:
  """The answer; None for one that is missing and may be.

  Raises:
    ConversionError: it is missing and must not be; the run ends.
  """
  try:
    return answers.answer(stored, where)
  except NoAnswer as error:
    if missing == "error":
      raise ConversionError(
        f"{error}. Add it, or say what becomes of such records: --missing "
        "drop or --missing keep."
      ) from error
    return None


def wanted(
  answers: Answering,
  stored: schema.Stored,
  where: str,
  missing: Missing,
  name: str,
) -> Mapping[str, Any] | Skipped | None:
  """The answer; where it is missing: why the record goes, or None (it stays).

  Raises:
    ConversionError: it must not be missing; the run ends.
  """
  try:
    return answers.answer(stored, where)
  except NoAnswer as error:
    if missing == "error":
      raise ConversionError(
        f"{error}. Say what becomes of such records: --missing drop leaves "
        "them out."
      ) from error
    if missing == "keep":
      return None
    kind = "refused" if isinstance(error, Refused) else f"no {name}"
    return Skipped(kind, error.reason)


def number(answer: Mapping[str, Any], key: str, where: str) -> float | None:
  """A finite number; None for null, which says that it does not apply.

  >>> number({"score": 7}, "score", "a"), number({"score": None}, "score", "a")
  (7.0, None)
  """
  if key not in answer:
    raise NoAnswer(where, f"the answer {_short(answer)} has no {key!r}")
  value = answer[key]
  if value is None:
    return None
  if isinstance(value, bool) or not isinstance(value, (int, float)):
    raise NoAnswer(where, f"{key} is {value!r}, not a number")
  if not math.isfinite(value):
    raise NoAnswer(where, f"{key} is {value!r}, not finite")
  return float(value)


def text(answer: Mapping[str, Any], key: str, where: str) -> str | None:
  """A text; None for null, which says that there is none."""
  value = answer.get(key, "")
  if value is not None and (not isinstance(value, str) or not value.strip()):
    raise NoAnswer(where, f"the answer {_short(answer)} has no text {key!r}")
  return value


def texts(answer: Mapping[str, Any], key: str, where: str) -> list[str]:
  """A list of texts, which may be empty."""
  value = answer.get(key)
  if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
    raise NoAnswer(where, f"the answer {_short(answer)} has no texts {key!r}")
  return value


def truth(answer: Mapping[str, Any], key: str, where: str) -> bool:
  """True or false."""
  value = answer.get(key)
  if not isinstance(value, bool):
    raise NoAnswer(where, f"the answer {_short(answer)} has no {key!r}")
  return value


def _short(answer: Mapping[str, Any]) -> str:
  return f"{json.dumps(dict(answer)):.120}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Precomputed:
  """Answers from a file: JSON lines or Parquet with a column "id".

  The file stays on disk: an index of 16 bytes a row finds the lines.

  Args:
    path: a line is {"id": ..., "score": ...}; `id` is the record's, see
      `key_of`.
    index: where `ready` put the index, and lines (of Parquet: a copy).
  """

  path: str
  index: str = dataclasses.field(default="", repr=False)

  def identity(self) -> Any:
    """The file's name, size and time."""
    return {"file": file_state(self.path)}

  def ready(self, first: FirstPass) -> "Precomputed":
    """Itself with an index in `first.work`, made unless it is there."""
    name = hashlib.sha256(self.path.encode()).hexdigest()[:16]
    index = os.path.join(first.work, f"answers-{name}.npy")
    if not os.path.exists(index):
      lines = _lines(self.path, f"{index}.jsonl")
      try:
        found = _index(lines)
      except OSError as error:
        raise ConversionError(str(error)) from error
      with files.atomic_write(index) as file:
        np.save(file, found)
    return dataclasses.replace(self, index=index)

  def answer(self, stored: schema.Stored, where: str) -> Mapping[str, Any]:
    """The line of the record's id; NoAnswer where there is none."""
    name = stored.record.id
    hashes, offsets = _opened(self.index)
    wanted = np.uint64(hash64(name))
    at = int(np.searchsorted(hashes, wanted))
    copy = f"{self.index}.jsonl"
    with open(copy if os.path.exists(copy) else self.path, "rb") as file:
      while at < hashes.size and hashes[at] == wanted:
        file.seek(int(offsets[at]))
        row = json.loads(file.readline().decode("utf-8-sig"))
        if key_of(row["id"]) == name:
          return row
        at += 1
    raise NoAnswer(where, f"{self.path} has no line of the id {name!r}")


@dataclasses.dataclass(frozen=True)
class Noted:
  """A score that an earlier construction left in the provenance."""

  key: str

  def identity(self) -> Any:
    """The key of the provenance."""
    return {"provenance": self.key}

  def ready(self, first: FirstPass) -> "Noted":
    """Itself: all it needs is in the records."""
    return self

  def answer(self, stored: schema.Stored, where: str) -> Mapping[str, Any]:
    """{"score": the noted value}; NoAnswer where the key is missing."""
    if self.key not in stored.provenance:
      raise NoAnswer(where, f"its provenance has no {self.key!r}")
    return {"score": stored.provenance[self.key]}


@functools.lru_cache(maxsize=8)
def _opened(index: str) -> tuple[np.ndarray, np.ndarray]:
  """Mapped, so that all workers share one copy."""
  both = np.load(index, mmap_mode="r")
  return both[0], both[1]


def _lines(path: str, copy: str) -> str:
  """The file itself, or of Parquet a copy in JSON lines."""
  if not path.endswith(".parquet"):
    return path
  try:
    import pyarrow.parquet
  except ImportError as error:
    raise ConversionError(
      f"{path}: Parquet needs the package pyarrow (extra `data`)."
    ) from error
  with files.atomic_write(copy, "w") as file:
    for batch in pyarrow.parquet.ParquetFile(path).iter_batches(1024):
      for row in batch.to_pylist():
        file.write(json.dumps(row) + "\n")
  return copy


def key_of(value: Any) -> str:
  """The id that a row names: a text, or a whole number as its digits.

  >>> key_of(7) == key_of("7")
  True

  Raises:
    TypeError: anything else, of which nobody knows how it was written.
  """
  if isinstance(value, str):
    return value
  if isinstance(value, int) and not isinstance(value, bool):
    return str(value)
  raise TypeError(f"the id {value!r:.40} is neither a text nor a whole number")


def _index(path: str) -> np.ndarray:
  """(2, n) uint64: hashes of ids, ascending, and where their lines begin.

  Raises ConversionError for a line that is no answer, and for two different
  ones of one id.
  """
  hashes, offsets = array.array("Q"), array.array("Q")
  for at, row in _answers(path):
    hashes.append(hash64(key_of(row["id"])))
    offsets.append(at)
  out = np.array([hashes, offsets], np.uint64).reshape(2, -1)
  out = out[:, np.argsort(out[0], kind="stable")]
  twice = np.flatnonzero(out[0, 1:] == out[0, :-1])
  with open(path, "rb") as file:
    for i in twice:
      rows = []
      for at in out[1, i : i + 2]:
        file.seek(int(at))
        rows.append(json.loads(file.readline().decode("utf-8-sig")))
      one, other = ({**row, "id": key_of(row["id"])} for row in rows)
      if one["id"] == other["id"] and one != other:
        names = " and ".join(dict.fromkeys(repr(row["id"]) for row in rows))
        raise ConversionError(
          f"{path} has two different answers of the id {names}; which one is "
          "meant? A number and its digits are one id."
        )
  return out


def _answers(path: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
  """(byte offset, row) of each line."""
  at = 0
  with open(path, "rb") as file:
    for count, line in enumerate(file, start=1):
      start, at = at, at + len(line)
      if not line.strip():
        continue
      try:
        row = json.loads(line.decode("utf-8-sig"))
        key_of(row["id"])
      except (ValueError, TypeError, KeyError) as error:
        raise ConversionError(
          f'{path}:{count} is no answer such as {{"id": "7", "score": 6.1}}: '
          f"{type(error).__name__} {error}"
        ) from error
      yield start, row
