"""Files that hold rows: how they are cut into parts, and a part's rows.

A part is small enough to be done again after a crash and becomes one shard. Its
rows are read one after the other; what cannot be read comes as a BadRecord in
its place, and the rest goes on where the container allows it.

  .jsonl .ndjson    a JSON object per line
  .json             one list of objects (LLaVA), read without holding it
  .parquet          Hugging Face's: pictures as {bytes, path}; needs pyarrow
  .tar .tar.gz      WebDataset: files of one key are a row, see `tars`
  tfds:NAME:SPLIT   a TensorFlow Datasets builder (no TensorFlow needed)
  python:MODULE:F   F() of a module gives a sequence of dicts
  records:DIR       a folder of records: rows {"stored", "sizes"}
  range:COUNT       rows {"index": 0}, {"index": 1}, ...
"""

from collections.abc import Iterator
import dataclasses
import json
import mmap
import os
import re
from typing import Any

from emma_jax.data.formats import tables, tars
from emma_jax.data.images import BadRecord

# A row, or why there is none, and where it is.
Item = tuple[str, dict[str, Any] | BadRecord]
# Strings whole, so that brackets in them do not count.
_TOKENS = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[\[\]{}]', re.DOTALL)
_KINDS = {
  ".jsonl": "jsonl",
  ".ndjson": "jsonl",
  ".json": "json",
  ".parquet": "parquet",
  ".tar": "tar",
  ".tar.gz": "tar",
  ".tgz": "tar",
}
SUFFIXES = tuple(_KINDS)
# Kinds that are named before a colon instead of by a file's name.
NAMED = ("tfds", "python", "records", "range")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
  """A stretch of an input.

  `start` and `stop` count bytes (jsonl, json), row groups (parquet) or rows
  (tfds, python, records, range); a tar is always whole. `first` is the number
  of the first row.
  """

  kind: str
  path: str
  start: int = 0
  stop: int = 0
  first: int = 0
  rows: int | None = None  # where that is known


def kind_of(path: str) -> str:
  """The kind of an input; ValueError where its name tells none."""
  head = path.partition(":")[0]
  if head in NAMED:
    return head
  for suffix, kind in _KINDS.items():
    if path.lower().endswith(suffix):
      return kind
  raise ValueError(
    f"{path}: the name ends in none of {sorted(_KINDS)}, and is neither "
    "tfds:NAME:SPLIT nor python:MODULE:FUNCTION nor records:DIR."
  )


def split(path: str, rows: int, options: tables.Options) -> list[Part]:
  """Cuts an input into parts of about `rows` rows.

  Raises OSError, ValueError or ImportError where it cannot be opened.
  """
  kind = kind_of(path)
  if kind == "jsonl":
    return list(_split_lines(path, rows))
  if kind == "json":
    return list(_split_list(path, rows))
  if kind == "tar":
    with open(path, "rb"):  # readable at all?
      return [Part(kind=kind, path=path)]
  if kind == "range":
    return list(_split_range(path, rows))
  cuts = tables.split(kind, path, rows, options)
  return [
    Part(
      kind=kind,
      path=path,
      start=c.start,
      stop=c.stop,
      first=c.first,
      rows=c.rows,
    )
    for c in cuts
  ]


def read(part: Part, options: tables.Options) -> Iterator[Item]:
  """The rows of a part, in order."""
  if part.kind == "jsonl":
    yield from _lines(part)
  elif part.kind == "json":
    yield from _elements(part)
  elif part.kind == "tar":
    yield from tars.read(part.path)
  elif part.kind == "range":
    for index in range(part.start, part.stop):
      yield f"{part.path}[{index}]", {"index": index}
  else:
    yield from tables.read(
      part.kind, part.path, part.start, part.stop, part.first, options
    )


def _split_range(path: str, rows: int) -> Iterator[Part]:
  count = path.partition(":")[2]
  if not count.isdecimal() or not int(count):
    raise ValueError(f"{path}: expected range:COUNT, COUNT at least 1.")
  for start in range(0, int(count), rows):
    stop = min(start + rows, int(count))
    yield Part(
      kind="range",
      path=path,
      start=start,
      stop=stop,
      first=start,
      rows=stop - start,
    )


def _split_lines(path: str, rows: int) -> Iterator[Part]:
  start = at = line = first = 0
  with open(path, "rb") as file:
    for text in file:
      at, line = at + len(text), line + 1
      if line - first == rows:
        yield Part(
          kind="jsonl", path=path, start=start, stop=at, first=first, rows=rows
        )
        start, first = at, line
  if at > start:
    yield Part(
      kind="jsonl",
      path=path,
      start=start,
      stop=at,
      first=first,
      rows=line - first,
    )


def _lines(part: Part) -> Iterator[Item]:
  at, line = part.start, part.first
  with open(part.path, "rb") as file:
    file.seek(at)
    while at < part.stop:
      text = file.readline()
      if not text:
        break  # shorter than it was when it was cut
      at, line = at + len(text), line + 1
      if text.strip():
        where = f"{part.path}:{line}"
        yield where, parse(text, where)


def parse(text: bytes, where: str) -> dict[str, Any] | BadRecord:
  """One JSON object of bytes."""
  try:
    row = json.loads(text.decode("utf-8-sig"))
  except (ValueError, RecursionError) as error:
    return BadRecord(where, f"no JSON: {error}")
  if not isinstance(row, dict):
    return BadRecord(where, f"{type(row).__name__} instead of a JSON object")
  return row


def _split_list(path: str, rows: int) -> Iterator[Part]:
  start = stop = first = count = 0
  with open(path, "rb") as file:
    head = file.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()
  if not head.startswith(b"["):
    raise ValueError(
      f"{path} begins with {head[:20]!r}, not with the '[' of a JSON list; "
      "name JSON lines .jsonl."
    )
  for begin, end in spans(path, 0, os.path.getsize(path), depth=1):
    if count % rows == 0:
      if count:
        yield Part(
          kind="json", path=path, start=start, stop=stop, first=first, rows=rows
        )
      start, first = begin, count
    stop, count = end, count + 1
  if count > first:
    yield Part(
      kind="json",
      path=path,
      start=start,
      stop=stop,
      first=first,
      rows=count - first,
    )


def _elements(part: Part) -> Iterator[Item]:
  with open(part.path, "rb") as file:
    found = spans(part.path, part.start, part.stop, depth=0)
    for row, (begin, end) in enumerate(found, start=part.first):
      file.seek(begin)
      where = f"{part.path}[{row}]"
      yield where, parse(file.read(end - begin), where)


def spans(
  path: str, start: int, stop: int, depth: int
) -> Iterator[tuple[int, int]]:
  """(begin, end) in bytes of the objects that lie `depth` brackets deep.

  Brackets that do not close make one last span up to `stop`, which will be no
  JSON and is counted as such.
  """
  level, begin = 0, start
  with open(path, "rb") as file:
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
      for token in _TOKENS.finditer(data, start, stop):
        character = token.group()[:1]
        if character in b"{[":
          if level == depth:
            begin = token.start()
          level += 1
        elif character in b"}]":
          level -= 1
          if level == depth:
            yield begin, token.end()
  if level > depth:
    yield begin, stop
