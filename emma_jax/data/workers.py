"""Processes that read: they end with their parent, and say how they died."""

import multiprocessing
from multiprocessing import connection
import os
import re
import threading


class DataWorkerDied(RuntimeError):
  """A process that read ahead was ended from outside."""


def explained(error: RuntimeError, step: int) -> RuntimeError:
  """Grain's error for a lost process as one that says what to do; others stay.

  >>> explained(RuntimeError("Worker process was terminated unexpectedly with "
  ...     "exit code -9"), 7)
  DataWorkerDied('A data worker was killed (exit code -9, perhaps for want of
  memory or of /dev/shm) before batch 7 was read. Nothing is lost: start again
  from the last checkpoint, with fewer data.workers or a smaller data.buffer if
  it happens again.')
  """
  found = re.search(r"terminated unexpectedly.*?(-?\d+)", str(error))
  if not found:
    return error
  return DataWorkerDied(
      f"A data worker was killed (exit code {found[1]}, perhaps for want of "
      f"memory or of /dev/shm) before batch {step} was read. Nothing is lost: "
      "start again from the last checkpoint, with fewer data.workers or a "
      "smaller data.buffer if it happens again."
  )


def end_with_parent() -> None:
  """Call in a worker. A parent killed with -9 cannot stop its workers, which
  would live for ever and hold its shared memory: they watch it."""
  threading.Thread(target=_follow_parent, daemon=True).start()


def _follow_parent() -> None:
  parent = multiprocessing.parent_process()
  if parent is not None:
    connection.wait([parent.sentinel])
    os._exit(1)
