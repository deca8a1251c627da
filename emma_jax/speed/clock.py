"""Seconds of steps that a device runs one after the other."""

from collections.abc import Callable, Sequence
import itertools
import statistics
import time
from typing import Any


def intervals(
  launch: Callable[[], Any],
  wait: Callable[[Any], Any],
  *,
  warmup: int,
  count: int,
  clock: Callable[[], float] = time.perf_counter,
) -> list[float]:
  """Seconds between the ends of successive steps.

  As in a training loop the next step is launched before the last one is waited
  for, so that the device never waits for the host unless the host is slower.

  Args:
    launch: begins a step and returns what tells of its end.
    wait: waits for that.
    warmup: steps before the first that counts.
    count: steps that count.
    clock: seconds.
  """
  pending, ends = launch(), []
  for _ in range(1 + warmup + count):
    following = launch()
    wait(pending)
    ends.append(clock())
    pending = following
  wait(pending)
  return [b - a for a, b in itertools.pairwise(ends)][warmup:]


def summary(seconds: Sequence[float]) -> dict[str, float]:
  """Median and extremes.

  >>> summary([2.0, 1.0, 4.0])
  {'seconds': 2.0, 'fastest': 1.0, 'slowest': 4.0, 'steps': 3}
  """
  return {
    "seconds": statistics.median(seconds),
    "fastest": min(seconds),
    "slowest": max(seconds),
    "steps": len(seconds),
  }
