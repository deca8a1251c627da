"""Which samples stand in which rows of every batch, from lengths alone.

A plan is chained in segments of some batches: each follows from the one before
and from nothing else, so any process computes the same bytes. Segments are kept
in a folder; one that is missing is computed from the last that is there. What
a batch holds is thus a function of its number, for any hosts and workers.
"""

import contextlib
import os
import shutil
import tempfile
import threading
from typing import Any
import weakref

# Spelled twice: users of plans find these here, too.
from emma_jax.data.batching.plan_config import PlanConfig as PlanConfig
from emma_jax.data.batching.plan_config import PlannedSource as PlannedSource
from emma_jax.data.batching.segment import PlannedBatch, Segment
from emma_jax.data.batching.segment_planner import (
  SegmentPlanner as SegmentPlanner,
)


class Plan:
  """Random access to planned batches; cheap to pickle.

  Lengths are loaded where a segment has to be computed, and nowhere else.
  """

  def __init__(self, config: PlanConfig, folder: str | None = None):
    """Nothing is read yet.

    Args:
      config: of the plan.
      folder: where segments are kept, under the plan's fingerprint; None keeps
        them until the process ends.
    """
    self.config, self.key = config, config.fingerprint()
    if folder is None:
      folder = tempfile.mkdtemp(prefix="emma_plan_")
      weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
    self.folder = os.path.join(folder, self.key[:16])
    self._forget()

  def _forget(self) -> None:
    self._lock, self._computing = threading.Lock(), threading.RLock()
    self._kept: dict[int, Segment] = {}
    self._seen_to = -1  # by look_ahead
    self._drawer: SegmentPlanner | None = None

  def __getstate__(self):
    return {"config": self.config, "key": self.key, "folder": self.folder}

  def __setstate__(self, state: dict[str, Any]):
    self.__dict__.update(state)
    self._forget()

  def batch(self, step: int) -> PlannedBatch:
    """What stands in the rows of a batch; depends on `step` alone."""
    if step < 0:
      raise ValueError(f"{step=} is negative.")
    return self.segment(step // self.config.segment).batch(step)

  def segment(self, number: int) -> Segment:
    """Loads, or computes and keeps, what it takes."""
    with self._lock:
      found = self._kept.get(number)
    if found is not None:
      return found
    found = Segment.load(self._path(number), self.key) or self._chain(number)
    with self._lock:
      # Two: batches before and behind a border are asked for in turn.
      self._kept = {n: s for n, s in self._kept.items() if abs(n - number) == 1}
      self._kept[number] = found
    return found

  def look_ahead(self, step: int) -> None:
    """Sees to the segment of `step`; in its second half to the next, too.

    The next one is computed beside the caller.
    """
    number, batch = divmod(step, self.config.segment)
    if number > self._seen_to:
      if not os.path.exists(self._path(number)):
        self._chain(number)
      self._seen_to = number
    if 2 * batch >= self.config.segment and number == self._seen_to:
      self._seen_to = number + 1
      threading.Thread(
        target=self._try, args=(number + 1,), daemon=True
      ).start()

  def _chain(self, number: int) -> Segment:
    """Computes from the last segment that is there."""
    with self._computing:
      before = None
      for known in range(number, -1, -1):
        before = Segment.load(self._path(known), self.key)
        if before is not None:
          break
      if before is not None and known == number:
        return before  # by another thread, meanwhile
      os.makedirs(self.folder, exist_ok=True)
      start = 0 if before is None else known + 1
      for n in range(start, number + 1):
        state = None if before is None else before.after
        before = self.drawer.segment(n, state)
        before.save(self._path(n), self.key)
      assert before is not None  # `number` itself was among them
      return before

  def _try(self, number: int) -> None:
    """Of a thread beside: what fails fails again where it is needed."""
    with contextlib.suppress(OSError, ValueError):
      self._chain(number)

  @property
  def drawer(self) -> SegmentPlanner:
    """With the lengths of all sources, loaded now or before."""
    with self._computing:
      if self._drawer is None:
        self._drawer = SegmentPlanner(self.config)
      return self._drawer

  def use(self, drawer: SegmentPlanner) -> None:
    """Plans with lengths that are at hand."""
    self._drawer = drawer

  def _path(self, number: int) -> str:
    return os.path.join(self.folder, f"segment-{number:06d}.npz")
