"""TensorBoard's file, whose trouble is not the run's.

A run has one: a start that goes on takes over what the one before has written,
without the steps that it will do again.
"""

from collections.abc import Callable, Iterator
import contextlib
import hashlib
import pathlib
import struct
from typing import Any

from emma_jax import files, storage

# What is taken over, while the new file has not all of it.
_KEPT = "kept"


def writer(
  folder: pathlib.Path, purge_step: int | None, note: Callable[[str], None]
) -> Any:
  """A tensorboardX.SummaryWriter for which a full disk is no end.

  Of earlier files in the folder it takes over what is of steps before
  `purge_step` (None: all), and removes them.

  Its thread would die of an error, and training then wait for ever for the
  queue that it read from. So events that cannot be written are left out, and
  `note` gets a line of the first; metrics.jsonl has all there is.
  """
  # Here, since it imports torch where that is installed: three seconds and
  # 200 MB, which `--help` and the sampler need not pay.
  import tensorboardX

  old = [p for p in sorted(folder.glob("*tfevents*")) if p.is_file()]
  kept = folder / _KEPT
  try:
    going_on = _keep(kept, old, purge_step)
  except OSError as error:
    note(f"WARNING: TensorBoard's files stay apart: {storage.in_words(error)}.")
    old, going_on = [], False
  events = tensorboardX.SummaryWriter(str(folder))
  # No public way to what writes the file.
  inner: Any = events.file_writer.event_writer
  if going_on:
    with contextlib.suppress(OSError):  # then they stay, and TensorBoard copes
      _take_over(inner._ev_writer, kept)
      for path in old:
        if path.name != pathlib.Path(inner._ev_writer._file_name).name:
          path.unlink()
      kept.unlink()
  guarded = _Guarded(inner._ev_writer, note)
  inner._ev_writer = inner._worker._record_writer = guarded
  return events


def _keep(
  kept: pathlib.Path, old: list[pathlib.Path], purge_step: int | None
) -> bool:
  """Writes the records to take over; whether there are any files of them.

  A start that was killed may have left some in `kept` itself, and the same ones
  in a file.
  """
  sources = [kept] * kept.is_file() + old
  if not sources:
    return False
  seen: set[bytes] = set()
  with files.atomic_write(kept) as out:
    for path in sources:
      for frame in _frames(path, purge_step):
        digest = hashlib.blake2b(frame, digest_size=16).digest()
        if digest not in seen:
          seen.add(digest)
          out.write(frame)
  return True


def _frames(path: pathlib.Path, purge_step: int | None) -> Iterator[bytes]:
  """Whole records of steps before `purge_step`, as they lie in the file: length
  (8 bytes), its checksum (4), an event, its checksum (4)."""
  from tensorboardX.proto import event_pb2

  with path.open("rb") as file:
    while len(head := file.read(12)) == 12:
      (length,) = struct.unpack("<Q", head[:8])
      rest = file.read(length + 4)
      if len(rest) < length + 4:
        return  # what a kill leaves
      try:
        event = event_pb2.Event.FromString(rest[:length])
      except Exception:  # protobuf's DecodeError: damaged from here on
        return
      ours = event.WhichOneof("what") == "summary"
      if ours and (purge_step is None or event.step < purge_step):
        yield head + rest


def _take_over(events: Any, kept: pathlib.Path) -> None:
  """Writes what was kept, after a mark at which a TensorBoard that is open
  forgets what it has read of the older files."""
  from tensorboardX.proto import event_pb2

  start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
  events.write_event(event_pb2.Event(step=0, session_log=start))
  file = events._py_recordio_writer._writer
  with kept.open("rb") as source:
    while data := source.read(2**20):
      file.write(data)
  events.flush()


class _Guarded:
  """An EventsWriter that says what it cannot write, once."""

  def __init__(self, inner: Any, note: Callable[[str], None]):
    self._inner, self._note, self._told = inner, note, False

  def __getattr__(self, name: str) -> Any:
    found = getattr(self._inner, name)
    if not callable(found):
      return found

    def call(*args: Any) -> Any:
      try:
        return found(*args)
      except OSError as error:
        if not self._told:
          self._told = True
          self._note(
            "WARNING: TensorBoard's files miss events: "
            f"{storage.in_words(error)}."
          )
        return None

    return call
