"""Rows of Parquet, whose sizes are asked before anything is decompressed.

A page's header says what it expands to, and what the footer says is not relied
on. Values that many rows share stay shared until a row is taken, which is
measured first: a file of five kilobytes may stand for gigabytes.
"""

from collections.abc import Iterator
import functools
import os
from typing import IO, Any, NamedTuple

from emma_jax.data.ingest import limits, thrift
from emma_jax.data.pictures import budget
from emma_jax.data.pictures.bad_record import BadRecord

# Rows that are in memory at a time: with pictures, tens of MB.
_BATCH = 16
# A row group that gives more than so many times the file is a bomb: rows may
# share a picture, but not for ever.
_RATIO = 1000
# Values of a kind of its own size, with what says where they belong.
_VALUE = 12
# A header of a page, with the smallest and largest value of its column.
_MAX_HEADER = 2**20
_DICTIONARY_PAGE = 2
_BYTE_ARRAY = "BYTE_ARRAY"

Item = tuple[str, dict[str, Any] | BadRecord]


class Column(NamedTuple):
  """What the pages of a column expand to, in a row group or several."""

  page: int  # bytes of the largest, apart from the dictionary
  dictionary: int  # bytes of the values that rows share
  values: int  # of all rows


def group_rows(path: str) -> list[int]:
  """Rows of each row group. Raises OSError, ValueError or ImportError."""
  meta = opened(path).metadata
  return [meta.row_group(i).num_rows for i in range(meta.num_row_groups)]


def read(path: str, start: int, stop: int, first: int) -> Iterator[Item]:
  """Rows of the row groups from `start` to `stop`, numbered from `first`.

  A row group whose data are broken ends with one BadRecord; others go on.
  """
  meta = opened(path).metadata
  for group in range(start, stop):
    count = meta.row_group(group).num_rows
    row = first
    try:
      for item in _group(path, group):
        where = f"{path}[{row}]"
        if isinstance(item, BadRecord):
          item = BadRecord(where, item.reason)
        yield where, item
        row += 1
    except (OSError, ValueError, MemoryError) as error:  # pyarrow's are these
      where = f"{path}[{row}]"
      left = first + count - row
      reason = f"{left} rows of row group {group} cannot be read: {error}"
      yield where, BadRecord(where, reason)
    first += count


