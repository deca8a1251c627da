"""Where records come from: JSON lines with picture files, or the world.

A source is `len(source)` and `source[i] -> Record`, a pure function of i which
raises BadRecord for an element that cannot be used.
"""

import dataclasses
import json
import os
from typing import Any, Protocol

import numpy as np

from emma_jax.data.images import BadRecord
from emma_jax.structs import (
  STEM_GENERAL,
  STEM_SCIENCE,
  STEM_UNKNOWN,
  TASKS,
  Drawing,
  Editing,
  Record,
  Understanding,
)

# The world draws a new sample for every index; a run never reaches this one.
WORLD_LENGTH = 2**40

# The keys that tell the formats apart.
_KEYS = {
    "understanding": ("conversations",),
    "drawing": ("image", "caption"),
    "editing": ("source", "instruction", "target"),
}
_HUMAN, _MODEL = ("human", "user"), ("gpt", "assistant")


class Source(Protocol):
  """Random access to records."""

  def __len__(self) -> int: ...

  def __getitem__(self, index: int) -> Record: ...


class JsonlSource:
  """A JSON-lines file of one of three formats, by keys where `task` is None.

  understanding: `conversations` [{"from": "human"|"gpt", "value"}, ...] in
    turns, `image` or `images` (a path or a list; may be absent), optional
    `stem` (true, false or absent);
  drawing: `image`, `caption`;
  editing: `source`, `instruction`, `target`.

  `id` is optional everywhere. Paths are relative to the file's folder. Opening
  only finds the lines; a broken one raises BadRecord with file:line when read.
  """

  def __init__(self, path: str, task: str | None = None):
    if task is not None and task not in TASKS:
      raise ValueError(f"{task=} is unknown; choose one of {TASKS}.")
    self.path = path
    self._folder = os.path.dirname(os.path.abspath(path))
    self._offsets, self._lines = _index(path)
    if not self._offsets.size:
      raise ValueError(f"{path} holds no lines; a source needs at least one.")
    self.task = task or self._detect()

  def __len__(self) -> int:
    return self._offsets.size

  def __getitem__(self, index: int) -> Record:
    where = self.where(index)
    row = self._row(index)
    name = row.get("id", where)
    try:
      if self.task == "understanding":
        return self._understanding(row, str(name), where)
      if self.task == "drawing":
        return Drawing(
            prompt=_text(row, "caption", where),
            picture=self._picture(row, "image", where),
            id=str(name),
        )
      return Editing(
          source=self._picture(row, "source", where),
          instruction=_text(row, "instruction", where),
          target=self._picture(row, "target", where),
          id=str(name),
      )
    except KeyError as e:
      raise BadRecord(
          where, f"key {e} is missing; the line has {sorted(row)}"
      ) from e

  def where(self, index: int) -> str:
    """file:line of an element, as in error messages of compilers."""
    return f"{self.path}:{self._lines[index]}"

  def _row(self, index: int) -> dict[str, Any]:
    # Opened per read: no handle to share between threads or to pickle.
    with open(self.path, "rb") as file:
      file.seek(self._offsets[index])
      line = file.readline()
    try:
      row = json.loads(line.decode("utf-8-sig"))
    except (ValueError, RecursionError) as e:
      raise BadRecord(self.where(index), f"no JSON: {e}") from e
    if not isinstance(row, dict):
      raise BadRecord(
          self.where(index), f"{type(row).__name__} instead of a JSON object"
      )
    return row

  def _detect(self) -> str:
    """The format of the first line that has one."""
    seen: list[str] = []
    for index in range(min(len(self), 100)):
      try:
        row = self._row(index)
      except BadRecord:
        continue
      for task, keys in _KEYS.items():
        if all(key in row for key in keys):
          return task
      seen = seen or sorted(row)
    raise ValueError(
        f"{self.path} has none of the formats {_KEYS} in its first lines "
        f"(keys seen: {seen})."
    )

  def _picture(self, row: dict[str, Any], key: str, where: str) -> str:
    return self._path(row[key], key, where)

  def _path(self, value: Any, key: str, where: str) -> str:
    if not isinstance(value, str) or not value:
      raise BadRecord(where, f"{key} is {value!r}, not a path")
    path = os.path.join(self._folder, value)
    if "\0" in path or not os.path.isfile(path):
      raise BadRecord(where, f"{key}: no such picture {value!r}")
    return path

  def _understanding(
      self, row: dict[str, Any], name: str, where: str
  ) -> Understanding:
    images = row.get("images", row.get("image", []))
    paths = images if isinstance(images, list) else [images]
    said = row["conversations"]
    if not isinstance(said, list) or not said or len(said) % 2:
      raise BadRecord(where, "conversations are not pairs of turns")
    for i, turn in enumerate(said):
      speakers = _MODEL if i % 2 else _HUMAN
      if not isinstance(turn, dict) or turn.get("from") not in speakers:
        raise BadRecord(where, f"conversations[{i}] is not from {speakers[0]}")
    values = [_text(turn, "value", where) for turn in said]
    stem = row.get("stem")
    if stem not in (None, True, False):
      raise BadRecord(where, f"stem is {stem!r}, not true or false")
    label = STEM_SCIENCE if stem else STEM_GENERAL
    return Understanding(
        pictures=tuple(self._path(p, "image", where) for p in paths),
        turns=tuple(zip(values[::2], values[1::2])),
        stem=STEM_UNKNOWN if stem is None else label,
        id=name,
    )


@dataclasses.dataclass(frozen=True)
class SourceSpec:
  """A parsed spec: "world:TASK:SPLIT[:LENGTH]" or "jsonl:PATH".

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
    kind, _, rest = spec.partition(":")
    if kind == "jsonl" and rest:
      return cls(kind, path=rest)
    fields = rest.split(":")
    if kind == "world" and len(fields) in (2, 3) and all(fields):
      length = fields[2] if len(fields) == 3 else None
      if length is None or (length.isdecimal() and int(length) > 0):
        return cls(kind, *fields[:2], length=length and int(length))
    raise ValueError(
        f"The source {spec!r} is neither world:TASK:SPLIT[:LENGTH] nor "
        "jsonl:PATH."
    )


def open_source(spec: str, task: str | None = None) -> Source:
  """Opens "world:TASK:SPLIT[:LENGTH]" or "jsonl:PATH" (see SourceSpec).

  `task` names the format of a JSONL file; None finds it by the keys.
  """
  parsed = SourceSpec.parse(spec)
  if parsed.kind == "jsonl":
    return JsonlSource(parsed.path, task)
  from emma_jax.world import tasks  # files can be read without the world

  return tasks.WorldSource(
      parsed.task, parsed.split, parsed.length or WORLD_LENGTH
  )


def is_shuffled(spec: str) -> bool:
  """Files are reshuffled every epoch; the world's order is random already."""
  return SourceSpec.parse(spec).kind != "world"


def _index(path: str) -> tuple[np.ndarray, np.ndarray]:
  """Byte offset and number (from 1) of every line that is not blank."""
  offsets, numbers, at = [], [], 0
  with open(path, "rb") as file:
    for number, line in enumerate(file, start=1):
      if line.strip():
        offsets.append(at)
        numbers.append(number)
      at += len(line)
  return np.array(offsets, np.int64), np.array(numbers, np.int64)


def _text(row: dict[str, Any], key: str, where: str) -> str:
  if not isinstance(row[key], str):
    raise BadRecord(where, f"{key} is {row[key]!r}, not a text")
  return row[key]
