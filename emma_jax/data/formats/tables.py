"""Rows of Parquet files, TensorFlow Datasets, sequences, folders of records.

pyarrow and tensorflow-datasets are optional: the extras "data" and "tfds".
"""

from collections.abc import Iterator, Sequence
import dataclasses
import functools
import importlib
from typing import Any

import numpy as np

from emma_jax.data.images import BadRecord

# Rows of Parquet that are in memory at a time: with pictures, tens of MB.
_BATCH = 16


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
  """What some containers need to know."""

  data_dir: str | None = None  # of tfds


@dataclasses.dataclass(frozen=True)
class Cut:
  """A stretch: row groups (parquet) or rows; `first` counts rows."""

  start: int
  stop: int
  first: int
  rows: int


def split(kind: str, path: str, rows: int, options: Options) -> list[Cut]:
  """Stretches of about `rows` rows."""
  if kind == "parquet":
    meta = _parquet(path).metadata
    groups = [meta.row_group(i).num_rows for i in range(meta.num_row_groups)]
    return _gather(groups, rows)
  if kind == "records":
    sizes = [s.records for s in _records(path).card.shards]
    return [
      Cut(c.first, c.first + c.rows, c.first, c.rows)
      for c in _gather(sizes, rows)
    ]
  length = len(sequence(path, options))
  return [
    Cut(start, min(start + rows, length), start, min(rows, length - start))
    for start in range(0, length, rows)
  ]


def _gather(groups: Sequence[int], rows: int) -> list[Cut]:
  """Row groups in runs that just reach `rows`.

  >>> _gather([4, 4, 9], 6)
  [Cut(start=0, stop=2, first=0, rows=8), Cut(start=2, stop=3, first=8, rows=9)]
  """
  cuts, start, first, count = [], 0, 0, 0
  for i, size in enumerate(groups, start=1):
    count += size
    if count >= rows or (i == len(groups) and count):
      cuts.append(Cut(start, i, first, count))
      start, first, count = i, first + count, 0
  return cuts


def read(
  kind: str, path: str, start: int, stop: int, first: int, options: Options
) -> Iterator[tuple[str, dict[str, Any] | BadRecord]]:
  """(where, row or BadRecord) of a stretch."""
  if kind == "parquet":
    yield from _read_parquet(path, start, stop, first)
    return
  if kind == "records":
    yield from _read_records(path, start, stop)
    return
  values = sequence(path, options)
  for index in range(start, stop):
    where = f"{path}[{index}]"
    try:
      yield where, {k: plain(v) for k, v in dict(values[index]).items()}
    except Exception as error:  # whatever a stranger's sequence raises
      reason = f"cannot be read: {type(error).__name__}: {error}"
      yield where, BadRecord(where, reason)


def _read_parquet(
  path: str, start: int, stop: int, first: int
) -> Iterator[tuple[str, dict[str, Any] | BadRecord]]:
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


def _read_records(
  path: str, start: int, stop: int
) -> Iterator[tuple[str, dict[str, Any] | BadRecord]]:
  """Every record once, whatever its weight."""
  source = _records(path)
  for row in range(start, stop):
    where = source.where_row(row)
    try:
      yield (
        where,
        {"stored": source.stored_row(row), "sizes": source.lengths[row].sizes},
      )
    except BadRecord as error:
      yield where, error


@functools.lru_cache(maxsize=2)
def _records(path: str) -> Any:
  from emma_jax.data.records import source  # the reader only where needed

  return source.RecordsSource(path.partition(":")[2])


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


# Many: a mixture's sources are all open at a time.
@functools.lru_cache(maxsize=64)
def sequence(path: str, options: Options) -> Any:
  """tfds:NAME:SPLIT or python:MODULE:FUNCTION: a length, and rows by number."""
  kind, _, rest = path.partition(":")
  name, _, last = rest.rpartition(":")
  if not name or not last:
    raise ValueError(
      f"{path!r} is neither tfds:NAME:SPLIT nor python:MODULE:FUNCTION."
    )
  if kind == "python":
    return getattr(importlib.import_module(name), last)()
  try:
    import tensorflow_datasets as tfds
  except ImportError as error:
    raise ImportError(
      f"{path} needs TensorFlow Datasets; pip install emma-jax with its "
      "extra `tfds` (TensorFlow itself is not needed)."
    ) from error
  from emma_jax.data.tfds_builders import builders  # makes ours known

  del builders
  try:
    builder = tfds.builder(
      name, data_dir=options.data_dir, file_format="array_record"
    )
  except tfds.core.registered.DatasetNotFoundError as error:
    first = str(error).splitlines()[0]  # a list of all there are follows
    raise ValueError(f"{path}: {first}") from error
  if not builder.is_prepared():
    try:
      builder.download_and_prepare()
    except (AssertionError, FileNotFoundError) as error:
      # AssertionError: TFDS's own, of a folder for manual downloads.
      raise ValueError(f"{path} cannot be prepared: {error}") from error
  # Pictures stay as they were encoded; decoding is ours.
  skipped = {
    key: tfds.decode.SkipDecoding()
    for key, feature in (builder.info.features or {}).items()
    if isinstance(feature, tfds.features.Image)
  }
  return builder.as_data_source(split=last, decoders=skipped or None)


def plain(value: Any) -> Any:
  """NumPy's scalars, texts and sequences as Python's; pictures are kept.

  Bytes are a text where they are UTF-8 without a zero, which no picture is.

  >>> plain({"a": np.array([b"x", b"y"], object), "n": np.int64(3)})
  {'a': ['x', 'y'], 'n': 3}
  """
  if isinstance(value, dict):
    return {k: plain(v) for k, v in value.items()}
  if isinstance(value, np.ndarray):
    is_picture = value.dtype == np.uint8 and value.ndim == 3
    return value if is_picture else plain(value.tolist())
  if isinstance(value, (list, tuple)):
    return [plain(v) for v in value]
  if isinstance(value, np.generic):
    value = value.item()
  if isinstance(value, bytes) and b"\0" not in value:
    try:
      return value.decode("utf-8")
    except UnicodeDecodeError:
      return value
  return value
