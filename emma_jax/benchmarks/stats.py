"""Intervals of scores, tests between two runs, and the gate.

Items of one picture, document or prompt are not independent: they form a
cluster, and clusters are what is resampled or flipped. Strata are the parts
whose means are averaged (tags, edit types); their mean of means is made anew in
each replicate.

All that is random takes a seed, and gives the same for the same.
"""

from collections.abc import Hashable, Mapping, Sequence
import dataclasses
import math
import statistics
from typing import Any

import numpy as np

REPLICATES = 10_000
CONFIDENCE = 0.95
# Numbers drawn at a time: 32 MB of indices.
_CHUNK = 1 << 22
# Up to so many clusters all flips are gone through: 2^13 < REPLICATES.
_EXACT_CLUSTERS = 13


@dataclasses.dataclass(frozen=True)
class Interval:
  """low <= high, in units of the score."""

  low: float
  high: float


def z_value(confidence: float) -> float:
  """Standard deviations of a normal on either side: 0.95 -> 1.96.

  Raises:
    ValueError: a confidence that is not between 0 and 1.
  """
  if not 0 < confidence < 1:
    raise ValueError(f"{confidence=} must be between 0 and 1.")
  return statistics.NormalDist().inv_cdf((1 + confidence) / 2)


# ---------------------------------------------------------------- intervals


def wilson(
  successes: float, count: int, confidence: float = CONFIDENCE
) -> Interval:
  """Wilson's interval of a share, 0..1, of independent items (Wilson 1927).

  Args:
    successes: 0..count; the share need not come from whole successes.
    count: items, at least one.
    confidence: of the interval.

  Raises:
    ValueError: no items, or successes beyond 0..count.
  """
  if count < 1 or not 0 <= successes <= count:
    raise ValueError(f"{successes=} of {count=} items are no share.")
  z2 = z_value(confidence) ** 2
  share = successes / count
  middle = (share + z2 / (2 * count)) / (1 + z2 / count)
  spread = math.sqrt(share * (1 - share) * z2 / count + (z2 / count) ** 2 / 4)
  half = spread / (1 + z2 / count)
  # At 0 and 1 an end is the share itself, which rounding must not miss.
  low, high = max(0.0, middle - half), min(1.0, middle + half)
  return Interval(min(low, share), max(high, share))


@dataclasses.dataclass(frozen=True)
class Estimate:
  """A mean (of means, where there are strata) and how sure it is.

  value, standard_error: in units of the score. interval: percentiles of the
  replicates. design_effect: variance over what independent items would have; 1
  where nothing varies. items, clusters: how many.
  """

  value: float
  interval: Interval
  standard_error: float
  design_effect: float
  items: int
  clusters: int


@dataclasses.dataclass(frozen=True)
class _Stratum:
  """Per cluster: the sum of its scores (C,), and its items (C,); the scores."""

  sums: np.ndarray
  counts: np.ndarray
  values: np.ndarray

  @property
  def mean(self) -> float:
    return float(self.sums.sum() / self.counts.sum())


def _strata(
  values: Sequence[float],
  clusters: Sequence[Hashable] | None,
  strata: Sequence[Hashable] | None,
) -> list[_Stratum]:
  scores = np.asarray(values, np.float64)
  if scores.ndim != 1 or not scores.size:
    raise ValueError(f"Scores must be a list of numbers, not {scores.shape}.")
  if not np.isfinite(scores).all():
    raise ValueError("A score is NaN or infinite; failures count as lowest.")
  cluster_of = _codes(clusters, scores.size, "clusters", each=True)
  stratum_of = _codes(strata, scores.size, "strata", each=False)
  pairs = np.unique(np.stack([cluster_of, stratum_of]), axis=1)
  if pairs.shape[1] != cluster_of.max() + 1:
    raise ValueError("A cluster lies in two strata; then they must be one.")
  found = []
  for stratum in range(stratum_of.max() + 1):
    chosen = stratum_of == stratum
    _, own = np.unique(cluster_of[chosen], return_inverse=True)
    sums = np.bincount(own, scores[chosen])
    found.append(_Stratum(sums, np.bincount(own), scores[chosen]))
  return found


