"""Tables of Parquet and Arrow, a row at a time out of large files.

What a file expands to is asked before it is read: see data/ingest/parquet.py.
"""

from collections.abc import Iterator, Sequence
import functools
import importlib.util
import os
from typing import Any

import numpy as np

from emma_jax.benchmarks.items import BadItem
from emma_jax.data.ingest import limits, parquet

# A row group up to that is kept whole; of a larger one, so many rows are.
_WHOLE, _FEW = 64 * 2**20, 8


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
  if importlib.util.find_spec("pyarrow") is None:
    raise ImportError(
      f"{path}: Parquet and Arrow need the package pyarrow; pip install "
      "pyarrow, or emma-jax with its extra `data`."
    )
  try:
    return (_Arrow if path.endswith(".arrow") else _Parquet)(path)
  except (ValueError, OSError) as error:  # pyarrow's are both
    raise BadItem(
      f"{path} cannot be read: {error}. Download it again."
    ) from error


class _Parquet:
  """Rows of one file; a row group that is large is read a few rows at a time,
  from its begin: in the file's order at the least cost."""

  def __init__(self, path: str):
    self.path = path
    meta = parquet.opened(path).metadata
    self._meta = meta
    self.rows = meta.num_rows
    self.names = list(parquet.opened(path).schema_arrow.names)
    groups = [meta.row_group(i) for i in range(meta.num_row_groups)]
    self._ends = np.cumsum([g.num_rows for g in groups] or [0])
    self._bytes = [g.total_byte_size for g in groups]
    self._group = functools.lru_cache(maxsize=1)(self._read_group)
    self._opened = functools.lru_cache(maxsize=64)(self._open_group)
    # Of a large group: its number, the next batch's first row, and the rest.
    self._cursor: tuple[int, int, Any, Iterator[Any]] | None = None

  def row(self, index: int) -> dict[str, Any]:
    group = int(np.searchsorted(self._ends, index, side="right"))
    at = index - (int(self._ends[group - 1]) if group else 0)
    file, is_shared = self._opened(group)
    if self._bytes[group] <= _WHOLE and not is_shared:
      return self._taken(self._group(group).slice(at, 1), index)
    here = self._cursor
    if here is None or here[0] != group or at < here[1]:
      batches = file.iter_batches(
        batch_size=1 if is_shared else _FEW, row_groups=[group]
      )
      here = (group, 0, next(batches), batches)
    _, first, batch, batches = here
    while at >= first + batch.num_rows:
      first, batch = first + batch.num_rows, next(batches)
    self._cursor = (group, first, batch, batches)
    return self._taken(batch.slice(at - first, 1), index)

  def column(self, name: str) -> list[Any]:
    values: list[Any] = []
    size = 0
    for group in range(len(self._bytes)):
      file, _ = self._opened(group)
      table = file.read_row_group(group, columns=[name])
      size += sum(map(parquet.num_bytes, table.column(0).chunks))
      if size > limits.ROW:
        raise BadItem(
          f"{self.path}: the column {name} expands to {size:,} bytes; "
          f"{limits.ROW:,} are read."
        )
      values += table.column(0).to_pylist()
    return values

  def _read_group(self, group: int) -> Any:
    return self._opened(group)[0].read_row_group(group)

  def _open_group(self, group: int) -> tuple[Any, bool]:
    """The file for a row group's rows, and whether these share large values."""
    try:
      columns = parquet.check(self.path, self._meta, group)
    except ValueError as error:
      raise BadItem(f"{self.path}, row group {group}: {error}.") from error
    shared = parquet.shared(columns)
    return parquet.opened(self.path, shared), bool(shared)

  def _taken(self, row: Any, index: int) -> dict[str, Any]:
    arrays = [
      chunk
      for column in row.columns
      for chunk in getattr(column, "chunks", [column])
    ]
    size = sum(map(parquet.num_bytes, arrays))
    if size > limits.ROW:
      raise BadItem(
        f"{self.path}[{index}]: a row of {size:,} bytes; {limits.ROW:,} are "
        "read."
      )
    return row.to_pylist()[0]


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
