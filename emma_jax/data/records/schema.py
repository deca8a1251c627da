"""One sample on disk: a JSON header, then the bytes of its pictures.

  b"EMR1"   4 bytes
  n         4 bytes, little endian: length of the header
  header    n bytes, UTF-8 JSON, keys below
  pictures  as they came (JPEG, PNG, ...), one after the other

Keys of the header; those that are empty are left out:

  task         "understanding", "text", "drawing" or "editing"
  id           unique within its data set, if its makers cared
  turns        [[question, answer], ...]      understanding and text
  prompt       the caption                    drawing
  instruction  what to change                 editing
  stem         true or false; absent: unknown  understanding
  weight       how often an epoch shows the record; absent: 1
  provenance   {"dataset", "row", ...}: texts and numbers
  pictures     lengths in bytes: those of the conversation in reading order;
               [picture] of a drawing; [source, ..., target] of an edit

In a question "<image>" marks where a picture stands; without any mark they all
stand before the first question. "text" is a conversation without pictures; the
program sees it as an Understanding, as everything that is learned by answering.

A reader of the same first number ("EMR1") must accept keys it does not know:
new ones may be added. What changes the meaning of old ones needs a new number.
"""

from collections.abc import Mapping
import dataclasses
import json
import math
import struct
from typing import Any

from emma_jax.data.pictures import images
from emma_jax.data.pictures.images import BadRecord
from emma_jax.data.text.chat import IMAGE_MARK
from emma_jax.structs import (
  GEN_TASKS,
  RECORDS,
  STEM_GENERAL,
  STEM_SCIENCE,
  STEM_UNKNOWN,
  Drawing,
  Editing,
  Record,
  Understanding,
)

# Labels as headers and rows of public formats say them, and their codes.
STEM_VALUES: dict[bool | str | None, int] = {
  None: STEM_UNKNOWN,
  False: STEM_GENERAL,
  True: STEM_SCIENCE,
}

MAGIC = b"EMR1"
VERSION = 1
# Their order is on the disk, too: a new one comes last.
TASKS = ("understanding", "text", *GEN_TASKS)
# Above it, a weight is a mistake: an epoch would be one record.
MAX_WEIGHT = 1000
# A header of more bytes is damage, or a book in one sample; as Python's objects
# it may take twenty times as much.
MAX_HEADER = 16 * 2**20
_PREFIX = struct.Struct("<4sI")
_STEM_WORDS = {code: value for value, code in STEM_VALUES.items()}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stored:
  """A record whose pictures are bytes, and what the disk knows besides."""

  record: Record
  weight: float = 1.0
  provenance: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  @property
  def task(self) -> str:
    """One of TASKS."""
    return task_of(self.record)

  @property
  def pictures(self) -> tuple[bytes, ...]:
    """Encoded bytes, in the order in which they are stored."""
    return pictures_of(self.record)


def stem_code(value: Any, where: str) -> int:
  """The code of a label, one of STEM_VALUES; or BadRecord."""
  try:
    return STEM_VALUES[value]
  except (KeyError, TypeError):  # a list is no key
    raise BadRecord(where, f"stem is {value!r}, not true or false") from None


def task_of(record: Record) -> str:
  """One of TASKS."""
  text = isinstance(record, Understanding) and not record.pictures
  return "text" if text else record.task


def pictures_of(record: Record) -> tuple[Any, ...]:
  """The record's pictures, in the order in which they are stored."""
  if isinstance(record, Understanding):
    return record.pictures
  if isinstance(record, Drawing):
    return (record.picture,)
  return (*record.sources, record.target)


def check(stored: Stored, where: str) -> None:
  """Raises BadRecord for a record that training could not use.

  Pictures are not decoded here: see images.load_picture.
  """
  record = stored.record
  if not 0 <= stored.weight <= MAX_WEIGHT:
    raise BadRecord(where, f"weight {stored.weight!r} is not in 0..1000")
  if not isinstance(record, Understanding) and None in stored.pictures:
    raise BadRecord(where, f"a record of {stored.task} lacks its picture")
  for picture in stored.pictures:
    if not isinstance(picture, bytes) or not picture:
      raise BadRecord(where, "a picture has no bytes")
    if len(picture) > images.MAX_BYTES:
      raise BadRecord(
        where, f"a picture has more than {images.MAX_BYTES} bytes"
      )
  check_texts(record, where)


def check_texts(record: Record, where: str) -> None:
  """The part of `check` that does not ask where the pictures are."""
  if isinstance(record, Understanding):
    _check_turns(record, where)
  elif isinstance(record, Drawing):
    _check_text(record.prompt, "the caption", where)
  else:
    _check_text(record.instruction, "the instruction", where)


def _check_turns(record: Understanding, where: str) -> None:
  if not record.turns:
    raise BadRecord(where, "a conversation without turns")
  for i, (question, answer) in enumerate(record.turns):
    # A first question may be nothing but its picture.
    if not record.pictures:
      _check_text(question, f"question {i}", where)
    _check_text(answer, f"answer {i}", where)
  marks = sum(question.count(IMAGE_MARK) for question, _ in record.turns)
  if marks and marks != len(record.pictures):
    raise BadRecord(
      where, f"{marks} {IMAGE_MARK} marks for {len(record.pictures)} pictures"
    )


def _check_text(text: str, name: str, where: str) -> None:
  if not isinstance(text, str):
    raise BadRecord(where, f"{name} is {text!r}, not a text")
  if not text.strip():
    raise BadRecord(where, f"{name} is empty")
  try:
    text.encode("utf-8")
  except UnicodeEncodeError as error:  # JSON can spell half a character
    raise BadRecord(where, f"{name} is not Unicode: {error}") from error


