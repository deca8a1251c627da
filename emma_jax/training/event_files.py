"""TensorBoard's files, whose trouble is not the run's."""

from collections.abc import Callable
import pathlib
from typing import Any

from emma_jax import storage


def writer(
  folder: pathlib.Path, purge_step: int | None, note: Callable[[str], None]
) -> Any:
  """A tensorboardX.SummaryWriter for which a full disk is no end.

  Its thread would die of an error, and training then wait for ever for the
  queue that it read from. So events that cannot be written are left out, and
  `note` gets a line of the first; metrics.jsonl has all there is.
  """
  # Here, since it imports torch where that is installed: three seconds and
  # 200 MB, which `--help` and the sampler need not pay.
  import tensorboardX

  events = tensorboardX.SummaryWriter(str(folder), purge_step=purge_step)
  # No public way to what writes the file.
  inner: Any = events.file_writer.event_writer
  guarded = _Guarded(inner._ev_writer, note)
  inner._ev_writer = inner._worker._record_writer = guarded
  return events


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
