"""Where records come from: JSON lines, folders of records, TFDS, or the world.

A source is `len(source)` and `source[i] -> Record`, a pure function of i which
raises BadRecord for an element that cannot be used.
"""

import dataclasses
import itertools
import os
from typing import Any, Protocol

import numpy as np

from emma_jax.data.ingest import files, limits, rows, sequences
from emma_jax.data.pictures.encoded import path_of
from emma_jax.data.pictures.images import BadRecord
from emma_jax.data.records import schema
from emma_jax.structs import TASKS, Record

# JSON lines whose pictures may lie outside of the file's folder.
OUTSIDE = "jsonl-outside"
# The world draws a new sample for every index; a run never reaches this one.
WORLD_LENGTH = 2**40


class Source(Protocol):
  """Random access to records."""

  def __len__(self) -> int: ...

  def __getitem__(self, index: int) -> Record: ...


class JsonlSource:
  """A JSON-lines file in one of the formats of ingest/rows.py.

  Paths of pictures are relative to the file's folder, and do not leave it.
  Opening only finds the lines; a broken one raises BadRecord with file:line
  when it is read.

  Args:
    path: of the file.
    task: the format must be one of this task; None: the first line's.
    allow_outside: pictures may lie outside of the file's folder.

  Raises:
    ValueError: no lines, or none of the formats.
  """

  def __init__(
    self, path: str, task: str | None = None, allow_outside: bool = False
  ):
    if task is not None and task not in TASKS:
      raise ValueError(f"{task=} is unknown; choose one of {TASKS}.")
    self.path, self._allow_outside = path, allow_outside
    self._folder = os.path.dirname(os.path.abspath(path))
    self._offsets, self._lines = _index(path)
    if not self._offsets.size:
      raise ValueError(f"{path} holds no lines; a source needs at least one.")
    self._format = self._detect(task)
    self.task = rows.FORMATS[self._format].task

  def __len__(self) -> int:
    return self._offsets.size

  def __getitem__(self, index: int) -> Record:
    row, where = self._row(index), self.where(index)
    record = rows.read(row, self._format, where, self._path)
    schema.check_texts(record, where)
    return record

  def where(self, index: int) -> str:
    """file:line of an element, as in error messages of compilers."""
    return f"{self.path}:{self._lines[index]}"

  def _row(self, index: int) -> dict[str, Any]:
    # Opened per read: no handle to share between threads or to pickle.
    with open(self.path, "rb") as file:
      file.seek(self._offsets[index])
      (size, line), *_ = [*itertools.islice(limits.lines(file), 1), (0, b"")]
    where = self.where(index)
    row = files.parse(line, where) if line is not None else None
    if row is None:
      raise BadRecord(where, limits.too_long(size))
    if isinstance(row, BadRecord):
      raise row
    return row

  def _detect(self, task: str | None) -> str:
    """The format of the first line that has one, for the task."""
    seen: list[str] = []
    bad: list[str] = []
    for index in range(min(len(self), 100)):
      try:
        row = self._row(index)
      except BadRecord as error:
        bad.append(str(error))
        continue
      form = rows.detect(row)
      if form and task in (None, rows.FORMATS[form].task):
        return form
      seen = seen or sorted(row)
    known = {
      k: f.keys for k, f in rows.FORMATS.items() if task in (None, f.task)
    }
    if bad and not seen:
      raise ValueError(f"None of the first lines can be read: {bad[0]}.")
    raise ValueError(
      f"{self.path} has none of the formats {known} in its first lines "
      f"(keys seen: {seen})."
    )

  def _path(self, value: Any, key: str, where: str) -> str:
    return path_of(value, key, where, self._folder, self._allow_outside)


class RowsSource:
  """Rows of TensorFlow Datasets, or of any sequence of dicts, as records.

  Args:
    spec: tfds:NAME:SPLIT (prepared in TFDS_DATA_DIR, or TFDS's own folder) or
      python:MODULE:FUNCTION.
    task: the format must be one of this task; None: whatever the rows are.

  Raises:
    ValueError: no rows, or none of the formats.
    ImportError: the sequence's package is not installed.
  """

  def __init__(self, spec: str, task: str | None = None):
    self.spec = spec
    self._options = sequences.Options(data_dir=os.environ.get("TFDS_DATA_DIR"))
    self._length = len(self._rows())
    form = self._detect()
    if form is None or task not in (None, rows.FORMATS[form].task):
      raise ValueError(
        f"{spec} has rows of the format {form}; wanted is one for "
        f"{task or 'any task'} of {sorted(rows.FORMATS)}."
      )
    self._format, self.task = form, rows.FORMATS[form].task

  def __len__(self) -> int:
    return self._length

  def __getitem__(self, index: int) -> Record:
    where = self.where(index)
    record = rows.read(self._row(index), self._format, where, _given)
    schema.check_texts(record, where)
    return record

  def where(self, index: int) -> str:
    """spec[index] of an element."""
    return f"{self.spec}[{index}]"

  def _rows(self) -> Any:
    # Opened once per process: nothing of it is pickled.
    return sequences.sequence(self.spec, self._options)

  def _row(self, index: int) -> dict[str, Any]:
    try:
      row = dict(self._rows()[int(index)])
    except Exception as e:  # whatever a stranger's sequence raises
      reason = f"cannot be read: {type(e).__name__}: {e}"
      raise BadRecord(self.where(index), reason) from e
    return {key: sequences.plain(value) for key, value in row.items()}

  def _detect(self) -> str | None:
    """The format of the first row that has one."""
    for index in range(min(self._length, 100)):
      try:
        form = rows.detect(self._row(index))
      except BadRecord:
        continue
      if form:
        return form
    return None


