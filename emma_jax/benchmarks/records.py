"""The files of a run, line by line: predictions, judgements, outcomes.

A line is a JSON object, added whole or not at all: the torn last line that a
killed process leaves is dropped. Nothing here needs an accelerator, or jax.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
from typing import Any, Literal, TypeVar

from emma_jax.exits import Exit

# Of a folder of results; another number is another layout of the files.
FORMAT = 1

# ok          an answer or a picture, whatever it is worth
# truncated   an answer that was cut at `max_tokens`; scored as it stands
# empty       an answer without a word
# unreadable  a picture of the question cannot be read
# crashed     the model cannot take the question
Status = Literal["ok", "truncated", "empty", "unreadable", "crashed"]
FAILED = ("empty", "unreadable", "crashed")


class BadRun(ValueError):
  """A folder of results that cannot be used; names file, line and remedy."""


class BeingWritten(BadRun):
  """Another process writes the same file."""

  exit_code = Exit.IN_USE


class Unwritable(BadRun):
  """The disk takes no more."""

  exit_code = Exit.STORAGE


class Stopped(Exception):
  """Asked to stop; all that was made, or said, is on the disk."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prediction:
  """What the model gave for one item, once.

  Args:
    id: of the item.
    repeat: 0, 1, ...: a further picture or answer of the same item.
    key: digest of all that decides it: weights, settings, prompt, pictures, id
      and repeat.
    settings: digest of the weights and settings alone.
    prompt: digest of the prompt alone.
    status: see `Status`.
    text: the answer.
    tokens: of the answer.
    picture: file of what was drawn, relative to the set's folder.
    sha256: of that file.
    error: why there is none.
  """

  id: str
  repeat: int
  key: str
  settings: str
  prompt: str
  status: Status = "ok"
  text: str = ""
  tokens: int = 0
  picture: str = ""
  sha256: str = ""
  error: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Judgement:
  """A judge's reply as it is kept beside the predictions.

  Args:
    call: id of the call.
    key: see `judge.base.key_of`.
    judge: its name in the config.
    reply: fields of `judge.base.Reply`.
    cached: whether it had been asked before.
  """

  call: str
  key: str
  judge: str
  reply: Mapping[str, Any]
  cached: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
  """One item's score under one implementation.

  Args:
    id: of the item, or of its group where the group is what is scored.
    repeat: of the prediction; 0 where all of an item give one score.
    impl: implementation.
    score: in units of the set; the lowest for a failure.
    weight: of it in the mean of its stratum.
    cluster: what a bootstrap draws.
    stratum: whose means are averaged; "" where there is one.
    categories: column -> value, for tables.
    parts: scores it is made of.
    failure: "" or its kind: "judge:refused", "predict:crashed".
  """

  id: str
  repeat: int
  impl: str
  score: float
  weight: float = 1.0
  cluster: str
  stratum: str = ""
  categories: Mapping[str, str] = dataclasses.field(default_factory=dict)
  parts: Mapping[str, float] = dataclasses.field(default_factory=dict)
  failure: str = ""


Line = TypeVar("Line", Prediction, Judgement, Outcome)
# What JSON makes of a field's type; of others anything.
_KINDS: Mapping[Any, Any] = {str: str, int: int, float: (int, float)}


def dump(line: Prediction | Judgement | Outcome) -> str:
  """A line of a file, with its newline.

  Raises:
    ValueError: a number that JSON does not have.
  """
  content = dataclasses.asdict(line)
  return json.dumps(content, ensure_ascii=False, allow_nan=False) + "\n"


def load(kind: type[Line], path: str | os.PathLike) -> Iterator[Line]:
  """Lines of a file; nothing where there is no file.

  Raises:
    BadRun: a line, not a torn last one, that is none of this kind.
  """
  for _, line in numbered(kind, path):
    yield line


