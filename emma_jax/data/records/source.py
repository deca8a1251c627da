"""Random access to a folder of records, for the training pipeline."""

import functools
import hashlib
import json
import os

from array_record.python import array_record_data_source
import numpy as np

from emma_jax.data.pictures.images import BadRecord
from emma_jax.data.records import latents as latents_lib
from emma_jax.data.records import schema
from emma_jax.data.records.card import Card
from emma_jax.data.records.lengths import Lengths
from emma_jax.data.records.shard import Stretch
from emma_jax.structs import Record


class RecordsSource:
  """`source[i] -> Record` over all shards of a folder.

  Opening reads dataset.json (and the weights, where there are any); shards are
  opened when they are read first, and again after pickling.

  A record's weight w is how often an epoch shows it: 0 leaves it out, 2 shows
  it twice, and of many records of 0.5 every second one is shown (rounding goes
  by the running sum, so any stretch is within one of its sum of weights).

  Args:
    folder: as `emma-data convert` wrote it.
    task: of every record, in the program's terms (structs.TASKS); None takes
      whatever is there.
    latents: pictures come with their latents, made for these settings.

  Raises:
    ValueError: no data set, other tasks, a shard missing or cut short, latents
      missing or made of something else.
  """

  def __init__(
    self,
    folder: str,
    task: str | None = None,
    latents: latents_lib.Settings | None = None,
  ):
    self.folder = os.path.abspath(folder)
    self.card = Card.load(self.folder)
    tasks = {_program_task(name) for name in self.card.tasks}
    if task is not None and tasks != {task}:
      raise ValueError(
        f"{folder} holds records of {sorted(tasks)}; wanted are those "
        f"of {task!r} alone."
      )
    self.task = task or (tasks.pop() if len(tasks) == 1 else None)
    self._check_sizes()
    self._first = np.cumsum([0] + [s.records for s in self.card.shards])
    if not len(self):
      raise ValueError(f"{folder} holds no records that are to be shown.")
    self._data = array_record_data_source.ArrayRecordDataSource(
      [
        Stretch(self._path(s.file), 0, s.records, s.records)
        for s in self.card.shards
      ]
    )
    self.latents = None
    if latents is not None:
      self.latents = latents_lib.StoredLatents(self.folder, self.card, latents)

  def __len__(self) -> int:
    if self.rows is not None:
      return self.rows.size
    return int(self._first[-1])

  def __getitem__(self, index: int) -> Record:
    record = self.stored(index).record
    if self.latents is None:
      return record
    where = self.where(index)
    latents = self.latents.stored(self.row(index), where)
    return latents_lib.attach(record, latents, where)

  def stored(self, index: int) -> schema.Stored:
    """The record with its weight and provenance; BadRecord names the row."""
    return self.stored_row(self.row(index))

  def stored_row(self, row: int) -> schema.Stored:
    """The same by the number of the record, whatever its weight."""
    where = self.where_row(row)
    try:
      data = self._data[row]
    except Exception as error:  # the reader raises RuntimeError, IndexError...
      raise BadRecord(where, f"cannot be read: {_first_line(error)}") from error
    return schema.decode(data, where)

  def row(self, index: int) -> int:
    """The record behind an element, counted over all shards."""
    if not 0 <= index < len(self):
      raise IndexError(f"{index=} is outside of 0..{len(self) - 1}.")
    return int(index if self.rows is None else self.rows[index])

  def where(self, index: int) -> str:
    """FOLDER/part-00003.array_record[17]"""
    return self.where_row(self.row(index))

  def where_row(self, row: int) -> str:
    """The same by the number of the record."""
    shard = int(np.searchsorted(self._first, row, side="right")) - 1
    file = self._path(self.card.shards[shard].file)
    return f"{file}[{row - self._first[shard]}]"

  @functools.cached_property
  def lengths(self) -> Lengths:
    """The side files of all shards, by record: see `row`."""
    return self._load()

  def _load(self) -> Lengths:
    return Lengths.joined(
      Lengths.load(self._path(s.lengths)) for s in self.card.shards
    )

  def stem_labels(self) -> np.ndarray:
    """The STEM label of every picture of a question that is shown (int8)."""
    out = []
    for shard in self.card.shards:  # one at a time: labels alone are kept
      part = Lengths.load(self._path(shard.lengths))
      asked = part.task == schema.TASKS.index("understanding")
      times = np.where(asked & (part.weight > 0), part.pictures, 0)
      out.append(np.repeat(part.stem, times))
    return np.concatenate(out)

  def first_lengths(self) -> Lengths:
    """The side file of the first shard."""
    return Lengths.load(self._path(self.card.shards[0].lengths))

  @functools.cached_property
  def rows(self) -> np.ndarray | None:
    """The record of each element; None: element i is record i."""
    # Lengths are not kept for it: workers need the weights alone.
    return shown(self._load().weight) if self.card.weighted else None

  @property
  def digest(self) -> str:
    """A hash of the content, side files included, wherever it lies."""
    shards = [(s.records, s.sha256, s.lengths_sha256) for s in self.card.shards]
    return hashlib.sha256(json.dumps(shards).encode()).hexdigest()

  def __getstate__(self):
    # The side files are read again where they are asked for.
    large = ("lengths", "rows")
    return {k: v for k, v in self.__dict__.items() if k not in large}

  def _path(self, name: str) -> str:
    return os.path.join(self.folder, name)

  def _check_sizes(self) -> None:
    """A shard cut short is found now, not in the middle of an epoch."""
    for shard in self.card.shards:
      path = self._path(shard.file)
      size = os.path.getsize(path) if os.path.isfile(path) else None
      if size != shard.bytes:
        found = "is missing" if size is None else f"has {size} bytes"
        raise ValueError(
          f"{path} {found}; {shard.bytes} bytes were written. Copy or "
          "convert it again."
        )


def shown(weights: np.ndarray) -> np.ndarray:
  """The records an epoch shows, in order, for their weights.

  >>> shown(np.array([1, 0, 2, 0.5, 0.5])).tolist()
  [0, 2, 2, 4]
  """
  # In float64, and with a hair added, so that ten times 0.1 is 1.
  total = np.floor(np.cumsum(weights, dtype=np.float64) + 1e-6).astype(np.int64)
  return np.repeat(np.arange(weights.size), np.diff(total, prepend=0))


def _program_task(name: str) -> str:
  """On disk, a conversation without pictures has a name of its own."""
  return "understanding" if name == "text" else name


def _first_line(error: Exception) -> str:
  text = str(error).strip() or type(error).__name__
  return text.splitlines()[0][:300]
