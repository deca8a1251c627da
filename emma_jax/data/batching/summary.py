"""What a plan comes to: shares, fill, buckets, and what is left out."""

from collections.abc import Mapping
import dataclasses
from typing import Any

import numpy as np

from emma_jax.data.batching.plan import Plan
from emma_jax.data.batching.row_layout import CAPACITIES
from emma_jax.data.batching.segment import Segment


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shares:
  """One phase's mixture, by source, as wanted and as planned."""

  first: int  # batch
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
  phases: tuple[Shares, ...]
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


class _Tally:
  """Sums over batches."""

  def __init__(self, plan: Plan):
    self._d = plan.drawer
    c = self._d.config
    self._need, self._buckets = (
      np.zeros(len(CAPACITIES), np.int64),
      np.zeros(len(c.rules.layouts), np.int64),
    )
    self.batches = self._passed = self._truncated = self._drawn = 0
    self._cropped = 0.0
    shape = (len(c.phases), len(self._d.names))
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
    self._need += self._d.needs_of(s).sum(axis=0)
    self._buckets += np.bincount(
      segment.bucket[:use], minlength=self._buckets.size
    )
    self._passed += int(segment.passed[:use].sum())
    number = segment.first + np.arange(use)
    phase = np.searchsorted(self._d.ends[:-1], number, side="right")
    phase = np.repeat(phase, counts[:use])
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
    room = np.array(c.rules.capacities) * c.rows * self.batches
    fill = {
      name: float(n / most)
      for name, n, most in zip(CAPACITIES, self._need, room)
      if most
    }
    gen = (
      sum(
        int(n) * layout.gen_tokens
        for n, layout in zip(self._buckets, c.rules.layouts)
      )
      * c.rows
    )
    tokens, und = int(self._tokens.sum()), int(self._need[0])
    if gen:
      fill["gen_tokens"] = (tokens - und) / gen
    fill["slots"] = tokens / (gen + int(room[0]))
    return Summary(
      batches=self.batches,
      samples=int(self._samples.sum()),
      tokens=tokens,
      fill=fill,
      buckets={
        f"{y}x{x}": int(n) for (y, x), n in zip(c.rules.buckets, self._buckets)
      },
      phases=tuple(filter(None, map(self._shares, range(len(c.phases))))),
      sources={
        name: {
          "elements": len(t),
          "truncated": t.truncated,
          "dropped": t.dropped,
          "cropped": t.mean_cropped,
          "too much of": t.reasons(c.rules),
        }
        for name, t in zip(d.names, d.tables)
      },
      cropped=self._cropped / max(self._drawn, 1),
      passed=self._passed,
      truncated=self._truncated,
    )

  def _shares(self, i: int) -> Shares | None:
    """None for a phase that no batch is of."""
    phase = self._d.config.phases[i]
    if not self._samples[i].sum():
      return None
    weights = [phase.weights.get(name, 0.0) for name in self._d.names]
    of = lambda counts: dict(
      zip(self._d.names, (np.array(counts) / np.sum(counts)).tolist())
    )
    first = 0 if i == 0 else int(self._d.ends[i - 1])
    return Shares(
      first=first,
      unit=phase.unit,
      wanted=of(weights),
      samples=of(self._samples[i]),
      tokens=of(self._tokens[i]),
    )
