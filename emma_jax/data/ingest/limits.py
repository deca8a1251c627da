"""How many bytes of a stranger's file may be in memory, whatever it claims.

Containers ask before they read, by decompressed sizes, and read a row at a
time. What takes more than `HEAVY` bytes takes them out of a budget that all
workers share, and waits while it is spent.
"""

from collections.abc import Callable, Iterator
import contextlib
from typing import IO, Any

from emma_jax.data.pictures import images

# Decompressed bytes of a row with all its pictures.
ROW = images.MAX_BYTES
# A text: a line of JSON, a member of an archive. As Python's objects it may
# take twenty times as much.
TEXT = 16 * 2**20
# What is held beyond it counts against the budget of all workers.
HEAVY = 32 * 2**20
# The budget: a few of the largest rows at a time.
TOTAL = 4 * ROW
# Members of an archive that are one row.
MEMBERS = 1000
# An archive that expands more than so many times, once it has given more than
# FREE bytes, is a bomb: pictures hardly shrink, texts ten times.
RATIO, FREE = 50, 64 * 2**20


class Bomb(ValueError):
  """An input that would take more memory or time than its size tells."""


class Budget:
  """Bytes that the processes of a pool hold together, by pieces of HEAVY."""

  def __init__(self, context: Any):
    """`context`: of multiprocessing."""
    self._free = context.BoundedSemaphore(TOTAL // HEAVY)
    self._one = context.Lock()  # two that collect at a time could wait for ever

  @contextlib.contextmanager
  def take(self, size: int, wait: Callable[[], None]) -> Iterator[None]:
    """`wait()` is called now and then meanwhile; it may raise, to stop."""
    pieces = min(-(-size // HEAVY), TOTAL // HEAVY)
    taken = 0
    try:
      _acquire(self._one, wait)
      try:
        while taken < pieces:
          _acquire(self._free, wait)
          taken += 1
      finally:
        self._one.release()
      yield
    finally:
      for _ in range(taken):
        self._free.release()


def _acquire(lock: Any, wait: Callable[[], None]) -> None:
  while not lock.acquire(timeout=0.2):
    wait()


# Of this process: the pool's budget, and what is called while it waits.
_budget: Budget | None = None
_wait: Callable[[], None] = lambda: None
_holds = False


def share(budget: Budget, wait: Callable[[], None]) -> None:
  """Call in a worker: its heavy rows count against the budget."""
  global _budget, _wait
  _budget, _wait = budget, wait


@contextlib.contextmanager
def holding(size: int) -> Iterator[None]:
  """While so many bytes are held; within another `holding`, at once."""
  global _holds
  if size <= HEAVY or _budget is None or _holds:
    yield
    return
  with _budget.take(size, _wait):
    _holds = True
    try:
      yield
    finally:
      _holds = False


def row_bytes(row: Any) -> int:
  """Of texts and pictures in a row; other values count as nothing.

  >>> row_bytes({"image": {"bytes": b"12"}, "texts": ["345"], "n": 6})
  5
  """
  if isinstance(row, dict):
    return sum(map(row_bytes, row.values()))
  if isinstance(row, (list, tuple)):
    return sum(map(row_bytes, row))
  if isinstance(row, (bytes, bytearray, memoryview, str)):
    return len(row)
  return getattr(row, "nbytes", 0)


def lines(
  file: IO[bytes], stop: int | None = None
) -> Iterator[tuple[int, bytes | None]]:
  """(bytes of the file, the line) of each; None for one above TEXT.

  `file`: at a line's begin. `stop`: bytes to read, in whole lines.
  """
  at = 0
  while stop is None or at < stop:
    line: bytes | None = file.readline(TEXT + 1)
    if not line:
      return
    size = len(line)
    if size > TEXT and not line.endswith(b"\n"):
      line = None
      while more := file.readline(2**20):
        size += len(more)
        if more.endswith(b"\n"):
          break
    at += size
    yield size, line


def too_long(size: int) -> str:
  """Why a text of so many bytes is not read."""
  return (
    f"a text of {size:,} bytes is above the {TEXT:,} that are read; a row "
    "names its pictures, or they stand in a tar or Parquet"
  )


def check_encoding(path: str, by_lines: bool) -> None:
  """Raises ValueError for a text file that is not UTF-8 with LF or CRLF."""
  with open(path, "rb") as file:
    head = file.read(2**16)
  if head.startswith((b"\xff\xfe", b"\xfe\xff")) or (
    head[:2].strip(b"\0") in (b"[", b"{") and b"\0" in head[:4]
  ):
    raise ValueError(
      f"{path} is UTF-16 or UTF-32; save it as UTF-8 (iconv -t UTF-8)."
    )
  if by_lines and b"\n" not in head and b"\r" in head.strip():
    raise ValueError(
      f"{path} ends its lines in CR alone; make that LF (tr '\\r' '\\n')."
    )
