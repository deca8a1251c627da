"""Which sample comes when: exact shares, as a pure function of the step."""

from collections.abc import Collection, Mapping, Sequence
import dataclasses
from fractions import Fraction
import functools
import math
from typing import NamedTuple

import numpy as np

# A period of the interleaving pattern; weights that need more are a mistake.
_MAX_PERIOD = 100_000
# Where unshuffled sources start, by seed: a prime, far apart.
_STRIDE = 1_000_003


@dataclasses.dataclass(frozen=True)
class Phase:
  """`steps` batches in which sources come in the ratio of `weights`.

  The last phase of a mixture goes on for ever, whatever its `steps`, or None.
  `unit`: what the weights count, "samples" or "tokens"; `even_buckets`: each
  source's pictures come from all aspect ratios alike; `row`: capacities of its
  rows that are not the layout's, by name (all three: planned streams only).
  """

  weights: Mapping[str, float]
  steps: int | None
  unit: str
  even_buckets: bool
  row: Mapping[str, int]

  def __post_init__(self):
    if self.unit not in ("samples", "tokens"):
      raise ValueError(f"{self.unit=} is unknown; use 'samples' or 'tokens'.")
    if not self.weights:
      raise ValueError("A phase needs at least one source in `weights`.")
    for name, weight in self.weights.items():
      if not 0 < weight < math.inf:
        raise ValueError(
          f"weights[{name!r}]={weight} must be positive; leave the source "
          "out of the phase to not use it."
        )
    if self.steps is not None and self.steps < 1:
      raise ValueError(f"A phase of steps={self.steps}; at least 1 is needed.")


class Draw(NamedTuple):
  """Element `index` of a source, in its pass `epoch` (0, 1, ...).

  `turns`: of a conversation that are kept; 0: as many as the config says.
  """

  name: str
  epoch: int
  index: int  # type: ignore[assignment]  # hides tuple.index, which is unused
  turns: int = 0


def check_phases(phases: Sequence[Phase], sources: Collection[str]) -> None:
  """Raises ValueError for phases that do not follow each other.

  There has to be one, all but the last have `steps`, and all sources that they
  name are among `sources`.
  """
  if not phases:
    raise ValueError("A mixture needs at least one phase.")
  for i, phase in enumerate(phases):
    if phase.steps is None and i + 1 < len(phases):
      raise ValueError(
        f"Phase {i} of {len(phases)} has no `steps`; only the last may go on "
        "for ever."
      )
    for name in phase.weights:
      if name not in sources:
        raise ValueError(
          f"Phase {i} names the source {name!r}; the sources are "
          f"{sorted(sources)}."
        )


@dataclasses.dataclass(frozen=True)
class Mixture:
  """Random access to an endless, exactly proportioned stream of draws.

  After any number of samples of a phase, every source is less than one sample
  away from its share, and exact at every multiple of the weights' period. A
  source's elements go on where it left off, across phases.

  >>> phase = Phase({"a": 2, "b": 1}, steps=None, unit="samples",
  ...               even_buckets=False, row={})
  >>> m = Mixture(phases=(phase,), lengths={"a": 3, "b": 9},
  ...             shuffled=frozenset(), samples_per_batch=3, seed=0)
  >>> [(d.name, d.epoch, d.index) for d in m.batch_plan(1)]
  [('a', 0, 2), ('b', 0, 1), ('a', 1, 0)]

  Args:
    phases: in order; all but the last need `steps`.
    lengths: elements per source.
    shuffled: sources read in a new seeded order every epoch (files); the
      others are read in order (the world, whose elements are random already),
      starting where the seed says.
    samples_per_batch: draws per step.
    seed: of the orders.
  """

  phases: Sequence[Phase]
  lengths: Mapping[str, int]
  shuffled: frozenset[str]
  samples_per_batch: int
  seed: int

  def __post_init__(self):
    if self.samples_per_batch < 1:
      raise ValueError(f"{self.samples_per_batch=} must be positive.")
    check_phases(self.phases, self.lengths)
    for name in {name for phase in self.phases for name in phase.weights}:
      if self.lengths[name] < 1:
        raise ValueError(f"The source {name!r} is empty.")

  def batch_plan(self, step: int) -> list[Draw]:
    """The draws of a step, in the order in which they are packed."""
    if step < 0:
      raise ValueError(f"{step=} is negative.")
    n = self.samples_per_batch
    drawn = dict.fromkeys(self.lengths, 0)
    first = 0
    for phase in self.phases[:-1]:
      assert phase.steps is not None  # see __post_init__
      if step < first + phase.steps:
        break
      _count(drawn, phase, phase.steps * n)
      first += phase.steps
    else:
      phase = self.phases[-1]
    start = (step - first) * n
    _count(drawn, phase, start)
    pattern = _pattern(tuple(phase.weights.items()))
    plan = []
    for i in range(start, start + n):
      name = pattern[i % len(pattern)]
      plan.append(self._draw(name, drawn[name]))
      drawn[name] += 1
    return plan

  def _draw(self, name: str, running: int) -> Draw:
    epoch, index = divmod(running, self.lengths[name])
    if name in self.shuffled:
      order = _order(self.seed, name, epoch, self.lengths[name])
      index = int(order[index])
    else:
      # Another seed (another stage of a run) reads another stretch.
      index = (index + self.seed * _STRIDE) % self.lengths[name]
    return Draw(name, epoch, index)


def _count(drawn: dict[str, int], phase: Phase, samples: int) -> None:
  """Adds what the first `samples` of a phase take of each source."""
  pattern = _pattern(tuple(phase.weights.items()))
  periods, rest = divmod(samples, len(pattern))
  for name in phase.weights:
    drawn[name] += periods * pattern.count(name) + pattern[:rest].count(name)


@functools.lru_cache(maxsize=64)
def _pattern(weights: tuple[tuple[str, float], ...]) -> tuple[str, ...]:
  """One period of the interleaving.

  The next sample goes to the source whose next one is due first, among those
  that would not run ahead of their share (earliest deadline first, which keeps
  every count within one of its share at every point).
  """
  # Through str: 0.7 is meant as 7/10, not as the nearest binary number.
  exact = {name: Fraction(str(w)) for name, w in weights}
  scale = math.lcm(*(w.denominator for w in exact.values()))
  whole = {name: int(w * scale) for name, w in exact.items()}
  common = math.gcd(*whole.values())
  whole = {name: w // common for name, w in whole.items()}
  period = sum(whole.values())
  if period > _MAX_PERIOD:
    raise ValueError(
      f"The weights {dict(weights)} repeat only after {period} samples; use "
      "rounder numbers."
    )
  counts = dict.fromkeys(whole, 0)
  out = []
  for i in range(1, period + 1):
    ready = [n for n in whole if counts[n] * period < i * whole[n]]
    # Deadline of the next sample: (count + 1) / share, compared exactly; of
    # equal ones the source furthest behind, which interleaves better.
    name = min(
      ready,
      key=lambda n: (
        Fraction(counts[n] + 1, whole[n]),
        counts[n] * period - i * whole[n],
      ),
    )
    counts[name] += 1
    out.append(name)
  return tuple(out)


def epoch_order(seed: int, name: str, epoch: int, length: int) -> np.ndarray:
  """A permutation of an epoch; the name's bytes, since hash() is salted."""
  rng = np.random.default_rng([seed, epoch, *name.encode()])
  return rng.permutation(length).astype(np.int32 if length < 2**31 else int)


_order = functools.lru_cache(maxsize=32)(epoch_order)