def _codes(
  labels: Sequence[Hashable] | None, count: int, name: str, *, each: bool
) -> np.ndarray:
  """Labels as 0, 1, ... (count,); without any: one of each, or one for all."""
  if labels is None:
    return np.arange(count) if each else np.zeros(count, np.int64)
  if len(labels) != count:
    raise ValueError(f"{len(labels)} {name} for {count} scores.")
  known: dict[Hashable, int] = {}
  return np.array([known.setdefault(x, len(known)) for x in labels], np.int64)


def _labels(
  label_of: Mapping[str, Hashable] | None, ids: Sequence[str]
) -> list[Hashable] | None:
  return None if label_of is None else [label_of[x] for x in ids]


def cluster_bootstrap(
  values: Sequence[float],
  clusters: Sequence[Hashable] | None = None,
  strata: Sequence[Hashable] | None = None,
  *,
  seed: int,
  confidence: float = CONFIDENCE,
  replicates: int = REPLICATES,
) -> Estimate:
  """The mean of means, with its percentile interval (Efron 1979, by clusters).

  In each replicate as many clusters as there are in a stratum are drawn from
  it, with replacement; the stratum's mean is that of all their items.

  Args:
    values: scores, (items,).
    clusters: label of each item's cluster; None: all are independent.
    strata: label of each item's stratum; None: one for all. A cluster must not
      lie in two.
    seed: of the draws.
    confidence, replicates: see there.

  Raises:
    ValueError: no scores, NaN among them, labels of another number, a cluster
      in two strata.
  """
  z_value(confidence)  # checks it
  parts = _strata(values, clusters, strata)
  rng = np.random.default_rng(seed)
  means = np.zeros(replicates)
  for part in parts:
    means += _resampled_means(part, replicates, rng)
  means /= len(parts)
  value = float(np.mean([part.mean for part in parts]))
  tail = (1 - confidence) / 2
  low, high = np.quantile(means, [tail, 1 - tail])
  # Resampling alone moves sums by rounding; what does not vary is certain.
  variance = float(np.var(means))
  independent = (
    sum(float(np.var(part.values)) / part.values.size for part in parts)
    / len(parts) ** 2
  )
  scale = max(abs(value), 1e-300)
  certain = math.sqrt(variance) < 1e-12 * scale or not independent
  return Estimate(
    value=value,
    interval=Interval(float(low), float(high)),
    standard_error=0.0 if certain else math.sqrt(variance),
    design_effect=1.0 if certain else variance / independent,
    items=sum(part.values.size for part in parts),
    clusters=sum(part.sums.size for part in parts),
  )


