"""stdout and stderr that are closed, or that nobody reads any more.

`emma-train ... | head`, a `tee` that was killed, a terminal whose connection
broke: what was to be said is lost, what is being done is not. From the first
such write on the stream leads nowhere, and the command goes on.
"""

from collections.abc import Iterator
import contextlib
import errno
import io
import os
import stat
import sys
from typing import Any

_STANDARD = (0, 1, 2)
_LOST: set[int] = set()  # numbers of streams that had a reader once


def open_closed() -> None:
  """Gives a process its three standard streams, where it began without.

  Else the next file that is opened would take their numbers, and what a library
  writes to stderr would stand in it.
  """
  for number in _STANDARD:
    try:
      os.fstat(number)
    except OSError:
      _lead_nowhere(number, os.O_RDONLY if number == 0 else os.O_WRONLY)
  if sys.stdout is None:
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
  if sys.stderr is None:
    sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115


@contextlib.contextmanager
def writing(stream: Any) -> Iterator[None]:
  """Around writing to a stream, which may have lost its reader."""
  try:
    yield
  except OSError as error:
    number = _number(stream)
    if number is None or not _has_lost_reader(error, number):
      raise
    _LOST.add(number)
    _lead_nowhere(number, os.O_WRONLY)  # also what its buffer still holds


def flush(stream: Any) -> None:
  """What a stream still holds is written now, not while Python ends."""
  with contextlib.suppress(ValueError), writing(stream):  # it is closed
    stream.flush()


def has_reader(stream: Any) -> bool:
  """False once a write has found that nobody reads any more."""
  return _number(stream) not in _LOST


def _has_lost_reader(error: OSError, number: int) -> bool:
  if error.errno == errno.EPIPE:
    return True
  # Of a terminal that was hung up; of a file it would be a disk that fails.
  is_terminal = stat.S_ISCHR(os.fstat(number).st_mode)
  return error.errno == errno.EIO and is_terminal


def _number(stream: Any) -> int | None:
  """Of its file; None for one in memory, and for one that is closed."""
  try:
    return stream.fileno()
  except (AttributeError, ValueError, io.UnsupportedOperation):
    return None


def _lead_nowhere(number: int, flags: int) -> None:
  null = os.open(os.devnull, flags)
  if null != number:
    os.dup2(null, number)
    os.close(null)
