"""Intervals of scores; for tests between two runs see `paired`.

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
CHUNK = 1 << 22


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
  successes: float, count: float, confidence: float = CONFIDENCE
) -> Interval:
  """Wilson's interval of a share, 0..1, of independent items (Wilson 1927).

  Args:
    successes: 0..count; the share need not come from whole successes.
    count: items, at least one; of clustered ones what they are worth.
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
  """Per cluster: the sum of its scores, weighted, and of the weights, both
  (C,); the scores. `share`: of the stratum in the mean of means."""

  sums: np.ndarray
  counts: np.ndarray
  values: np.ndarray
  share: float

  @property
  def mean(self) -> float:
    return float(self.sums.sum() / self.counts.sum())


def split_strata(
  values: Sequence[float],
  clusters: Sequence[Hashable] | None,
  strata: Sequence[Hashable] | None,
  weights: Sequence[float] | None = None,
  strata_weights: Mapping[Any, float] | None = None,
) -> list[_Stratum]:
  """Scores by stratum, and by cluster within it.

  Raises:
    ValueError: scores that are no finite numbers, labels of another length, a
      weight that is not positive, a stratum without one.
  """
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
  of_item = np.ones(scores.size) if weights is None else np.asarray(weights)
  if of_item.shape != scores.shape or not (of_item > 0).all():
    raise ValueError("Weights must be positive, one for each score.")
  shares = _shares(strata, strata_weights)
  found = []
  for stratum, share in enumerate(shares):
    chosen = stratum_of == stratum
    _, own = np.unique(cluster_of[chosen], return_inverse=True)
    sums = np.bincount(own, scores[chosen] * of_item[chosen])
    counts = np.bincount(own, of_item[chosen])
    found.append(_Stratum(sums, counts, scores[chosen], share))
  return found


def _shares(
  strata: Sequence[Hashable] | None, weights: Mapping[Any, float] | None
) -> list[float]:
  """Of each stratum in the mean of means; they sum to 1."""
  labels: list[Hashable] = list(dict.fromkeys(strata or [None]))
  if not weights:
    return [1 / len(labels)] * len(labels)
  lacking = [x for x in labels if weights.get(x, 0) <= 0]
  if lacking:
    raise ValueError(f"No positive weight for the strata {lacking}.")
  total = sum(weights[x] for x in labels)
  return [weights[x] / total for x in labels]


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


def labels_of(
  label_of: Mapping[str, Hashable] | None, ids: Sequence[str]
) -> list[Hashable] | None:
  """The labels of some ids, in their order; None where there are none."""
  return None if label_of is None else [label_of[x] for x in ids]


def cluster_bootstrap(
  values: Sequence[float],
  clusters: Sequence[Hashable] | None = None,
  strata: Sequence[Hashable] | None = None,
  *,
  weights: Sequence[float] | None = None,
  strata_weights: Mapping[Any, float] | None = None,
  seed: int,
  confidence: float = CONFIDENCE,
  replicates: int = REPLICATES,
) -> Estimate:
  """The mean of means, with its percentile interval (Efron 1979, by clusters).

  In each replicate one cluster less than there are in a stratum is drawn from
  it, with replacement; the stratum's mean is that of all their items. One less,
  as with all of them the variance of a small stratum is too small, and those of
  many add up (Rao and Wu 1988).

  Args:
    values: scores, (items,).
    clusters: label of each item's cluster; None: all are independent.
    strata: label of each item's stratum; None: one for all. A cluster must not
      lie in two.
    weights: of each item in the mean of its stratum; None: all alike.
    strata_weights: label -> weight in the mean of means; None: all alike.
    seed: of the draws.
    confidence, replicates: see there.

  Raises:
    ValueError: no scores, NaN among them, labels of another number, a cluster
      in two strata, a weight that is not positive.
  """
  z_value(confidence)  # checks it
  parts = split_strata(values, clusters, strata, weights, strata_weights)
  rng = np.random.default_rng(seed)
  means = np.zeros(replicates)
  for part in parts:
    means += part.share * _resampled_means(part, replicates, rng)
  value = sum(part.share * part.mean for part in parts)
  tail = (1 - confidence) / 2
  low, high = np.quantile(means, [tail, 1 - tail])
  # Resampling alone moves sums by rounding; what does not vary is certain.
  variance = float(np.var(means))
  independent = sum(
    part.share**2 * float(np.var(part.values)) / max(1, part.values.size - 1)
    for part in parts
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
  draws = max(1, count - 1)
  means = []
  rows = max(1, CHUNK // draws)
  for begin in range(0, replicates, rows):
    size = (min(rows, replicates - begin), draws)
    drawn = rng.integers(count, size=size)
    means.append(part.sums[drawn].sum(1) / part.counts[drawn].sum(1))
  return np.concatenate(means)


@dataclasses.dataclass(frozen=True)
class Scored:
  """A mean (of means, where there are strata) with the interval that suits it.

  interval: None where nothing can be said; `method` then tells why. method:
  wilson, also of clusters, or bootstrap with its clusters and strata.
  standard_error, design_effect: as in `Estimate`.
  """

  value: float
  interval: Interval | None
  method: str
  standard_error: float
  design_effect: float


def scored(
  values: Sequence[float],
  clusters: Sequence[Hashable] | None = None,
  strata: Sequence[Hashable] | None = None,
  *,
  weights: Sequence[float] | None = None,
  strata_weights: Mapping[Any, float] | None = None,
  seed: int,
) -> Scored:
  """The mean with its 95% interval: Wilson's for a share of independent items,
  else the clusters' bootstrap; arguments and errors as `cluster_bootstrap`."""
  if not values:
    return Scored(0.0, None, "none", 0.0, 1.0)
  groups = len(values) if clusters is None else len(set(clusters))
  alike = weights is None or len(set(weights)) == 1
  several = len(set(strata or [None])) > 1
  share = alike and not several and set(values) <= {0.0, 1.0}
  if share and groups == len(values):
    value = math.fsum(values) / len(values)
    interval = wilson(math.fsum(values), len(values))
    error = math.sqrt(value * (1 - value) / len(values))
    return Scored(value, interval, "wilson", error, 1.0)
  if set(values) in ({0.0}, {1.0}):
    # Resampling would be certain of what a few groups happen to share.
    interval = wilson(values[0] * groups, groups)
    return Scored(values[0], interval, f"wilson, {groups} clusters", 0.0, 1.0)
  found = cluster_bootstrap(
    values,
    clusters,
    strata,
    weights=weights,
    strata_weights=strata_weights if several else None,
    seed=seed,
  )
  method = f"bootstrap, {found.clusters} clusters"
  if groups == 1:  # nothing to draw from: better no interval than a false one
    return Scored(found.value, None, "none: one cluster", 0.0, 1.0)
  if several:
    assert strata is not None  # there are several
    method += f" in {len(set(strata))} strata"
    pairs = set(zip(strata, clusters or range(len(values))))
    if 2 * len(set(strata)) > len(pairs):  # the same, within most strata
      return Scored(found.value, None, f"none: {method}", 0.0, 1.0)
  interval = found.interval
  if share:
    # Near 0 and 1 percentiles are too narrow: what is rare is in few clusters.
    # Wilson's, of as many independent items as the clusters are worth.
    worth = max(1.0, len(values) / max(1.0, found.design_effect))
    interval = wilson(found.value * worth, worth)
    method = f"wilson, {found.clusters} clusters"
  return Scored(
    found.value, interval, method, found.standard_error, found.design_effect
  )