def encode(stored: Stored, where: str = "") -> bytes:
  """Bytes for the disk, after `check`; BadRecord where it fails.

  >>> record = Drawing(prompt="red", picture=b"PNG...", id="7")
  >>> data = encode(Stored(record=record))
  >>> data[8:-6]
  b'{"task":"drawing","id":"7","prompt":"red","pictures":[6]}'
  >>> decode(data).record == record
  True
  """
  check(stored, where)
  record = stored.record
  header: dict[str, Any] = {"task": stored.task, "id": record.id}
  if isinstance(record, Understanding):
    header["turns"] = [list(turn) for turn in record.turns]
    if record.stem not in _STEM_WORDS:
      raise BadRecord(where, f"its STEM label {record.stem} is none")
    if record.stem != STEM_UNKNOWN:
      header["stem"] = _STEM_WORDS[record.stem]
  elif isinstance(record, Drawing):
    header["prompt"] = record.prompt
  else:
    header["instruction"] = record.instruction
  if stored.weight != 1.0:
    header["weight"] = stored.weight
  if stored.provenance:
    header["provenance"] = dict(stored.provenance)
  if stored.pictures:
    header["pictures"] = [len(picture) for picture in stored.pictures]
  try:
    # NaN and Infinity are no JSON, and no other reader's.
    text = json.dumps(
      header, ensure_ascii=False, separators=(",", ":"), allow_nan=False
    )
    data = text.encode("utf-8")
  except UnicodeEncodeError as error:
    raise BadRecord(
      where, f"a text, or the name of its file, is not Unicode: {error}"
    ) from error
  except (TypeError, ValueError) as error:
    raise BadRecord(where, f"no JSON can be made of it: {error}") from error
  if len(data) > MAX_HEADER:
    raise BadRecord(where, f"{len(data)} bytes of text exceed {MAX_HEADER}")
  return b"".join([_PREFIX.pack(MAGIC, len(data)), data, *stored.pictures])


def decode(data: bytes, where: str = "") -> Stored:
  """What `encode` was given; BadRecord(where, reason) for anything else."""
  header, start = _header(data, where)
  lengths = header.get("pictures", [])
  if not isinstance(lengths, list) or any(
    type(n) is not int or n < 1 for n in lengths
  ):
    raise BadRecord(where, f"pictures is {lengths!r}, not lengths in bytes")
  if start + sum(lengths) != len(data):
    raise BadRecord(
      where, f"{len(data) - start} bytes of pictures, {sum(lengths)} expected"
    )
  pictures = []
  for length in lengths:
    pictures.append(data[start : start + length])
    start += length
  try:
    stored = Stored(
      record=_record(header, tuple(pictures), where),
      weight=_number(header.get("weight", 1.0)),
      provenance=dict(header.get("provenance", {})),
    )
  except KeyError as error:
    raise BadRecord(
      where, f"key {error} is missing; the header has {sorted(header)}"
    ) from error
  except (TypeError, ValueError) as error:
    if isinstance(error, BadRecord):
      raise
    raise BadRecord(where, f"a header of wrong types: {error}") from error
  check(stored, where)
  return stored


def _header(data: bytes, where: str) -> tuple[dict[str, Any], int]:
  """The header, and where the pictures begin."""
  if len(data) < _PREFIX.size:
    raise BadRecord(where, f"{len(data)} bytes are too few for a record")
  magic, length = _PREFIX.unpack_from(data)
  if magic != MAGIC:
    raise BadRecord(where, f"it begins with {magic!r}, a record with {MAGIC!r}")
  end = _PREFIX.size + length
  if length > MAX_HEADER and end <= len(data):
    raise BadRecord(where, f"a header of {length} bytes exceeds {MAX_HEADER}")
  if end > len(data):
    raise BadRecord(where, f"a header of {length} bytes in {len(data)} bytes")
  try:
    header = json.loads(data[_PREFIX.size : end].decode("utf-8"))
  except (ValueError, RecursionError) as error:
    raise BadRecord(where, f"the header is no JSON: {error}") from error
  if not isinstance(header, dict):
    raise BadRecord(where, f"the header is a {type(header).__name__}")
  return header, end


def _record(
  header: Mapping[str, Any], pictures: tuple[bytes, ...], where: str
) -> Record:
  task, name = header["task"], str(header.get("id") or where)
  if task not in TASKS:
    raise BadRecord(where, f"the task {task!r} is unknown; known are {TASKS}")
  kind = RECORDS.get(task)  # of "text" none
  edit = kind if kind is not None and issubclass(kind, Editing) else None
  least = 2 if edit else {"text": 0}.get(task, 1)
  most = {"text": 0, "drawing": 1}.get(task, len(pictures))
  if not least <= len(pictures) <= most:
    raise BadRecord(where, f"{len(pictures)} pictures in a record of {task}")
  if task == "drawing":
    return Drawing(prompt=header["prompt"], picture=pictures[0], id=name)
  if edit:
    return edit(
      sources=pictures[:-1],
      instruction=header["instruction"],
      target=pictures[-1],
      id=name,
    )
  stem = stem_code(header.get("stem"), where)
  turns = tuple((question, answer) for question, answer in header["turns"])
  if not all(isinstance(text, str) for turn in turns for text in turn):
    raise BadRecord(where, "turns are not pairs of texts")
  return Understanding(pictures=pictures, turns=turns, stem=stem, id=name)


def _number(value: Any) -> float:
  if isinstance(value, bool) or not isinstance(value, (int, float)):
    raise ValueError(f"weight is {value!r}, not a number")
  return value if math.isfinite(value) else -1.0  # which `check` refuses
