"""Files that hold rows: how they are cut into parts, and a part's rows.

.jsonl .ndjson    a JSON object per line
.json             one list of objects (LLaVA), read without holding it
.parquet          Hugging Face's: pictures as {bytes, path}; needs pyarrow,
                  the extra "data"
.tar .tar.gz      WebDataset: files of one key are a row, see `tars`
"""

from collections.abc import Iterator, Sequence
import dataclasses
import functools
import json
import mmap
import os
import re
from typing import Any

from emma_jax.data.ingest import tars
from emma_jax.data.pictures.images import BadRecord

# A row, or why there is none, and where it is.
Item = tuple[str, dict[str, Any] | BadRecord]
# Rows of Parquet that are in memory at a time: with pictures, tens of MB.
_BATCH = 16
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


def kind_of(path: str) -> str | None:
  """The kind of a file, by its name's end; None where that tells none."""
  for suffix, kind in _KINDS.items():
    if path.lower().endswith(suffix):
      return kind
  return None


def split(kind: str, path: str, rows: int) -> list[Part]:
  """Cuts a file into parts of about `rows` rows.

  Raises OSError, ValueError or ImportError where it cannot be opened.
  """
  if kind == "jsonl":
    return list(_split_lines(path, rows))
  if kind == "json":
    return list(_split_list(path, rows))
  if kind == "parquet":
    meta = _parquet(path).metadata
    groups = [meta.row_group(i).num_rows for i in range(meta.num_row_groups)]
    return gather(kind, path, groups, rows)
  with open(path, "rb"):  # readable at all?
    return [Part(kind=kind, path=path)]


def read(part: Part) -> Iterator[Item]:
  """The rows of a part, in order."""
  if part.kind == "jsonl":
    yield from _lines(part)
  elif part.kind == "json":
    yield from _elements(part)
  elif part.kind == "parquet":
    yield from _row_groups(part.path, part.start, part.stop, part.first)
  else:
    yield from tars.read(part.path)


def gather(
  kind: str, path: str, groups: Sequence[int], rows: int
) -> list[Part]:
  """Groups of so many rows in parts that just reach `rows`.

  >>> [(x.start, x.stop, x.first, x.rows)
  ...  for x in gather("parquet", "x.parquet", [4, 4, 9], 6)]
  [(0, 2, 0, 8), (2, 3, 8, 9)]
  """
  cuts, start, first, count = [], 0, 0, 0
  for i, size in enumerate(groups, start=1):
    count += size
    if count >= rows or (i == len(groups) and count):
      cuts.append(
        Part(kind=kind, path=path, start=start, stop=i, first=first, rows=count)
      )
      start, first, count = i, first + count, 0
  return cuts


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
  with (
    open(path, "rb") as file,
    mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
  ):
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


def _row_groups(path: str, start: int, stop: int, first: int) -> Iterator[Item]:
  """A row group whose data are broken ends with one BadRecord; others go on."""
  file = _parquet(path)
  for group in range(start, stop):
    rows = file.metadata.row_group(group).num_rows
    row = first
    try:
      for batch in file.iter_batches(batch_size=_BATCH, row_groups=[group]):
        for i in range(batch.num_rows):
          where = f"{path}[{row}]"
          try:
            yield where, batch.slice(i, 1).to_pylist()[0]
          except ValueError as error:  # a text that is no UTF-8
            yield where, BadRecord(where, f"no row: {error}")
          row += 1
    except (OSError, ValueError) as error:  # pyarrow's errors are both
      where = f"{path}[{row}]"
      left = first + rows - row
      reason = f"{left} rows of row group {group} cannot be read: {error}"
      yield where, BadRecord(where, reason)
    first += rows


@functools.lru_cache(maxsize=2)
def _parquet(path: str) -> Any:
  try:
    import pyarrow.parquet
  except ImportError as error:
    raise ImportError(
      f"{path}: Parquet needs the package pyarrow; pip install pyarrow, or "
      "emma-jax with its extra `data`."
    ) from error
  try:
    # Not mapped and not buffered ahead: a row group may be larger than memory.
    return pyarrow.parquet.ParquetFile(path, pre_buffer=False)
  except pyarrow.ArrowInvalid as error:
    raise ValueError(f"{path} is no Parquet file: {error}") from error
