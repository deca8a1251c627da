"""Memory that the processes of a pool hold together, whatever they are given.

What takes more than `HEAVY` bytes, a row of a container or a decoded picture,
takes them out of a budget that all workers share, and waits while it is spent.
"""

from collections.abc import Callable, Iterator
import contextlib
import os
from typing import Any

# What is held beyond it counts.
HEAVY = 32 * 2**20
_LEAST, _SHARE = 2**29, 16


def total() -> int:
  """Bytes of the budget: a sixteenth of the machine's memory, or 512 MB."""
  memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
  return max(_LEAST, memory // _SHARE)


class Budget:
  """Bytes that the processes of a pool hold together, by pieces of HEAVY."""

  def __init__(self, context: Any):
    """`context`: of multiprocessing."""
    self._all = total() // HEAVY
    self._free = context.BoundedSemaphore(self._all)
    self._one = context.Lock()  # two that collect at a time could wait for ever

  @contextlib.contextmanager
  def take(self, size: int, wait: Callable[[], None]) -> Iterator[None]:
    """`wait()` is called now and then meanwhile; it may raise, to stop."""
    pieces = min(-(-size // HEAVY), self._all)
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