def _resampled_means(
  part: _Stratum, replicates: int, rng: np.random.Generator
) -> np.ndarray:
  """(replicates,)"""
  count = part.sums.size
  means = []
  rows = max(1, _CHUNK // count)
  for begin in range(0, replicates, rows):
    size = (min(rows, replicates - begin), count)
    drawn = rng.integers(count, size=size)
    means.append(part.sums[drawn].sum(1) / part.counts[drawn].sum(1))
  return np.concatenate(means)


# -------------------------------------------------------------------- tests


@dataclasses.dataclass(frozen=True)
class Paired:
  """Scores of two runs on the items that both have, in the order of the ids.

  only_a, only_b: how many items the other lacks; they are in no comparison.
  """

  ids: tuple[str, ...]
  a: np.ndarray
  b: np.ndarray
  only_a: int
  only_b: int


def pair(a: Mapping[str, float], b: Mapping[str, float]) -> Paired:
  """Brings two runs' scores together: id -> score, of each.

  Raises:
    ValueError: no id is in both.
  """
  ids = tuple(sorted(a.keys() & b.keys()))
  if not ids:
    raise ValueError("The two runs have no item in common.")
  return Paired(
    ids,
    np.array([a[x] for x in ids], np.float64),
    np.array([b[x] for x in ids], np.float64),
    len(a) - len(ids),
    len(b) - len(ids),
  )


def mcnemar(only_a: int, only_b: int) -> float:
  """McNemar's exact p, two-sided, from the items on which the runs differ.

  Twice the tail of a binomial with a half, at most 1; without a difference 1.

  Args:
    only_a, only_b: items that one run has right and the other wrong.
  """
  if only_a < 0 or only_b < 0:
    raise ValueError(f"Counts must not be negative: {only_a}, {only_b}.")
  count = only_a + only_b
  term, tail = 1, 0  # whole numbers: exact for any count
  for k in range(min(only_a, only_b) + 1):
    tail += term
    term = term * (count - k) // (k + 1)
  return min(1.0, 2 * tail / (1 << count))


def permutation(
  differences: Sequence[float],
  clusters: Sequence[Hashable] | None = None,
  strata: Sequence[Hashable] | None = None,
  *,
  seed: int,
  replicates: int = REPLICATES,
) -> float:
  """p, two-sided, that paired differences are 0 in the mean (of means).

  Each cluster's differences change their sign together. Up to 13 clusters all
  flips are gone through; above, so many are drawn, and what was seen counts as
  one more draw, so that p is never 0.

  Args:
    differences: score of one run less the other's, per item.
    clusters, strata, seed, replicates: see `cluster_bootstrap`.

  Raises:
    ValueError: see `cluster_bootstrap`.
  """
  parts = _strata(differences, clusters, strata)
  shares = np.concatenate([p.sums / p.counts.sum() for p in parts])
  shares = shares[shares != 0] / len(parts)  # a flip of nothing is nothing
  # What differs by rounding alone is as far out as what was seen.
  limit = abs(shares.sum()) - 1e-12 * np.abs(shares).sum()
  if shares.size <= _EXACT_CLUSTERS:
    bits = np.arange(1 << shares.size)[:, None] >> np.arange(shares.size)
    sums = (1 - 2 * (bits & 1)) @ shares
    return float(np.mean(np.abs(sums) >= limit))
  rng = np.random.default_rng(seed)
  beyond = 0
  rows = max(1, _CHUNK // shares.size)
  for begin in range(0, replicates, rows):
    size = (min(rows, replicates - begin), shares.size)
    signs = 1 - 2 * rng.integers(2, size=size, dtype=np.int8)
    beyond += int(np.sum(np.abs(signs @ shares) >= limit))
  return (1 + beyond) / (1 + replicates)


@dataclasses.dataclass(frozen=True)
class Comparison:
  """Run b against run a, on common items.

  difference: b less a. p: that there is none. test: mcnemar or permutation.
  needed: items for a decision at this difference, where p leaves it open and
  there is a difference; else None.
  """

  difference: Estimate
  p: float
  test: str
  only_a: int
  only_b: int
  needed: int | None


def compare(
  a: Mapping[str, float],
  b: Mapping[str, float],
  clusters: Mapping[str, Hashable] | None = None,
  strata: Mapping[str, Hashable] | None = None,
  *,
  seed: int,
  confidence: float = CONFIDENCE,
  replicates: int = REPLICATES,
) -> Comparison:
  """Two runs' scores: by McNemar if all are 0 or 1, independent, and in one
  stratum; by permutation otherwise.

  Args:
    a, b: id -> score.
    clusters, strata: id -> label; see `cluster_bootstrap`.
    seed, confidence, replicates: see there.

  Raises:
    ValueError: no common id; and see `cluster_bootstrap`.
  """
  both = pair(a, b)
  groups, layers = _labels(clusters, both.ids), _labels(strata, both.ids)
  differences = (both.b - both.a).tolist()
  difference = cluster_bootstrap(
    differences,
    groups,
    layers,
    seed=seed,
    confidence=confidence,
    replicates=replicates,
  )
  binary = np.isin([both.a, both.b], [0, 1]).all()
  alone = difference.clusters == difference.items
  if binary and alone and (not layers or len(set(layers)) == 1):
    test = "mcnemar"
    p = mcnemar(differences.count(-1), differences.count(1))
  else:
    test = "permutation"
    p = permutation(
      differences, groups, layers, seed=seed, replicates=replicates
    )
  needed = None
  if p > 1 - confidence and difference.standard_error:
    deviation = difference.standard_error * math.sqrt(difference.items)
    needed = needed_items(difference.value, deviation, confidence=confidence)
  return Comparison(difference, p, test, both.only_a, both.only_b, needed)


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
  """name -> p after Holm's correction for having looked at all of them.

  The k-th smallest of n is multiplied by n - k + 1; none is smaller than one
  before it, none above 1 (Holm 1979).

  Raises:
    ValueError: a p that is not in 0..1.
  """
  adjusted: dict[str, float] = {}
  least = 0.0
  ranked = sorted(p_values.items(), key=lambda item: item[1])
  for rank, (name, p) in enumerate(ranked):
    if not 0 <= p <= 1:
      raise ValueError(f"{p=} of {name} is not in 0..1.")
    least = max(least, min(1.0, (len(ranked) - rank) * p))
    adjusted[name] = least
  return {name: adjusted[name] for name in p_values}


def needed_items(
  difference: float,
  deviation: float,
  *,
  confidence: float = CONFIDENCE,
  power: float = 0.8,
) -> int | None:
  """Items of a set on which a difference of this size would be found.

  By the normal approximation: ((z_confidence + z_power) deviation /
  difference)^2. None for no difference, which no set shows.

  Args:
    difference: that of the means.
    deviation: standard deviation of an item's difference; where items are
      clustered, the standard error times the root of the items.
    confidence: of the two-sided test.
    power: how often the difference is to be found.

  Raises:
    ValueError: a negative deviation, a power that is not between 0 and 1.
  """
  if deviation < 0 or not 0 < power < 1:
    raise ValueError(f"{deviation=} or {power=} is out of range.")
  if not difference:
    return None
  z = z_value(confidence) + statistics.NormalDist().inv_cdf(power)
  return max(1, math.ceil((z * deviation / difference) ** 2))


# --------------------------------------------------------------------- gate


class ChangedYardstick(ValueError):
  """Two numbers were not measured alike, so that none of them is worse."""


@dataclasses.dataclass(frozen=True)
class Gate:
  """Whether a run is as good as an earlier one, less the margin.

  passed: the interval of the difference (new less old) does not lie below
  -margin as a whole.
  """

  passed: bool
  difference: Estimate
  margin: float


def gate(
  new: Mapping[str, float],
  old: Mapping[str, float],
  yardsticks: tuple[Mapping[str, Any], Mapping[str, Any]],
  clusters: Mapping[str, Hashable] | None = None,
  strata: Mapping[str, Hashable] | None = None,
  *,
  margin: float,
  seed: int,
  confidence: float = CONFIDENCE,
  replicates: int = REPLICATES,
) -> Gate:
  """Non-inferiority: fails where a run is worse by more than the margin for
  sure; a difference that is not decided passes.

  Args:
    new, old: id -> score, of the same items.
    yardsticks: of new and of old: how it was measured (implementation, judge,
      data, prompt, ...), by name.
    clusters, strata: id -> label; see `cluster_bootstrap`.
    margin: in units of the score: 0.01 is a point where scores are 0..1.
    seed, confidence, replicates: see there.

  Raises:
    ChangedYardstick: items or an entry of the yardsticks differ; says which.
    ValueError: a negative margin; and see `cluster_bootstrap`.
  """
  if margin < 0:
    raise ValueError(f"{margin=} must not be negative.")
  mine, theirs = yardsticks
  absent = object()
  changed = [
    f"{name}: {mine.get(name, 'absent')!r}, was {theirs.get(name, 'absent')!r}"
    for name in sorted({*mine, *theirs})
    if mine.get(name, absent) != theirs.get(name, absent)
  ]
  if new.keys() != old.keys():
    extra, lost = len(new.keys() - old.keys()), len(old.keys() - new.keys())
    changed.append(f"items: {extra} are new, {lost} are gone")
  if changed:
    raise ChangedYardstick("Not comparable: " + "; ".join(changed))
  ids = sorted(new)
  difference = cluster_bootstrap(
    [new[x] - old[x] for x in ids],
    _labels(clusters, ids),
    _labels(strata, ids),
    seed=seed,
    confidence=confidence,
    replicates=replicates,
  )
  return Gate(difference.interval.high >= -margin, difference, margin)
