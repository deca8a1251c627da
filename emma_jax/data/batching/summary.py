"""What a plan comes to: shares, fill, buckets, and what is left out."""

from collections.abc import Mapping
import dataclasses
from typing import Any

import numpy as np

from emma_jax.data.batching import first_fit
from emma_jax.data.batching.plan import Plan, SegmentPlanner
from emma_jax.data.batching.row_layout import CAPACITIES
from emma_jax.data.batching.segment import Segment


@dataclasses.dataclass(frozen=True, kw_only=True)
class PhaseSummary:
  """One phase's rows, and its mixture by source, wanted and as planned."""

  first: int  # batch
  batches: int
  row_samples: float  # of a row, on average
  fill: Mapping[str, float]  # as in Summary
  unit: str  # of the weights
  wanted: Mapping[str, float]
  samples: Mapping[str, float]
  tokens: Mapping[str, float]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Summary:
  """Of the first batches of a plan."""

  batches: int
  samples: int
  tokens: int
  # By capacity, "gen_tokens" of the Gen buffer, "slots" of the whole row.
  fill: Mapping[str, float]
  buckets: Mapping[str, int]  # "HEIGHTxWIDTH" -> batches
  phases: tuple[PhaseSummary, ...]
  # By source: elements of an epoch, those truncated and left out, and too much
  # of what.
  sources: Mapping[str, Mapping[str, Any]]
  # Of the pictures to draw so far, the mean share of the area that is cropped.
  cropped: float
  passed: int  # left out so far, over all epochs
  truncated: int


def summarise(
  plan: Plan, batches: int | None = None, samples: int | None = None
) -> Summary:
  """Plans, or loads, so many batches, or until so many samples are placed."""
  tally = _Tally(plan)
  number = 0
  while not tally.enough(batches, samples):
    tally.add(plan.segment(number), batches, samples)
    number += 1
  return tally.summary()


