"""Tasks in processes that die with their parent and count as they go."""

from collections.abc import Callable, Sequence
import concurrent.futures
from concurrent.futures import process
import multiprocessing
import signal
from typing import Any, NamedTuple

from emma_jax import processes
from emma_jax.data.pictures import budget as budget_lib

# Seconds between two looks at the counters.
_PERIOD = 0.5

# (function(*arguments, tick), arguments)
Call = tuple[Callable[..., Any], tuple[Any, ...]]


class Counts(NamedTuple):
  """Of one `run`."""

  finished: int  # tasks
  rows: int
  rejected: int
  bytes: int


class Stopped(Exception):
  """Raised in a worker when another one failed."""


class WorkerDied(RuntimeError):
  """A process was killed from outside."""


def run(
  calls: Sequence[Call], count: int, on_progress: Callable[[Counts], None]
) -> list[Any]:
  """Results in order; `on_progress` hears of the counts and may raise to stop.

  Args:
    calls: functions of modules and arguments that pickle. The last argument is
      added: a function (rejected, bytes) to be called after every row.
    count: processes; 0 runs in this one.
    on_progress: called in this process.
  """
  if not count:
    return _run_here(calls, on_progress)
  # Spawned: a forked child of a process with threads may hang.
  context = multiprocessing.get_context("spawn")
  shared, stop = context.Array("q", 3), context.Event()
  budget = budget_lib.Budget(context)
  counts = lambda finished: Counts(finished, *shared[:])
  with concurrent.futures.ProcessPoolExecutor(
    max_workers=min(count, len(calls)) or 1,
    mp_context=context,
    initializer=_begin,
    initargs=(shared, stop, budget),
  ) as pool:
    futures = [pool.submit(_call, *call) for call in calls]
    waiting = set(futures)
    try:
      while waiting:
        done, waiting = concurrent.futures.wait(waiting, timeout=_PERIOD)
        for future in done:
          future.result()
        on_progress(counts(len(calls) - len(waiting)))
      return [future.result() for future in futures]
    except process.BrokenProcessPool as error:
      raise WorkerDied(
        "A worker process was killed, perhaps for want of memory. What is "
        "done is kept: give the same command again, with fewer workers."
      ) from error
    finally:
      stop.set()
      pool.shutdown(cancel_futures=True)


def _run_here(
  calls: Sequence[Call], on_progress: Callable[[Counts], None]
) -> list[Any]:
  counts, results = [0, 0, 0], []

  def tick(rejected: bool, size: int) -> None:
    counts[0] += 1
    counts[1] += rejected
    counts[2] += size
    if counts[0] % 100 == 0:
      on_progress(Counts(finished, *counts))

  for finished, (function, arguments) in enumerate(calls):
    results.append(function(*arguments, tick))
    on_progress(Counts(finished + 1, *counts))
  return results


# Of a worker process, set by `_begin`.
_shared: Any = None
_stop: Any = None


def _begin(shared: Any, stop: Any, budget: budget_lib.Budget) -> None:
  global _shared, _stop
  _shared, _stop = shared, stop
  budget_lib.share(budget, _check_stop)
  # Ctrl-C goes to the whole group; the parent decides what it means.
  signal.signal(signal.SIGINT, signal.SIG_IGN)
  processes.end_with_parent()


def _call(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
  def tick(rejected: bool, size: int) -> None:
    with _shared.get_lock():
      _shared[0] += 1
      _shared[1] += rejected
      _shared[2] += size
    _check_stop()

  return function(*arguments, tick)


def _check_stop() -> None:
  if _stop.is_set():
    raise Stopped()
