"""From outcomes to printed numbers: mean, interval, failures, categories."""

import collections
from collections.abc import Mapping, Sequence
import dataclasses
import math
from typing import Any

from emma_jax.benchmarks import stats
from emma_jax.benchmarks.records import Outcome
from emma_jax.benchmarks.suite import Benchmark

# Kinds of failures that are the protocol's own way with an answer which rules
# cannot read, where no judge is given: wrong, and no fault of the run.
UNREAD = "judge:absent"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Number:
  """One printed number of a set.

  Args:
    impl: implementation.
    score: on the printed scale; None where there is none, for `reason`.
    unit: of it.
    ci95: interval on the same scale; None without a score.
    ci_method: wilson, also of clusters, or bootstrap with its clusters and
      strata.
    standard_error, design_effect: of the bootstrap.
    n_expected: predictions that should be there.
    n_scored: of those that have a score of their own.
    groups: clusters, which are what is independent.
    failures: kind -> how many; each counts as the lowest score.
    unread: answers that no rule reads, where no judge is asked: wrong.
    score_if_failures_dropped: what the mean would be without them.
    categories: rows of tables.
    parts: means of the scores that a score is made of.
    partial: of some of the items only, or of made-up ones, so in no comparison.
    reason: why there is no score.
  """

  impl: str
  score: float | None
  unit: str
  ci95: tuple[float, float] | None
  ci_method: str
  standard_error: float
  design_effect: float
  n_expected: int
  n_scored: int
  groups: int
  failures: Mapping[str, int]
  unread: int
  score_if_failures_dropped: float | None
  categories: Sequence[Mapping[str, Any]]
  parts: Mapping[str, float]
  partial: bool
  reason: str

  def as_json(self) -> dict[str, Any]:
    """All fields."""
    return dataclasses.asdict(self)


def number(
  outcomes: Sequence[Outcome],
  benchmark: Benchmark,
  *,
  impl: str,
  partial: bool,
  judged: bool,
  max_failed: float,
  seed: int,
) -> Number:
  """The number of one implementation.

  Args:
    outcomes: of it, groups merged where the benchmark does.
    benchmark: of the set.
    impl: implementation.
    partial: whether items were left out, or made up.
    judged: whether a judge is configured.
    max_failed: share of failures above which there is no score.
    seed: of the bootstrap.
  """
  outcomes = [x for x in outcomes if x.weight]
  kept = [
    x for x in outcomes if not x.failure or _is_unread(x, benchmark, judged)
  ]
  failures = collections.Counter(x.failure for x in outcomes)
  failures -= collections.Counter(x.failure for x in kept)
  failed = failures.total()
  value, interval, method, error, effect = _estimate(outcomes, benchmark, seed)
  reason = "" if outcomes else "no prediction counts: all have the weight 0"
  if failed > max_failed * len(outcomes):
    kinds = ", ".join(f"{k} {n}" for k, n in sorted(failures.items()))
    reason = (
      f"{failed} of {len(outcomes)} failed ({kinds}), more than "
      f"{max_failed:.0%} (max_failed)"
    )
  scale = benchmark.scale
  return Number(
    impl=impl,
    score=None if reason else value * scale,
    unit=benchmark.unit,
    ci95=None
    if reason or interval is None
    else (interval.low * scale, interval.high * scale),
    ci_method=method,
    standard_error=error * scale,
    design_effect=effect,
    n_expected=len(outcomes),
    n_scored=len(outcomes) - failed,
    groups=len({x.cluster for x in outcomes}),
    failures=dict(sorted(failures.items())),
    unread=sum(bool(x.failure) for x in kept),
    score_if_failures_dropped=_estimate(kept, benchmark, seed)[0] * scale
    if kept and failed
    else None,
    categories=_categories(outcomes, benchmark, seed),
    parts=_parts(outcomes),
    partial=partial,
    reason=reason,
  )


def _is_unread(outcome: Outcome, benchmark: Benchmark, judged: bool) -> bool:
  """Whether it is wrong because nobody was to be asked what it means."""
  return outcome.failure == UNREAD and benchmark.fallback and not judged


def _estimate(
  outcomes: Sequence[Outcome], benchmark: Benchmark, seed: int
) -> tuple[float, stats.Interval | None, str, float, float]:
  """(value, interval or None, method, standard error, design effect)"""
  if not outcomes:
    return 0.0, None, "none", 0.0, 1.0
  scores = [x.score for x in outcomes]
  clusters = [x.cluster for x in outcomes]
  strata = [x.stratum for x in outcomes]
  weights = [x.weight for x in outcomes]
  several = len(set(strata)) > 1
  groups = len(set(clusters))
  alone = len(set(clusters)) == len(clusters)
  alike = len(set(weights)) == 1
  if alone and alike and not several and set(scores) <= {0.0, 1.0}:
    share = math.fsum(scores) / len(scores)
    interval = stats.wilson(math.fsum(scores), len(scores))
    error = math.sqrt(share * (1 - share) / len(scores))
    return share, interval, "wilson", error, 1.0
  if set(scores) in ({0.0}, {1.0}):
    # Resampling would be certain of what a few groups happen to share.
    interval = stats.wilson(scores[0] * groups, groups)
    return scores[0], interval, f"wilson, {groups} clusters", 0.0, 1.0
  found = stats.cluster_bootstrap(
    scores,
    clusters,
    strata,
    weights=weights,
    strata_weights=benchmark.strata_weights if several else None,
    seed=seed,
  )
  method = f"bootstrap, {found.clusters} clusters"
  if groups == 1:  # nothing to draw from: better no interval than a false one
    return found.value, None, "none: one cluster", 0.0, 1.0
  if several:
    method += f" in {len(set(strata))} strata"
    pairs = {(x.stratum, x.cluster) for x in outcomes}
    single = len({stratum for stratum, _ in pairs}) * 2 > len(pairs)
    if single:  # the same, within most strata
      return found.value, None, f"none: {method}", 0.0, 1.0
  interval = found.interval
  if alike and not several and set(scores) <= {0.0, 1.0}:
    # Near 0 and 1 percentiles are too narrow: what is rare is in few clusters.
    # Wilson's, of as many independent items as the clusters are worth.
    worth = max(1.0, len(scores) / max(1.0, found.design_effect))
    interval = stats.wilson(found.value * worth, worth)
    method = f"wilson, {found.clusters} clusters"
  return (
    found.value,
    interval,
    method,
    found.standard_error,
    found.design_effect,
  )


def _categories(
  outcomes: Sequence[Outcome], benchmark: Benchmark, seed: int
) -> list[dict[str, Any]]:
  """Rows of the tables by column; strata are averaged within a row too."""
  members: dict[tuple[str, str], list[Outcome]] = {}
  for one in outcomes:
    for column, value in one.categories.items():
      members.setdefault((column, value), []).append(one)
  rows = []
  for (column, value), some in sorted(members.items()):
    score, interval, *_ = _estimate(some, benchmark, seed)
    rows.append(
      {
        "column": column,
        "value": value,
        "score": score * benchmark.scale,
        "ci95": interval
        and [interval.low * benchmark.scale, interval.high * benchmark.scale],
        "n": len(some),
      }
    )
  return rows


def _parts(outcomes: Sequence[Outcome]) -> dict[str, float]:
  """Means over the outcomes that have a part, on the part's own scale."""
  values: dict[str, list[float]] = {}
  for one in outcomes:
    for name, value in one.parts.items():
      values.setdefault(name, []).append(value)
  return {k: math.fsum(v) / len(v) for k, v in sorted(values.items())}
