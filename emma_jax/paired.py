"""Tests between two runs on the same items, and the gate of a training run.

Clusters and strata are those of `stats`. All that is random takes a seed, and
gives the same for the same.
"""

from collections.abc import Hashable, Mapping, Sequence
import dataclasses
import math
import statistics
from typing import Any

import numpy as np

from emma_jax import ranges
from emma_jax.stats import (
  CHUNK,
  CONFIDENCE,
  REPLICATES,
  Estimate,
  cluster_bootstrap,
  labels_of,
  split_strata,
  z_value,
)

# Up to so many clusters all flips are gone through: 2^13 < REPLICATES.
_EXACT_CLUSTERS = 13


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
  weights: Sequence[float] | None = None,
  strata_weights: Mapping[Any, float] | None = None,
  seed: int,
  replicates: int = REPLICATES,
) -> float:
  """p, two-sided, that paired differences are 0 in the mean (of means).

  Each cluster's differences change their sign together. Up to 13 clusters all
  flips are gone through; above, so many are drawn, and what was seen counts as
  one more draw, so that p is never 0.

  Args:
    differences: score of one run less the other's, per item.
    clusters, strata, weights, strata_weights, seed, replicates: see
      `cluster_bootstrap`.

  Raises:
    ValueError: see `cluster_bootstrap`.
  """
  parts = split_strata(differences, clusters, strata, weights, strata_weights)
  shares = np.concatenate([p.share * p.sums / p.counts.sum() for p in parts])
  shares = shares[shares != 0]  # a flip of nothing is nothing
  # What differs by rounding alone is as far out as what was seen.
  limit = abs(shares.sum()) - 1e-12 * np.abs(shares).sum()
  if shares.size <= _EXACT_CLUSTERS:
    bits = np.arange(1 << shares.size)[:, None] >> np.arange(shares.size)
    sums = (1 - 2 * (bits & 1)) @ shares
    return float(np.mean(np.abs(sums) >= limit))
  rng = np.random.default_rng(seed)
  beyond = 0
  rows = max(1, CHUNK // shares.size)
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
  weights: Mapping[str, float] | None = None,
  strata_weights: Mapping[Any, float] | None = None,
  seed: int,
  confidence: float = CONFIDENCE,
  replicates: int = REPLICATES,
) -> Comparison:
  """Two runs' scores: by McNemar if all are 0 or 1, independent, of one weight
  and in one stratum; by permutation otherwise.

  Args:
    a, b: id -> score.
    clusters, strata: id -> label; see `cluster_bootstrap`.
    weights: id -> weight; see there.
    strata_weights, seed, confidence, replicates: see there.

  Raises:
    ValueError: no common id; and see `cluster_bootstrap`.
  """
  both = pair(a, b)
  groups, layers = labels_of(clusters, both.ids), labels_of(strata, both.ids)
  heavy = None if weights is None else [weights[x] for x in both.ids]
  differences = (both.b - both.a).tolist()
  difference = cluster_bootstrap(
    differences,
    groups,
    layers,
    weights=heavy,
    strata_weights=strata_weights,
    seed=seed,
    confidence=confidence,
    replicates=replicates,
  )
  binary = np.isin([both.a, both.b], [0, 1]).all()
  alone = difference.clusters == difference.items
  alike = len(set(heavy or [1.0])) == len(set(layers or [""])) == 1
  if binary and alone and alike:
    test = "mcnemar"
    p = mcnemar(differences.count(-1), differences.count(1))
  else:
    test = "permutation"
    p = permutation(
      differences,
      groups,
      layers,
      weights=heavy,
      strata_weights=strata_weights,
      seed=seed,
      replicates=replicates,
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
  if deviation not in ranges.NOT_NEGATIVE or not 0 < power < 1:
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
  weights: Mapping[str, float] | None = None,
  strata_weights: Mapping[Any, float] | None = None,
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
    weights: id -> weight; see there.
    margin: in units of the score: 0.01 is a point where scores are 0..1.
    strata_weights, seed, confidence, replicates: see there.

  Raises:
    ChangedYardstick: items or an entry of the yardsticks differ; says which.
    ValueError: a negative margin; and see `cluster_bootstrap`.
  """
  ranges.NOT_NEGATIVE.check("margin", margin)
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
    labels_of(clusters, ids),
    labels_of(strata, ids),
    weights=None if weights is None else [weights[x] for x in ids],
    strata_weights=strata_weights,
    seed=seed,
    confidence=confidence,
    replicates=replicates,
  )
  return Gate(difference.interval.high >= -margin, difference, margin)