def numbered(
  kind: type[Line], path: str | os.PathLike
) -> Iterator[tuple[int, Line]]:
  """The same with the lines' numbers, from 1."""
  if not os.path.exists(path):
    return
  kinds = {f.name: _KINDS.get(f.type, object) for f in dataclasses.fields(kind)}
  with open(path, "rb") as file:
    for number, raw in enumerate(file, 1):
      if not raw.endswith(b"\n"):
        return  # torn: its writer was killed
      try:
        content = json.loads(raw)
        if not isinstance(content, dict) or set(content) - set(kinds):
          raise ValueError(f"keys {sorted(content)}")
        for key, value in content.items():
          if not isinstance(value, kinds[key]):
            raise ValueError(f"{key} is {value!r:.40}")
        yield number, kind(**content)
      except (ValueError, TypeError) as error:
        raise BadRun(
          f"{path}, line {number}: no {kind.__name__.lower()} of this version "
          f"({error}). The file is damaged or of another version; name another "
          "--out, or delete this file."
        ) from error


def whole_length(path: str | os.PathLike) -> int:
  """Bytes of a file up to its last newline; 0 where there is no file."""
  if not os.path.exists(path):
    return 0
  with open(path, "rb") as file:
    end = file.seek(0, os.SEEK_END)
    while end:
      start = max(0, end - (1 << 16))
      file.seek(start)
      place = file.read(end - start).rfind(b"\n")
      if place >= 0:
        return start + place + 1
      end = start
  return 0


@contextlib.contextmanager
def writing(path: str | os.PathLike) -> Iterator[None]:
  """Says of a file that cannot be written which it is, and what helps.

  Raises:
    BadRun: a full disk, a folder that is gone.
  """
  try:
    yield
  except OSError as error:
    raise Unwritable(
      f"{path} cannot be written: {error}. What is whole is kept: make room, "
      "and give the same command again."
    ) from error


class Appender:
  """Adds lines to a file that nobody else writes; begins behind a torn one."""

  def __init__(self, path: str | os.PathLike):
    """Opens the file, whose folder is made.

    Raises:
      BeingWritten: another process has it open.
    """
    os.makedirs(os.path.dirname(path), exist_ok=True)
    self._file = open(path, "a+b")  # noqa: SIM115  # closed by `close`
    try:
      fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
      self._file.close()
      raise BeingWritten(
        f"{path} is being written by another process. Wait for it, stop it, or "
        "give each process a shard of its own (--shard)."
      ) from error
    self._file.truncate(whole_length(path))

  def add(self, lines: Iterable[Prediction | Judgement | Outcome]) -> None:
    """Adds lines; they are on the disk when this returns."""
    with writing(self._file.name):
      # Halves of characters as JSON's escapes.
      text = "".join(map(dump, lines))
      self._file.write(text.encode(errors="backslashreplace"))
      self._file.flush()
      os.fsync(self._file.fileno())

  def close(self) -> None:
    """Closes the file."""
    with writing(self._file.name):
      self._file.close()

  def __enter__(self) -> "Appender":
    return self

  def __exit__(self, *_) -> None:
    self.close()


def digest(content: Any) -> str:
  """Of anything JSON can say, the same for the same."""
  text = json.dumps(content, sort_keys=True, ensure_ascii=False)
  data = text.encode(errors="backslashreplace")
  return hashlib.sha256(data).hexdigest()


def once(
  lines: Iterable[tuple[str, Line]], name: Callable[[Line], Any]
) -> dict[Any, Line]:
  """Lines by name, each there once.

  Args:
    lines: (where it stands, line).
    name: of a line.

  Raises:
    BadRun: two lines of one name that differ.
  """
  found: dict[Any, tuple[str, Line]] = {}
  for where, line in lines:
    before = found.setdefault(name(line), (where, line))
    if before[1] != line:
      raise BadRun(
        f"{where} and {before[0]} are both of {name(line)}, and differ. One of "
        "them is wrong: delete one, or the file it is in, and run again."
      )
  return {key: line for key, (_, line) in found.items()}
