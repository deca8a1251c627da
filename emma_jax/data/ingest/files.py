"""Files that hold rows: how they are cut into parts, and a part's rows.

.jsonl .ndjson    a JSON object per line
.json             one list of objects (LLaVA), read without holding it; each
                  also under the other's name
.csv .tsv         a head of column names, and rows, see `delimited`
.parquet          Hugging Face's: pictures as {bytes, path}; needs pyarrow,
                  the extra "data"
.tar .tar.gz ...  WebDataset: files of one key are a row, see `tars`
"""

from collections.abc import Iterator, Sequence
import dataclasses
import json
import os
import re
from typing import IO, Any

from emma_jax.data.ingest import delimited, limits, parquet, tars
from emma_jax.data.pictures.images import BadRecord

# A row, or why there is none, and where it is.
Item = tuple[str, dict[str, Any] | BadRecord]
# Strings whole, so that brackets in them do not count; a lone mark begins one
# that the block does not end.
_TOKENS = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[\[\]{}"]', re.DOTALL)
_STRING_END = re.compile(rb'(?:[^"\\]++|\\.)*+"', re.DOTALL)
_BLOCK = 2**20
_BLANK = b" \t\r\n\xef\xbb\xbf"
# What may stand between the objects of a list; two lists may follow each other.
_BETWEEN = _BLANK + b",[]"
_KINDS = {
  ".jsonl": "jsonl",
  ".ndjson": "jsonl",
  ".json": "json",
  ".csv": "csv",
  ".tsv": "tsv",
  ".parquet": "parquet",
  ".tar": "tar",
  ".tar.gz": "tar",
  ".tgz": "tar",
  ".tar.bz2": "tar",
  ".tbz2": "tar",
  ".tar.xz": "tar",
  ".txz": "tar",
  ".zip": "zip",
}
SUFFIXES = tuple(_KINDS)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
  """A stretch of an input.

  `start` and `stop` count bytes (jsonl, json, csv, tsv), row groups (parquet)
  or rows (folder, zip, tfds, python, records, range); a tar is always whole.
  `first` is the number of the first row. `member`: of a zip, a table in it,
  whose kind is then the part's; or containers.WITHOUT_ROW.
  """

  kind: str
  path: str
  start: int = 0
  stop: int = 0
  first: int = 0
  rows: int | None = None  # where that is known
  member: str = ""


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
  limits.check_stand_in(path)
  if kind in ("jsonl", "json"):
    if _is_list(kind, path):
      return list(_split_list(path, rows))
    return list(_split_lines(path, rows))
  if kind in ("csv", "tsv"):
    return [
      Part(kind=kind, path=path, start=a, stop=b, first=first, rows=count)
      for a, b, first, count in delimited.cuts(kind, path, rows)
    ]
  if kind == "parquet":
    return gather(kind, path, parquet.group_rows(path), rows)
  with open(path, "rb"):  # readable at all?
    return [Part(kind=kind, path=path)]


def read(part: Part) -> Iterator[Item]:
  """The rows of a part, in order."""
  if part.kind == "jsonl":
    yield from _lines(part)
  elif part.kind == "json":
    yield from _elements(part)
  elif part.kind in ("csv", "tsv"):
    yield from delimited.rows(
      part.kind, part.path, part.start, part.stop, part.first
    )
  elif part.kind == "parquet":
    yield from parquet.read(part.path, part.start, part.stop, part.first)
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


def _is_list(kind: str, path: str) -> bool:
  """Whether a file of JSON is one list, rather than lines, by its begin.

  Many write one under the name of the other.
  """
  limits.check_encoding(path, by_lines=False)
  with open(path, "rb") as file:
    first, other = _next_line(file), _next_line(file)
  if kind == "json":
    return not (first.startswith(b"{") and _is_whole(first))
  return first.startswith(b"[") and not (other and _is_whole(first))


def _next_line(file: IO[bytes]) -> bytes:
  """The begin of the next line that is not blank; b"" at the end."""
  while line := file.readline(limits.TEXT + 1):
    if line := line.strip(_BLANK):
      break
  return line


def _is_whole(text: bytes) -> bool:
  return not isinstance(_json(text), Exception)


def _split_lines(path: str, rows: int) -> Iterator[Part]:
  limits.check_encoding(path, by_lines=True)
  start = at = line = first = 0
  with open(path, "rb") as file:
    for size, _ in limits.lines(file):
      at, line = at + size, line + 1
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
  with open(part.path, "rb") as file:
    file.seek(part.start)
    found = limits.lines(file, part.stop - part.start)
    for line, (size, text) in enumerate(found, start=part.first + 1):
      where = f"{part.path}:{line}"
      if text is None:
        yield where, BadRecord(where, limits.too_long(size))
      elif text.strip():
        yield where, parse(text, where)


def parse(text: bytes, where: str) -> dict[str, Any] | BadRecord:
  """One JSON object of bytes."""
  row = _json(text)
  if isinstance(row, Exception):
    return BadRecord(where, f"no JSON: {row}")
  if not isinstance(row, dict):
    return BadRecord(where, f"{type(row).__name__} instead of a JSON object")
  return row


def _json(text: bytes) -> Any:
  """What JSON says, or the error."""
  try:
    return json.loads(text.decode("utf-8-sig"))
  except (ValueError, RecursionError) as error:
    return error


def _split_list(path: str, rows: int) -> Iterator[Part]:
  start = stop = first = count = 0
  with open(path, "rb") as file:
    head = file.read(4096).strip(_BLANK)
  if not head:
    return
  if not head.startswith(b"["):
    raise ValueError(
      f"{path} begins with {head[:20]!r}, not with the '[' of a JSON list, "
      "nor is its first line an object."
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
      where, size = f"{part.path}[{row}]", end - begin
      if size > limits.TEXT:
        yield where, BadRecord(where, limits.too_long(size))
        continue
      file.seek(begin)
      yield where, parse(file.read(size), where)


def spans(
  path: str, start: int, stop: int, depth: int
) -> Iterator[tuple[int, int]]:
  """(begin, end) in bytes of the objects that lie `depth` brackets deep.

  Brackets that do not close make one last span up to `stop`, and what else
  stands between two objects is one; both are no objects and counted as such.
  """
  level, begin, done = 0, start, start
  with open(path, "rb") as file:
    for at, character in _brackets(path, start, stop):
      if character in b"{[":
        if level == depth:
          yield from _stray(file, done, at)
          begin = at
        level += 1
      else:
        level -= 1
        if level == depth:
          yield begin, at + 1
          done = at + 1
    if level > depth:
      yield begin, stop
    else:
      yield from _stray(file, done, stop)


def _stray(file: IO[bytes], start: int, stop: int) -> Iterator[tuple[int, int]]:
  """The span of what stands between objects and is none."""
  text = os.pread(file.fileno(), min(stop - start, limits.TEXT), start)
  begin = start + len(text) - len(text.lstrip(_BETWEEN))
  if text.strip(_BETWEEN):
    whole = len(text) == stop - start
    yield begin, start + len(text.rstrip(_BETWEEN)) if whole else stop


def _brackets(path: str, start: int, stop: int) -> Iterator[tuple[int, bytes]]:
  """(place, bracket) of those outside strings, a block at a time."""
  inside = False  # of a string that began in an earlier block
  with open(path, "rb") as file:
    file.seek(start)
    at, rest = start, b""
    while at < stop:
      more = file.read(min(_BLOCK, stop - at - len(rest)))
      block = rest + more
      done = 0
      if inside:
        end = _STRING_END.match(block)
        inside, done = end is None, end.end() if end else len(block)
      for token in _TOKENS.finditer(block, done):
        if token.group() == b'"':  # it goes on behind the block
          inside = True
          break
        if token.group() in (b"{", b"[", b"}", b"]"):
          yield at + token.start(), token.group()
      # A last backslash belongs to what comes.
      cut = len(block) - len(block.rstrip(b"\\"))
      rest = b"\\" if inside and cut % 2 and more else b""
      at += len(block) - len(rest)
      if not more:
        return
