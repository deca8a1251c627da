"""In which order samples are drawn, so that every share is exact.

Weighted fair queueing: a lane's time is what it has used in this phase over its
weight; a sample stands at the middle of the time it takes, and the earliest
one is drawn first. So at every moment all lanes are within half a sample of
one common time, and of n lanes none is more than (n + 1) / 2 samples away from
its share, in samples or in tokens, however long the stage is.

A lane is a source, or where there are several buckets, a source's records of
one bucket. Its elements come in a new order every epoch, and go on where they
left off in the next phase.
"""

from collections.abc import Sequence
import dataclasses

import numpy as np

from emma_jax.data.batching.mixture import epoch_order
from emma_jax.data.batching.row_cost import ANY_BUCKET, RowCost


@dataclasses.dataclass(frozen=True, eq=False)
class SourceQueue:
  """Elements that share one weight."""

  name: str  # seeds its order
  source: int
  bucket: int
  elements: np.ndarray | None  # of the source; None: all of them
  length: int
  cost: float  # mean tokens of an element that fits
  usable: float  # share of the elements that fit
  draws: bool  # whether its elements have a picture to draw

  @property
  def samples(self) -> float:
    """Samples of an epoch."""
    return self.length * self.usable

  @property
  def tokens(self) -> float:
    """Tokens of an epoch."""
    return self.samples * self.cost


def lanes(
  names: Sequence[str],
  tables: Sequence[RowCost],
  buckets: Sequence[tuple[int, int]],
) -> tuple[SourceQueue, ...]:
  """All lanes of some sources; ValueError for a source of which nothing fits.

  Args:
    names: of the sources.
    tables: what their elements take.
    buckets: (height, width) of each.
  """
  out = []
  for source, (name, table) in enumerate(zip(names, tables)):
    kinds = [ANY_BUCKET, *range(len(buckets))] if len(buckets) > 1 else [None]
    for kind in kinds:
      elements, title = None, name
      if kind is not None:
        elements = np.flatnonzero(table.bucket == kind).astype(np.int32)
        y, x = buckets[kind]
        title = f"{name}/any" if kind == ANY_BUCKET else f"{name}/{y}x{x}"
      mine = table.take(elements)
      fits = int(np.count_nonzero(mine.fits))
      if fits:
        out.append(
          SourceQueue(
            title,
            source,
            0 if kind is None else kind,
            elements,
            len(mine),
            float(mine.tokens[mine.fits].mean()),
            fits / len(mine),
            bool(mine.draws[mine.fits].any()),
          )
        )
    if not np.any(table.fits):
      raise ValueError(f"No record of the source {name!r} fits into a row.")
  return tuple(out)


@dataclasses.dataclass(frozen=True, eq=False)
class Chunk:
  """The next samples, in order; arrays (n,)."""

  lane: np.ndarray
  running: np.ndarray  # number among the lane's elements of all epochs
  epoch: np.ndarray
  element: np.ndarray  # of the source
  cost: np.ndarray  # in the phase's unit
  passed: np.ndarray  # elements that do not fit, just before it in its lane

  def first(self, count: int) -> "Chunk":
    """Its first `count` samples."""
    fields = [f.name for f in dataclasses.fields(self)]
    return Chunk(**{name: getattr(self, name)[:count] for name in fields})


@dataclasses.dataclass(frozen=True, eq=False)
class Position:
  """Where each lane stands; arrays (lanes,) int64."""

  drawn: np.ndarray  # elements, those that do not fit included
  used: np.ndarray  # in this phase, in its unit

  def after(self, chunk: Chunk) -> "Position":
    """Where the lanes stand once all of `chunk` is taken."""
    drawn, used = self.drawn.copy(), self.used.copy()
    np.maximum.at(drawn, chunk.lane, chunk.running + 1)
    np.add.at(used, chunk.lane, chunk.cost)
    return Position(drawn, used)


class FairQueue:
  """Draws from the lanes; every answer depends on its arguments alone."""

  def __init__(
    self, all_lanes: Sequence[SourceQueue], tables: Sequence[RowCost], seed: int
  ):
    self.lanes, self._tables, self._seed = all_lanes, tables, seed
    self._orders: dict[tuple[str, int], np.ndarray] = {}

  def chunk(
    self, position: Position, weights: np.ndarray, unit: str, count: int
  ) -> Chunk:
    """About `count` samples after `position`.

    Args:
      position: of all lanes.
      weights: (lanes,), 0 for lanes that play no part.
      unit: "samples" or "tokens", which the weights count.
      count: a wish; at least one sample comes.
    """
    active = np.flatnonzero(weights).tolist()
    mean = lambda x: x.cost if unit == "tokens" else 1.0
    rates = {i: weights[i] / mean(self.lanes[i]) for i in active}
    span = count / sum(rates.values())
    parts, times, horizon = [], [], np.inf
    for i in active:
      wish = int(span * rates[i] / self.lanes[i].usable) + 2
      part = self._ahead(i, int(position.drawn[i]), wish, unit)
      used = position.used[i] + np.cumsum(part.cost)
      times.append((used - part.cost / 2) / weights[i])
      horizon = min(horizon, used[-1] / weights[i])
      parts.append(part)
    time = np.concatenate(times)
    names = [f.name for f in dataclasses.fields(Chunk)]
    joined = {n: np.concatenate([getattr(p, n) for p in parts]) for n in names}
    # Behind the horizon a lane may have more than was looked at.
    ready = np.flatnonzero(time < horizon)
    order = ready[np.lexsort((joined["lane"][ready], time[ready]))]
    return Chunk(**{name: values[order] for name, values in joined.items()})

  def _ahead(self, lane: int, drawn: int, wish: int, unit: str) -> Chunk:
    """The next `wish` elements of a lane, more where none of them fits."""
    table = self._tables[self.lanes[lane].source]
    while True:
      epoch, element = self._elements(self.lanes[lane], drawn, wish)
      fit = np.flatnonzero(table.fits[element])
      if fit.size:
        break
      wish *= 2
    element, running = element[fit], drawn + fit
    ones = np.ones(fit.size, np.int64)
    return Chunk(
      lane=lane * ones,
      running=running,
      epoch=epoch[fit],
      element=element,
      cost=table.tokens[element].astype(np.int64) if unit == "tokens" else ones,
      passed=np.diff(fit, prepend=-1) - 1,
    )

  def _elements(
    self, lane: SourceQueue, drawn: int, wish: int
  ) -> tuple[np.ndarray, np.ndarray]:
    """(epoch, element) of the running numbers from `drawn` on."""
    epochs, elements = [], []
    while wish:
      epoch, start = divmod(drawn, lane.length)
      here = self._order(lane, epoch)[start : start + wish]
      elements.append(here if lane.elements is None else lane.elements[here])
      epochs.append(np.full(here.size, epoch, np.int64))
      drawn, wish = drawn + here.size, wish - here.size
    return np.concatenate(epochs), np.concatenate(elements)

  def _order(self, lane: SourceQueue, epoch: int) -> np.ndarray:
    key = lane.name, epoch
    if key not in self._orders:
      # Of ten million elements an order is 40 MB: this epoch's and the next.
      self._orders = {
        (name, e): x
        for (name, e), x in self._orders.items()
        if name != lane.name or e == epoch - 1
      }
      self._orders[key] = epoch_order(self._seed, lane.name, epoch, lane.length)
    return self._orders[key]
