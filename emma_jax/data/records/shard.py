"""Writes one shard, whole or not at all."""

from collections.abc import Iterator, Sequence
import contextlib
import dataclasses
import errno
import os
from typing import Any

from array_record.python import array_record_module

from emma_jax import files
from emma_jax.data.records import card, schema
from emma_jax.data.records.lengths import Length, Lengths, Measure

# One record per chunk, so that random access reads no other. Pictures are
# compressed already: squeezing them again costs time and wins nothing.
OPTIONS = "group_size:1,uncompressed"
# Of the system's errors that ArrayRecord tells as a text.
_OF_DISKS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)


@dataclasses.dataclass(frozen=True)
class Stretch:
  """What ArrayRecord asks of a file, so that it need not open it to count."""

  filename: str
  skip: int
  take: int
  examples_in_shard: int


class ShardWriter:
  """An ArrayRecord file and its side file.

  Under temporary names until `finish`: what has a shard's name is complete.
  """

  def __init__(self, folder: str | os.PathLike, stem: str, measure: Measure):
    """`stem`: the file's name without ".array_record"."""
    self._path = os.path.join(folder, f"{stem}.array_record")
    self._side = os.path.join(folder, f"{stem}.npz")
    self._measure = measure
    self._rows: list[Length] = []
    with _disk_errors(self._path):
      self._writer: Any = array_record_module.ArrayRecordWriter(
        f"{self._path}.tmp", OPTIONS
      )

  def add(
    self,
    stored: schema.Stored,
    sizes: Sequence[tuple[int, int]],
    where: str = "",
  ) -> int:
    """Appends a record whose pictures have `sizes` (y, x); returns its bytes.

    Raises BadRecord, and appends nothing, for one that cannot be stored;
    OSError where the disk is full or fails.
    """
    data = schema.encode(stored, where)
    length = self._measure(stored, sizes)
    with _disk_errors(self._path):
      self._writer.write(data)
    self._rows.append(length)
    return len(data)

  def finish(self) -> card.Shard | None:
    """Makes the files appear; None, and no file, if nothing was added."""
    with _disk_errors(self._path):
      self._writer.close()
    temporary = f"{self._path}.tmp"
    if not self._rows:
      os.remove(temporary)
      return None
    fingerprint = self._measure.to_sample.tokenizer.fingerprint()
    lengths = Lengths.of(self._rows, fingerprint)
    lengths.save(self._side)
    files.replace(temporary, self._path)
    tasks: dict[str, int] = {}
    for row in self._rows:
      tasks[row.task] = tasks.get(row.task, 0) + 1
    return card.Shard(
      file=os.path.basename(self._path),
      records=len(self._rows),
      bytes=os.path.getsize(self._path),
      sha256=card.sha256(self._path),
      lengths=os.path.basename(self._side),
      lengths_sha256=card.sha256(self._side),
      tasks=tasks,
      text_tokens=int(lengths.text_tokens().sum()),
      pictures=int(lengths.pictures.sum()),
    )

  def abandon(self) -> None:
    """Leaves nothing behind."""
    try:
      with _disk_errors(self._path):
        self._writer.close()
    finally:
      os.remove(f"{self._path}.tmp")


@contextlib.contextmanager
def _disk_errors(path: str) -> Iterator[None]:
  """ArrayRecord's RuntimeErrors about the disk as OSErrors."""
  try:
    yield
  except RuntimeError as error:
    for code in _OF_DISKS:
      if os.strerror(code) in str(error):
        raise OSError(code, os.strerror(code), path) from error
    raise