def of_phases(plan: Plan, samples: int) -> tuple[PhaseSummary, ...]:
  """What each phase's rows hold, from so many samples of it alone.

  A phase far into the plan is not waited for: its sources begin their epochs.
  Batches are small, of as many rows as leave first fit all that it may have
  open; how full a row is depends on nothing else.
  """
  rows = min(plan.config.rows, first_fit.OPEN_ALL)
  out: list[PhaseSummary] = []
  for phase in plan.config.phases:
    # Small segments, as one is planned whole.
    alone = dataclasses.replace(
      plan.config, phases=(phase,), rows=rows, segment=max(1, 512 // rows)
    )
    # The elements are those of the whole plan, see PlanConfig.limits.
    found = Plan(alone)
    found.use(SegmentPlanner(alone, plan.drawer.tables))
    out += summarise(found, samples=samples).phases
  return tuple(out)


class _Tally:
  """Sums over batches."""

  def __init__(self, plan: Plan):
    self._d = plan.drawer
    c = self._d.config
    phases = len(c.phases)
    self._need = np.zeros((phases, len(CAPACITIES)), np.int64)
    self._buckets = np.zeros((phases, len(c.rules.layouts)), np.int64)
    self.batches = self._passed = self._truncated = self._drawn = 0
    self._cropped = 0.0
    shape = (phases, len(self._d.names))
    self._samples = np.zeros(shape, np.int64)
    self._tokens = np.zeros(shape, np.int64)

  def enough(self, batches: int | None, samples: int | None) -> bool:
    if batches is not None:
      return self.batches >= batches
    return self._samples.sum() >= (samples or 1)

  def add(
    self, segment: Segment, batches: int | None, samples: int | None
  ) -> None:
    """A segment, as far as it is asked for."""
    counts = segment.row_sizes.sum(axis=1, dtype=np.int64)
    if batches is not None:
      use = min(len(segment), batches - self.batches)
    else:
      left = (samples or 1) - self._samples.sum()
      use = int(np.searchsorted(np.cumsum(counts), left)) + 1
      use = min(len(segment), use)
    s = segment.samples.take(slice(0, int(counts[:use].sum())))
    self._passed += int(segment.passed[:use].sum())
    number = segment.first + np.arange(use)
    of_batch = np.searchsorted(self._d.ends[:-1], number, side="right")
    np.add.at(self._buckets, (of_batch, segment.bucket[:use]), 1)
    phase = np.repeat(of_batch, counts[:use])
    np.add.at(self._need, phase, self._d.needs_of(s))
    for i, table in enumerate(self._d.tables):
      mine = s.source == i
      lost = table.loses_turns[s.index[mine]]
      self._truncated += int(np.count_nonzero(lost))
      drawn = table.need[s.index[mine], CAPACITIES.index("targets")]
      self._drawn += int(drawn.sum())
      self._cropped += float(table.cropped[s.index[mine]].sum(dtype=float))
      size = len(self._samples)
      self._samples[:, i] += np.bincount(phase[mine], minlength=size)
      self._tokens[:, i] += np.bincount(
        phase[mine], table.tokens[s.index[mine]], size
      ).astype(np.int64)
    self.batches += use

  def summary(self) -> Summary:
    c, d = self._d.config, self._d
    every = range(len(c.phases))
    rooms = [self._room(i) for i in every]
    return Summary(
      batches=self.batches,
      samples=int(self._samples.sum()),
      tokens=int(self._tokens.sum()),
      fill=_fill(
        {k: sum(room[k] for room in rooms) for k in rooms[0]},
        self._need.sum(axis=0),
        int(self._tokens.sum()),
      ),
      buckets={
        f"{y}x{x}": int(n)
        for (y, x), n in zip(c.rules.buckets, self._buckets.sum(axis=0))
      },
      phases=tuple(
        self._phase(i, rooms[i]) for i in every if self._samples[i].sum()
      ),
      sources={
        name: {
          "elements": len(t),
          "truncated": t.truncated,
          "dropped": t.dropped,
          "cropped": t.mean_cropped,
          "too much of": t.reasons(c.limits(name)),
        }
        for name, t in zip(d.names, d.tables)
      },
      cropped=self._cropped / max(self._drawn, 1),
      passed=self._passed,
      truncated=self._truncated,
    )

  def _room(self, i: int) -> dict[str, int]:
    """Of all rows of a phase, by the names of `Summary.fill`."""
    c, count = self._d.config, self._buckets[i]
    rules = c.rules.with_row(c.phases[i].row)
    rows = int(count.sum()) * c.rows
    out = {k: n * rows for k, n in zip(CAPACITIES, rules.capacities)}
    gen = [x.gen_tokens for x in rules.layouts]
    out["gen_tokens"] = int(np.dot(count, gen)) * c.rows
    out["slots"] = out["gen_tokens"] + out["und_tokens"]
    return out

  def _phase(self, i: int, room: Mapping[str, int]) -> PhaseSummary:
    phase, batches = self._d.config.phases[i], int(self._buckets[i].sum())
    weights = [phase.weights.get(name, 0.0) for name in self._d.names]
    of = lambda counts: dict(
      zip(self._d.names, (np.array(counts) / np.sum(counts)).tolist())
    )
    rows = batches * self._d.config.rows
    return PhaseSummary(
      first=0 if i == 0 else int(self._d.ends[i - 1]),
      batches=batches,
      row_samples=float(self._samples[i].sum() / rows),
      fill=_fill(room, self._need[i], int(self._tokens[i].sum())),
      unit=phase.unit,
      wanted=of(weights),
      samples=of(self._samples[i]),
      tokens=of(self._tokens[i]),
    )


def _fill(
  room: Mapping[str, int], need: np.ndarray, tokens: int
) -> dict[str, float]:
  """Shares of `room` that are used, of what there is room for."""
  used = dict(zip(CAPACITIES, need.tolist()))
  used |= {"gen_tokens": tokens - used["und_tokens"], "slots": tokens}
  return {k: used[k] / most for k, most in room.items() if most}