def _group(path: str, group: int) -> Iterator[dict[str, Any] | BadRecord]:
  columns = check(path, opened(path).metadata, group)
  file = opened(path, shared(columns))
  # What a row may hold besides what is shared: a page or two.
  size = max([1, *(c.dictionary for c in columns.values())])
  batch_rows = max(1, min(_BATCH, budget.HEAVY // size))
  held = sum(c.page + c.dictionary for c in columns.values())
  most = limits.FREE + _RATIO * os.path.getsize(path)
  with budget.holding(held):
    given = 0
    for batch in file.iter_batches(batch_size=batch_rows, row_groups=[group]):
      for i in range(batch.num_rows):
        row = batch.slice(i, 1)
        size = sum(map(num_bytes, row.columns))
        given += size
        if given > most:
          raise limits.Bomb(
            f"they expand to more than {_RATIO} times the size of the file"
          )
        yield _row(row, size)


def _row(batch: Any, size: int) -> dict[str, Any] | BadRecord:
  """The one row of a batch, which has so many bytes."""
  if size > limits.ROW:
    return BadRecord("", f"a row of {size:,} bytes; {limits.ROW:,} are read")
  try:
    row: dict[str, Any] = batch.to_pylist()[0]
  except ValueError as error:  # a text that is no UTF-8
    return BadRecord("", f"no row: {error}")
  return row


def num_bytes(array: Any) -> int:
  """Of an array with every value that is shared counted as often as it is."""
  import pyarrow as pa
  import pyarrow.compute as pc

  if pa.types.is_dictionary(array.type):
    lengths = pc.binary_length(array.dictionary)
    return pc.sum(lengths.take(array.indices)).as_py() or 0
  if pa.types.is_struct(array.type):
    return sum(map(num_bytes, array.flatten()))
  if pa.types.is_list(array.type) or pa.types.is_large_list(array.type):
    return num_bytes(array.flatten())
  return array.nbytes


def check(path: str, meta: Any, group: int) -> dict[str, Column]:
  """What each column expands to; raises Bomb where that is too much."""
  found = {}
  with open(path, "rb") as file:
    size = os.fstat(file.fileno()).st_size
    for i in range(meta.num_columns):
      column = meta.row_group(group).column(i)
      found[column.path_in_schema] = _column(file, size, column)
  held = sum(c.page + c.dictionary for c in found.values())
  if held > limits.ROW:
    name = max(found, key=lambda n: found[n].page + found[n].dictionary)
    raise limits.Bomb(
      f"its pages expand to {held:,} bytes, {limits.ROW:,} are read; the most "
      f"are in the column {name}. Write it with smaller pages (data_page_size) "
      "or row groups"
    )
  for i, (name, column) in enumerate(found.items()):
    repeated = meta.schema.column(i).max_repetition_level > 0
    if repeated and column.values * _VALUE > limits.ROW:
      raise limits.Bomb(
        f"the column {name} has {column.values:,} values in a row group; write "
        "smaller row groups"
      )
  return found


def shared(columns: dict[str, Column]) -> tuple[str, ...]:
  """Columns of texts that could expand by values that rows share."""
  return tuple(
    sorted(
      name
      for name, c in columns.items()
      if c.dictionary and c.values * c.dictionary > budget.HEAVY
    )
  )


def _column(file: IO[bytes], size: int, column: Any) -> Column:
  """Reads the headers of the pages, and passes over what they hold."""
  at = column.data_page_offset
  if column.has_dictionary_page and column.dictionary_page_offset is not None:
    at = min(at, column.dictionary_page_offset)
  end = min(size, at + column.total_compressed_size)
  page = dictionary = values = 0
  while at < end:
    fields, length = _header(file, at, end)
    expanded, stored = fields.get(2), fields.get(3)
    if not isinstance(expanded, int) or not isinstance(stored, int):
      raise ValueError(f"no page at byte {at}")
    if stored < 0 or expanded < 0:
      raise ValueError(f"a page of {stored} bytes at byte {at}")
    if fields.get(1) == _DICTIONARY_PAGE:
      # Fixed lengths expand, too, but only Parquet's own texts can be shared.
      is_text = column.physical_type == _BYTE_ARRAY
      dictionary = max(dictionary, expanded if is_text else 0)
      page = max(page, 0 if is_text else expanded)
    else:
      data = fields.get(5) or fields.get(8) or {}
      values += max(0, data.get(1) or 0)
      page = max(page, expanded)
    at += length + stored
  return Column(page, dictionary, max(values, column.num_values))


def _header(file: IO[bytes], at: int, end: int) -> tuple[dict[int, Any], int]:
  length = 1024
  while True:
    file.seek(at)
    data = file.read(min(length, end - at))
    try:
      return thrift.read(data)
    except thrift.Short:
      if length >= _MAX_HEADER or len(data) < length:
        raise ValueError(f"no header of a page at byte {at}") from None
      length *= 16


@functools.lru_cache(maxsize=4)
def opened(path: str, dictionaries: tuple[str, ...] = ()) -> Any:
  """pyarrow's ParquetFile, whose checksums are looked at.

  `dictionaries`: columns whose shared values stay shared. Raises ValueError for
  what is no such file, ImportError without pyarrow.
  """
  try:
    import pyarrow.parquet
  except ImportError as error:
    raise ImportError(
      f"{path}: Parquet needs the package pyarrow; pip install pyarrow, or "
      "emma-jax with its extra `data`."
    ) from error
  try:
    # Not mapped and not buffered ahead: a row group may be larger than memory.
    return pyarrow.parquet.ParquetFile(
      path,
      pre_buffer=False,
      read_dictionary=list(dictionaries) or None,
      page_checksum_verification=True,
    )
  except (pyarrow.ArrowInvalid, OSError) as error:
    if isinstance(error, FileNotFoundError):
      raise
    raise ValueError(f"{path} is no Parquet file: {error}") from error
