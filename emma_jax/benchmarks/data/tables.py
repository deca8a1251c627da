"""Rows by number out of files that are larger than memory.

A table knows its columns and how many rows it has; a row is read when it is
asked for. Texts stay as they are in the file: "NA" and "None" are texts.
"""

from collections.abc import Iterator, Mapping, Sequence
import csv
import io
import json
import sys
from typing import IO, Any, Protocol

import numpy as np

from emma_jax.benchmarks.items import BadItem
from emma_jax.data.ingest import limits

# A field holds whole pictures in base64.
csv.field_size_limit(min(sys.maxsize, 2**31 - 1))


class Table(Protocol):
  """Rows of named columns."""

  path: str
  columns: tuple[str, ...]

  def __len__(self) -> int: ...

  def __getitem__(self, index: int) -> Mapping[str, Any]:
    """A row, all its columns."""
    ...

  def column(self, name: str) -> Sequence[Any]:
    """One column of all rows, without the others."""
    ...

  def where(self, index: int) -> str:
    """File and row, for messages."""
    ...


class Tsv:
  """VLMEvalKit's files, or any of tab or comma, as `csv` and pandas write them.

  Opening reads the file once, a record at a time, and keeps where each begins.
  """

  def __init__(self, path: str, keep: Sequence[str] = ()):
    """Raises BadItem for a file that ends within a row, or has a row of more or
    fewer fields than its header.

    Args:
      path: .tsv or .csv.
      keep: columns to keep in memory, as `column` gives them.
    """
    self.path = path
    self._comma = "," if path.lower().endswith(".csv") else "\t"
    self._starts: list[int] = []
    self._lines: list[int] = []
    self._kept: dict[str, list[str]] = {}
    self._scan(keep)
    self._begins = np.array(self._starts, np.int64)
    del self._starts

  def _scan(self, keep: Sequence[str]) -> None:
    records = self._records()
    first = next(records, None)
    if first is None:
      raise BadItem(f"{self.path} is empty; download it again.")
    self.columns = tuple(self._fields(first[2], first[1]))
    self._kept = {name: [] for name in keep if name in self.columns}
    places = [(self.columns.index(n), x) for n, x in self._kept.items()]
    for start, line, raw in records:
      fields = self._fields(raw, line)
      if len(fields) != len(self.columns):
        raise BadItem(
          f"{self.path}, line {line}: a row of {len(fields)} fields; the "
          f"header has {len(self.columns)} ({', '.join(self.columns)}). The "
          "file is damaged or cut; download it again."
        )
      self._starts.append(start)
      self._lines.append(line)
      for place, values in places:
        values.append(fields[place])

  def _records(self) -> Iterator[tuple[int, int, bytes]]:
    """(offset, line, bytes) of each: a quoted field may hold line ends."""
    at, line, start, begun = 0, 1, 0, 1
    parts: list[bytes] = []
    quotes = 0
    with open(self.path, "rb") as file:
      while text := file.readline(limits.ROW):
        parts.append(text)
        if sum(map(len, parts)) >= limits.ROW:
          raise BadItem(
            f"{self.path}, line {begun}: a row of more than {limits.ROW:,} "
            "bytes; the file is damaged."
          )
        quotes += text.count(b'"')
        at, line = at + len(text), line + 1
        if quotes % 2:
          continue
        raw = b"".join(parts) if len(parts) > 1 else text
        if raw.strip():
          yield start, begun, raw
        parts, quotes, start, begun = [], 0, at, line
    if parts:
      raise BadItem(
        f"{self.path}, line {begun}: the file ends within a quoted field; it "
        "is cut. Download it again."
      )

  def _fields(self, raw: bytes, line: int) -> list[str]:
    try:
      text = raw.decode("utf-8-sig" if line == 1 else "utf-8")
      rows = list(csv.reader([text], delimiter=self._comma, strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
      # csv reads a field over several lines only from several lines.
      rows = _several(raw, self._comma, f"{self.path}, line {line}", error)
    if len(rows) > 1:
      raise BadItem(
        f"{self.path}, line {line}: a quotation mark within a field joins "
        f"{len(rows)} rows. Quote such fields, and double the marks in them, "
        "as csv and pandas do."
      )
    return rows[0] if rows else []

  def __len__(self) -> int:
    return len(self._begins)

  def __getitem__(self, index: int) -> dict[str, str]:
    begin = int(self._begins[index])
    last = index + 1 == len(self)
    size = -1 if last else int(self._begins[index + 1]) - begin
    with open(self.path, "rb") as file:
      file.seek(begin)
      raw = file.read(size)
    fields = self._fields(raw, self._lines[index])
    return dict(zip(self.columns, fields, strict=True))

  def column(self, name: str) -> list[str]:
    """Of all rows; those of `keep` at once, others by reading the file."""
    if name in self._kept:
      return self._kept[name]
    return [self[i][name] for i in range(len(self))]

  def where(self, index: int) -> str:
    """File and line."""
    return f"{self.path}, line {self._lines[index]}"


def _several(
  raw: bytes, comma: str, where: str, first: Exception
) -> list[list[str]]:
  try:
    # Not by splitlines: U+2028 and the like are texts.
    lines = io.StringIO(raw.decode("utf-8"), newline="")
    return list(csv.reader(lines, delimiter=comma, strict=True))
  except (UnicodeDecodeError, csv.Error):
    raise BadItem(f"{where}: no row of a table: {first}.") from first


class Lines:
  """JSON lines, or a JSON list of objects."""

  def __init__(self, path: str):
    """Raises BadItem for a line that is no object."""
    self.path, self._rows, self._at = path, [], []
    self._unit = "entry" if path.lower().endswith(".json") else "line"
    try:
      limits.check_encoding(path, by_lines=self._unit == "line")
    except ValueError as error:
      raise BadItem(str(error)) from error
    with open(path, "rb") as file:
      if self._unit == "entry":
        found = _json(_whole(file, path), path)
        rows = list(enumerate(_listed(found, path), 1))
      else:
        rows = [
          (n, _line(size, text, f"{path}, line {n}"))
          for n, (size, text) in enumerate(limits.lines(file), 1)
          if text is None or text.strip()
        ]
      for n, row in rows:
        if not isinstance(row, dict):
          raise BadItem(
            f"{path}, {self._unit} {n}: {row!r:.40} is no JSON object."
          )
        self._rows.append(row)
        self._at.append(n)
    names: dict[str, None] = {}
    for row in self._rows:
      names.update(dict.fromkeys(row))
    self.columns = tuple(names)

  def __len__(self) -> int:
    return len(self._rows)

  def __getitem__(self, index: int) -> dict[str, Any]:
    return self._rows[index]

  def column(self, name: str) -> list[Any]:
    """None where a row lacks it."""
    return [row.get(name) for row in self._rows]

  def where(self, index: int) -> str:
    """File and line, or which of a list's entries."""
    return f"{self.path}, {self._unit} {self._at[index]}"


def _whole(file: IO[bytes], path: str) -> bytes:
  """A file of JSON, all of it."""
  text = file.read(limits.ROW + 1)
  if len(text) > limits.ROW:
    raise BadItem(
      f"{path} has more than {limits.ROW:,} bytes; make it JSON lines."
    )
  return text


def _line(size: int, text: bytes | None, where: str) -> Any:
  if text is None:
    raise BadItem(f"{where}: {limits.too_long(size)}.")
  return _json(text, where)


def _json(text: bytes, where: str) -> Any:
  try:
    return json.loads(text.decode("utf-8-sig"))
  except (ValueError, RecursionError) as error:
    raise BadItem(f"{where}: no JSON: {error}.") from error


def _listed(found: Any, path: str) -> list[Any]:
  """A list, or an object of objects, each with its key as `key`."""
  if isinstance(found, list):
    return found
  if isinstance(found, dict) and all(
    isinstance(x, dict) for x in found.values()
  ):
    return [{"key": key} | row for key, row in found.items()]
  raise BadItem(f"{path} is neither a list nor an object of rows.")
