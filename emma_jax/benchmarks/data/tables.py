"""Rows by number out of files that are larger than memory.

A table knows its columns and how many rows it has; a row is read when it is
asked for. Texts stay as they are in the file: "NA" and "None" are texts.
"""

from collections.abc import Iterator, Mapping, Sequence
import csv
import functools
import json
import os
import sys
from typing import Any, Protocol

import numpy as np

from emma_jax.benchmarks.items import BadItem

# A row group up to that is kept whole; of a larger one, so many rows are.
_WHOLE, _FEW = 64 * 2**20, 8
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
      for text in file:
        parts.append(text)
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
    lines = raw.decode("utf-8").splitlines(keepends=True)
    return list(csv.reader(lines, delimiter=comma, strict=True))
  except (UnicodeDecodeError, csv.Error):
    raise BadItem(f"{where}: no row of a table: {first}.") from first


class Lines:
  """JSON lines, or a JSON list of objects."""

  def __init__(self, path: str):
    """Raises BadItem for a line that is no object."""
    self.path, self._rows, self._at = path, [], []
    self._unit = "entry" if path.lower().endswith(".json") else "line"
    with open(path, encoding="utf-8-sig") as file:
      if self._unit == "entry":
        found = _json(file.read(), path)
        rows = list(enumerate(_listed(found, path), 1))
      else:
        rows = [
          (n, _json(text, f"{path}, line {n}"))
          for n, text in enumerate(file, 1)
          if text.strip()
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


def _json(text: str, where: str) -> Any:
  try:
    return json.loads(text)
  except ValueError as error:
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


class Columns:
  """Parquet or Arrow, of one file or of a split's shards.

  Of Parquet one row group is in memory at a time, of Arrow what is looked at.
  """

  def __init__(self, paths: Sequence[str]):
    """Raises BadItem for a damaged file, ImportError without pyarrow."""
    self.path = os.path.dirname(paths[0]) if len(paths) > 1 else paths[0]
    self._files = [_open(path) for path in paths]
    self.columns = tuple(self._files[0].names)
    for other in self._files[1:]:
      if set(other.names) != set(self.columns):
        raise BadItem(
          f"{other.path} has the columns {sorted(other.names)}, "
          f"{self._files[0].path} {sorted(self.columns)}; they are of "
          "different sets."
        )
    self._ends = np.cumsum([f.rows for f in self._files])

  def __len__(self) -> int:
    return int(self._ends[-1])

  def _place(self, index: int) -> tuple[Any, int]:
    if index < 0 or index >= len(self):
      raise IndexError(index)
    file = int(np.searchsorted(self._ends, index, side="right"))
    first = self._ends[file] - self._files[file].rows
    return self._files[file], index - first

  def __getitem__(self, index: int) -> dict[str, Any]:
    file, row = self._place(index)
    return file.row(int(row))

  def column(self, name: str) -> list[Any]:
    """Of all rows, without reading the others."""
    return [x for file in self._files for x in file.column(name)]

  def where(self, index: int) -> str:
    """File and row."""
    file, row = self._place(index)
    return f"{file.path}[{int(row)}]"


def _open(path: str) -> Any:
  try:
    import pyarrow
  except ImportError as error:
    raise ImportError(
      f"{path}: Parquet and Arrow need the package pyarrow; pip install "
      "pyarrow, or emma-jax with its extra `data`."
    ) from error
  try:
    return (_Arrow if path.endswith(".arrow") else _Parquet)(path)
  except (pyarrow.ArrowInvalid, OSError) as error:
    raise BadItem(
      f"{path} cannot be read: {error}. Download it again."
    ) from error


class _Parquet:
  """Rows of one file; a row group that is large is read a few rows at a time,
  from its begin: in the file's order at the least cost."""

  def __init__(self, path: str):
    import pyarrow.parquet

    self.path = path
    self._file = pyarrow.parquet.ParquetFile(
      path, pre_buffer=False, buffer_size=2**20
    )
    meta = self._file.metadata
    self.rows = meta.num_rows
    self.names = list(self._file.schema_arrow.names)
    groups = [meta.row_group(i) for i in range(meta.num_row_groups)]
    self._ends = np.cumsum([g.num_rows for g in groups] or [0])
    self._bytes = [g.total_byte_size for g in groups]
    self._group = functools.lru_cache(maxsize=1)(self._file.read_row_group)
    # Of a large group: its number, the next batch's first row, and the rest.
    self._cursor: tuple[int, int, Any, Iterator[Any]] | None = None

  def row(self, index: int) -> dict[str, Any]:
    group = int(np.searchsorted(self._ends, index, side="right"))
    at = index - (int(self._ends[group - 1]) if group else 0)
    if self._bytes[group] <= _WHOLE:
      return self._group(group).slice(at, 1).to_pylist()[0]
    here = self._cursor
    if here is None or here[0] != group or at < here[1]:
      batches = self._file.iter_batches(batch_size=_FEW, row_groups=[group])
      here = (group, 0, next(batches), batches)
    _, first, batch, batches = here
    while at >= first + batch.num_rows:
      first, batch = first + batch.num_rows, next(batches)
    self._cursor = (group, first, batch, batches)
    return batch.slice(at - first, 1).to_pylist()[0]

  def column(self, name: str) -> list[Any]:
    return self._file.read(columns=[name]).column(0).to_pylist()


class _Arrow:
  """As `datasets` saves them (a stream), or Feather (a file)."""

  def __init__(self, path: str):
    import pyarrow

    self.path = path
    source = pyarrow.memory_map(path)
    try:
      self._table = pyarrow.ipc.open_stream(source).read_all()
    except pyarrow.ArrowInvalid:
      self._table = pyarrow.ipc.open_file(source).read_all()
    self.rows, self.names = self._table.num_rows, self._table.column_names

  def row(self, index: int) -> dict[str, Any]:
    return self._table.slice(index, 1).to_pylist()[0]

  def column(self, name: str) -> list[Any]:
    return self._table.column(name).to_pylist()