def _given(value: Any, key: str, where: str) -> Any:
  """A picture that a row holds itself."""
  if isinstance(value, dict):
    value = value.get("bytes")
  if not isinstance(value, (bytes, np.ndarray)) or not len(value):
    raise BadRecord(where, f"{key} is {value!r:.80}, not a picture's bytes")
  return value


@dataclasses.dataclass(frozen=True)
class SourceSpec:
  """A parsed spec: "world:TASK:SPLIT[:LENGTH]", "jsonl:PATH", "records:DIR",
  "tfds:NAME:SPLIT", "python:MODULE:FUNCTION"; "jsonl-outside:PATH" may name
  pictures outside of the file's folder.

  >>> SourceSpec.parse("world:drawing:train")
  SourceSpec(kind='world', task='drawing', split='train', path='', length=None)
  """

  kind: str
  task: str = ""
  split: str = ""
  path: str = ""
  length: int | None = None

  @classmethod
  def parse(cls, spec: str) -> "SourceSpec":
    """Of the text; ValueError where it is of none of these forms."""
    kind, _, rest = spec.partition(":")
    if kind in ("jsonl", OUTSIDE, "records") and rest:
      return cls(kind, path=os.path.expanduser(rest))
    if kind in ("tfds", "python") and all(rest.rpartition(":")):
      return cls(kind, path=spec)
    fields = rest.split(":")
    if kind == "world" and len(fields) in (2, 3) and all(fields):
      task, split, *length = fields
      if not length:
        return cls(kind, task, split)
      if length[0].isdecimal() and int(length[0]) > 0:
        return cls(kind, task, split, length=int(length[0]))
    raise ValueError(
      f"The source {spec!r} is neither world:TASK:SPLIT[:LENGTH] nor "
      "jsonl:PATH nor records:DIR nor tfds:NAME:SPLIT nor "
      "python:MODULE:FUNCTION."
    )


def open_source(
  spec: str, task: str | None = None, latents: Any = None
) -> Source:
  """Opens what a SourceSpec names.

  `task`: of the records wanted; None takes those that are there. `latents`:
  pictures come with latents made for these (`records.latents.Settings`).
  """
  parsed = SourceSpec.parse(spec)
  if parsed.kind == "records":
    from emma_jax.data.records import source  # the reader only where needed

    return source.RecordsSource(parsed.path, task, latents)
  if latents is not None:
    raise ValueError(
      f"{spec} has no stored latents; make a folder of records of it with "
      "`emma-data convert`, or set config.data.latents=step."
    )
  if parsed.kind in ("jsonl", OUTSIDE):
    return JsonlSource(parsed.path, task, parsed.kind == OUTSIDE)
  if parsed.kind in ("tfds", "python"):
    return RowsSource(parsed.path, task)
  from emma_jax.world import tasks  # files can be read without the world

  return tasks.WorldSource(
    parsed.task, parsed.split, parsed.length or WORLD_LENGTH
  )


def open_whole(spec: str) -> Source:
  """A source of which every record is to be read.

  Raises:
    ValueError: it has no end; and as `open_source`.
  """
  source = open_source(spec)
  if len(source) >= WORLD_LENGTH:
    raise ValueError(
      f"{spec} has no end; say how many records are to be read: {spec}:1000."
    )
  return source


def is_shuffled(spec: str) -> bool:
  """Files are reshuffled every epoch; the world's order is random already."""
  return SourceSpec.parse(spec).kind != "world"


def _index(path: str) -> tuple[np.ndarray, np.ndarray]:
  """Byte offset and number (from 1) of every line that is not blank."""
  limits.check_encoding(path, by_lines=True)
  offsets, numbers, at = [], [], 0
  with open(path, "rb") as file:
    for number, (size, line) in enumerate(limits.lines(file), start=1):
      if line is None or line.strip():
        offsets.append(at)
        numbers.append(number)
      at += size
  return np.array(offsets, np.int64), np.array(numbers, np.int64)
