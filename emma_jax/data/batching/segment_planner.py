"""Segments of a plan, computed from lengths: sources in turn, rows by first
fit."""

from collections.abc import Sequence

import numpy as np

from emma_jax.data.batching import first_fit, order, row_cost
from emma_jax.data.batching.mixture import Phase
from emma_jax.data.batching.plan_config import PlanConfig, PlannedSource
from emma_jax.data.batching.row_layout import CAPACITIES
from emma_jax.data.batching.segment import Samples, Segment, State

# Samples that are drawn at a time: enough to make numpy worth its while, not
# many more than are used. It decides nothing.
_LEAST, _MOST = 1 << 9, 1 << 15


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
    self._source_of = np.array([x.source for x in self.lanes])
    self._bucket_of = np.array([x.bucket for x in self.lanes])

  def weights(self, phase: Phase) -> np.ndarray:
    """(lanes,): a source's weight, dealt to its lanes.

    So that all of them end their epochs together; with even buckets, those of
    a bucket get the same, of pictures to draw alone: questions come as they
    are.
    """
    tokens = phase.unit == "tokens"
    size = np.array([x.tokens if tokens else x.samples for x in self.lanes])
    of_bucket = np.array(
      [x.draws and x.bucket != row_cost.ANY_BUCKET for x in self.lanes]
    )
    out = np.zeros(size.size)
    for i, name in enumerate(self.names):
      mine = self._source_of == i
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

  def samples_of(self, chunk: order.Chunk) -> Samples:
    """What is drawn, with the turns that are kept of it."""
    source = self._source_of[chunk.lane]
    turns = np.zeros(source.size, np.int64)
    for i, table in enumerate(self.tables):
      mine = np.flatnonzero(source == i)
      turns[mine] = table.turns[chunk.element[mine]]
    return Samples(
      source=source,
      epoch=chunk.epoch,
      index=chunk.element.astype(np.int64),
      turns=turns,
    )

  def buckets_of(self, chunk: order.Chunk) -> np.ndarray:
    """(n,): that of the lane which each is drawn from."""
    return self._bucket_of[chunk.lane]

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
    samples = d.samples_of(chunk)
    done, placed = 0, len(samples)
    bucket = d.buckets_of(chunk)
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
    need = d.needs_of(samples)
    fits = np.all(need <= room, axis=1)
    self._passed += int(np.count_nonzero(~fits))
    samples, need = samples.take(fits), need[fits]
    bucket = np.zeros(len(samples), np.int64)
    if len(d.config.rules.layouts) > 1:
      for source, table in enumerate(d.tables):
        mine = samples.source == source
        bucket[mine] = table.bucket[samples.index[mine]]
    self._rows = self._new_rows()
    self._rows.take_over(self._count, need, bucket, last)
    self._tables.append(samples)
    self._count += len(samples)

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
