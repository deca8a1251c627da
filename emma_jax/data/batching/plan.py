"""Which samples stand in which rows of every batch, from lengths alone.

A plan is chained in segments of some batches: each follows from the one before
and from nothing else, so any process computes the same bytes. Segments are kept
in a folder; one that is missing is computed from the last that is there. What
a batch holds is thus a function of its number, for any hosts and workers.
"""

import bisect
from collections.abc import Sequence
import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
import tempfile
import threading
from typing import Any
import weakref

import numpy as np

from emma_jax.data.batching import first_fit, order, row_cost
from emma_jax.data.batching.mixture import Phase, check_phases
from emma_jax.data.batching.row_layout import CAPACITIES
from emma_jax.data.batching.segment import PlannedBatch, Samples, Segment, State

# A change of planning itself gets another number: plans of an older one are
# made anew.
VERSION = 1
# Samples that are drawn at a time: enough to make numpy worth its while, not
# many more than are used. It decides nothing.
_LEAST, _MOST = 1 << 9, 1 << 15


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlannedSource:
  """A folder of records, and what identifies its content."""

  name: str
  folder: str
  digest: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlanConfig:
  """All that decides a plan.

  Args:
    seed: of the epochs' orders.
    sources: those that the phases name.
    phases: in order; the last goes on for ever.
    rules: what a record takes.
    rows: of a batch of all hosts.
    segment: batches of a segment.
  """

  seed: int
  sources: tuple[PlannedSource, ...]
  phases: tuple[Phase, ...]
  rules: row_cost.RowLimits
  rows: int
  segment: int

  def __post_init__(self):
    check_phases(self.phases, {source.name for source in self.sources})
    for phase in self.phases:
      self.rules.with_row(phase.row)  # raises for a row that cannot be

  @property
  def ends(self) -> list[float]:
    """Batch at which each phase ends; the last one does not."""
    steps = [p.steps for p in self.phases[:-1]]
    return [*np.cumsum(np.array(steps)).tolist(), np.inf]

  def phase(self, step: int) -> int:
    """Which phase a batch is of."""
    return bisect.bisect_right(self.ends, step)

  def limits(self, source: str) -> row_cost.RowLimits:
    """What rows have for a source, in each phase that names it.

    So an element is the same sample in all of them.
    """
    rows = [p.row for p in self.phases if source in p.weights]
    return self.rules.least(rows) if rows else self.rules

  def fingerprint(self) -> str:
    """A hash of all that decides which sample stands where; folders do not."""
    seen, drawn = (
      self.rules.framing.understanding,
      self.rules.framing.generation,
    )
    layouts = [
      dataclasses.asdict(x) | {"rows": self.rows} for x in self.rules.layouts
    ]
    settings = {
      "version": VERSION,
      "seed": self.seed,
      "rows": self.rows,
      "segment": self.segment,
      "window": [first_fit.WINDOW, first_fit.BATCHES],
      "sources": sorted((s.name, s.digest) for s in self.sources),
      "phases": [_told(p) for p in self.phases],
      "layouts": layouts,
      "max_turns": self.rules.max_turns,
      "native": None,
    }
    if self.rules.native:
      settings["native"] = [seen.min_tokens, seen.max_tokens]
    if not self.rules.native and any(p.even_buckets for p in self.phases):
      settings["even"] = "drawn"  # before, questions were evened as well
    if drawn.fit != "pad":  # which has no rule of its own
      settings["fit"] = [drawn.fit, drawn.max_crop]
    text = json.dumps(settings, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _told(phase: Phase) -> dict[str, Any]:
  """Of a fingerprint: plans of before phases had rows keep theirs."""
  out = dataclasses.asdict(phase)
  return out if out["row"] else {k: v for k, v in out.items() if k != "row"}


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
  def drawer(self) -> "SegmentPlanner":
    """With the lengths of all sources, loaded now or before."""
    with self._computing:
      if self._drawer is None:
        self._drawer = SegmentPlanner(self.config)
      return self._drawer

  def use(self, drawer: "SegmentPlanner") -> None:
    """Plans with lengths that are at hand."""
    self._drawer = drawer

  def _path(self, number: int) -> str:
    return os.path.join(self.folder, f"segment-{number:06d}.npz")


def load_needs(
  source: PlannedSource, rules: row_cost.RowLimits
) -> row_cost.RowCost:
  """Of the elements of a source, as often as its weights show them."""
  from emma_jax.data.records.source import RecordsSource

  opened = RecordsSource(source.folder)
  return row_cost.count(opened.lengths, rules).take(opened.rows)


class SegmentPlanner:
  """Computes segments."""

  def __init__(
    self, config: PlanConfig, tables: Sequence[row_cost.RowCost] | None = None
  ):
    """Loads the lengths, unless `tables` (of the sources sorted by name)."""
    self.config = config
    sources = sorted(config.sources, key=lambda s: s.name)
    self.names = tuple(s.name for s in sources)
    self.tables = tables or [
      load_needs(s, config.limits(s.name)) for s in sources
    ]
    self.lanes = order.lanes(self.names, self.tables, config.rules.buckets)
    self.order = order.FairQueue(self.lanes, self.tables, config.seed)
    self.least = np.min(
      [t.need[t.fits].min(axis=0) for t in self.tables], axis=0
    )
    self.ends = config.ends

  def weights(self, phase: Phase) -> np.ndarray:
    """(lanes,): a source's weight, dealt to its lanes.

    So that all of them end their epochs together; with even buckets, those of
    a bucket get the same, of pictures to draw alone: questions come as they
    are.
    """
    tokens = phase.unit == "tokens"
    size = np.array([x.tokens if tokens else x.samples for x in self.lanes])
    source = np.array([x.source for x in self.lanes])
    of_bucket = np.array(
      [x.draws and x.bucket != row_cost.ANY_BUCKET for x in self.lanes]
    )
    out = np.zeros(size.size)
    for i, name in enumerate(self.names):
      mine = source == i
      if phase.even_buckets and (mine & of_bucket).any():
        size[mine & of_bucket] = size[mine & of_bucket].mean()
      out[mine] = phase.weights.get(name, 0.0) * size[mine] / size[mine].sum()
    return out

  def segment(self, number: int, state: State | None) -> Segment:
    """The segment after `state`, which is that of the one before."""
    state = state or State.start(len(self.lanes))
    c, work = self.config, _Work(self, state)
    last = (number + 1) * c.segment
    while work.batch < last:
      work.go_on(min(self.ends[work.phase], last))
      if work.batch >= self.ends[work.phase]:
        work.next_phase()
    return work.segment(number * c.segment)

  def needs_of(self, samples: Samples) -> np.ndarray:
    """(n, capacities)."""
    out = np.zeros((len(samples), len(CAPACITIES)), np.int64)
    for source, table in enumerate(self.tables):
      mine = np.flatnonzero(samples.source == source)
      out[mine] = table.need[samples.index[mine]]
    return out


class _Work:
  """One segment in the making."""

  def __init__(self, drawer: SegmentPlanner, state: State):
    self._d = drawer
    self.batch, self.phase = state.batch, state.phase
    self._passed = state.passed
    self._position = order.Position(state.drawn, state.used)
    self._rows = self._new_rows()
    ends = np.cumsum(state.row_sizes).tolist()
    waiting = [list(range(a, b)) for a, b in zip([0, *ends], ends)]
    self._rows.restore(
      waiting,
      state.row_buckets.tolist(),
      state.row_closed.tolist(),
      drawer.needs_of(state.waiting),
      state.last,
    )
    self._tables, self._count = [state.waiting], len(state.waiting)
    self._full: list[first_fit.Full] = []
    self._passed_by: list[int] = []

  def _new_rows(self) -> first_fit.Rows:
    """Of the phase's shape."""
    c = self._d.config
    return first_fit.Rows(
      c.rules.with_row(c.phases[self.phase].row).capacities,
      len(c.rules.layouts),
      c.rows,
      self._d.least,
    )

  def go_on(self, end: float) -> None:
    """Draws a chunk; stops behind batch `end` - 1."""
    d, phase = self._d, self._d.config.phases[self.phase]
    used = self._count / max(len(self._full), 1)
    wish = int(np.clip((end - self.batch) * used, _LEAST, _MOST))
    chunk = d.order.chunk(self._position, d.weights(phase), phase.unit, wish)
    samples = self._samples(chunk)
    done, placed = 0, len(samples)
    bucket = np.array([x.bucket for x in d.lanes])[chunk.lane]
    for full in self._rows.fill(self._count, d.needs_of(samples), bucket):
      self._passed += int(chunk.passed[done : full.placed].sum())
      done = full.placed
      self._full.append(full)
      self._passed_by.append(self._passed)
      self._passed = 0
      self.batch += 1
      if self.batch >= end:
        placed = full.placed
        break
    self._passed += int(chunk.passed[done:placed].sum())
    self._tables.append(samples.take(slice(0, placed)))
    self._count += placed
    self._position = self._position.after(chunk.first(placed))

  def next_phase(self) -> None:
    """Shares are counted anew; elements go on."""
    phases = self._d.config.phases
    self.phase += 1
    self._position = order.Position(
      self._position.drawn, np.zeros_like(self._position.used)
    )
    if phases[self.phase].row != phases[self.phase - 1].row:
      self._move()

  def _move(self) -> None:
    """What waits goes into rows of the phase's shape, in its order."""
    d, last = self._d, self._rows.last
    left = [i for row in self._rows.waiting()[0] for i in row]
    samples = Samples.joined(self._tables).take(np.array(left, np.int64))
    row = d.config.phases[self.phase].row
    room = np.array(d.config.rules.with_row(row).capacities)
    # Of sources that are no longer drawn, those that no row holds any more.
    fits = np.all(d.needs_of(samples) <= room, axis=1)
    self._passed += int(np.count_nonzero(~fits))
    samples = samples.take(fits)
    bucket = np.zeros(len(samples), np.int64)
    if len(d.config.rules.layouts) > 1:
      for source, table in enumerate(d.tables):
        mine = samples.source == source
        bucket[mine] = table.bucket[samples.index[mine]]
    self._rows = self._new_rows()
    self._rows.take_over(self._count, d.needs_of(samples), bucket, last)
    self._tables.append(samples)
    self._count += len(samples)

  def _samples(self, chunk: order.Chunk) -> Samples:
    d = self._d
    source = np.array([x.source for x in d.lanes])[chunk.lane]
    turns = np.zeros(source.size, np.int64)
    for i, table in enumerate(d.tables):
      mine = np.flatnonzero(source == i)
      turns[mine] = table.turns[chunk.element[mine]]
    return Samples(
      source=source,
      epoch=chunk.epoch,
      index=chunk.element.astype(np.int64),
      turns=turns,
    )

  def segment(self, first: int) -> Segment:
    table = Samples.joined(self._tables)
    placed = [i for full in self._full for row in full.rows for i in row]
    rows, kinds, closed = self._rows.waiting()
    left = [i for row in rows for i in row]
    array = lambda x: np.array(x, np.int64)
    return Segment(
      first=first,
      names=self._d.names,
      bucket=array([full.bucket for full in self._full]),
      passed=array(self._passed_by),
      row_sizes=array([[len(row) for row in full.rows] for full in self._full]),
      samples=table.take(array(placed)),
      after=State(
        batch=self.batch,
        phase=self.phase,
        passed=self._passed,
        drawn=self._position.drawn,
        used=self._position.used,
        last=self._rows.last,
        waiting=table.take(array(left)),
        row_sizes=array([len(row) for row in rows]),
        row_buckets=array(kinds),
        row_closed=np.array(closed, bool),
      ),
    )
