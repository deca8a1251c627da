"""Rows that are named, not in files: TensorFlow Datasets, functions, records.

tfds:NAME:SPLIT   a TensorFlow Datasets builder (no TensorFlow needed); needs
                  the extra "tfds"
python:MODULE:F   F() of a module gives a sequence of dicts
records:DIR       a folder of records: rows {"stored", "sizes"}
range:COUNT       rows {"index": 0}, {"index": 1}, ...
"""

from collections.abc import Iterator
import dataclasses
import functools
import importlib
from typing import Any

import numpy as np

from emma_jax.data.ingest.files import Item, Part, gather
from emma_jax.data.pictures.images import BadRecord

# What stands before the first colon.
KINDS = ("tfds", "python", "records", "range")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
  """What some sequences need to know."""

  data_dir: str | None = None  # of tfds


def split(kind: str, path: str, rows: int, options: Options) -> list[Part]:
  """Parts of about `rows` rows; of a folder of records, whole shards."""
  if kind == "records":
    sizes = [s.records for s in _records(path).card.shards]
    return [
      dataclasses.replace(
        c, start=c.first, stop=c.first + sum(sizes[c.start : c.stop])
      )
      for c in gather(kind, path, sizes, rows)
    ]
  if kind == "range":
    count = path.partition(":")[2]
    if not count.isdecimal() or not int(count):
      raise ValueError(f"{path}: expected range:COUNT, COUNT at least 1.")
    length = int(count)
  else:
    length = len(sequence(path, options))
  return [
    Part(
      kind=kind,
      path=path,
      start=start,
      stop=min(start + rows, length),
      first=start,
      rows=min(rows, length - start),
    )
    for start in range(0, length, rows)
  ]


def read(part: Part, options: Options) -> Iterator[Item]:
  """The rows of a part, in order."""
  if part.kind == "records":
    yield from _read_records(part.path, part.start, part.stop)
    return
  if part.kind == "range":
    for index in range(part.start, part.stop):
      yield f"{part.path}[{index}]", {"index": index}
    return
  values = sequence(part.path, options)
  for index in range(part.start, part.stop):
    where = f"{part.path}[{index}]"
    try:
      yield where, {k: plain(v) for k, v in dict(values[index]).items()}
    except Exception as error:  # whatever a stranger's sequence raises
      reason = f"cannot be read: {type(error).__name__}: {error}"
      yield where, BadRecord(where, reason)


def _read_records(path: str, start: int, stop: int) -> Iterator[Item]:
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
  from emma_jax.data.ingest import tfds_builders  # makes ours known

  del tfds_builders
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
