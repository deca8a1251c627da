"""From outcomes to printed numbers: mean, interval, failures, categories."""

import collections
from collections.abc import Mapping, Sequence
import dataclasses
import math
from typing import Any

from emma_jax import stats
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
  found = _estimate(outcomes, benchmark, seed)
  interval = found.interval
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
    score=None if reason else found.value * scale,
    unit=benchmark.unit,
    ci95=None
    if reason or interval is None
    else (interval.low * scale, interval.high * scale),
    ci_method=found.method,
    standard_error=found.standard_error * scale,
    design_effect=found.design_effect,
    n_expected=len(outcomes),
    n_scored=len(outcomes) - failed,
    groups=len({x.cluster for x in outcomes}),
    failures=dict(sorted(failures.items())),
    unread=sum(bool(x.failure) for x in kept),
    score_if_failures_dropped=_estimate(kept, benchmark, seed).value * scale
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
) -> stats.Scored:
  return stats.scored(
    [x.score for x in outcomes],
    [x.cluster for x in outcomes],
    [x.stratum for x in outcomes],
    weights=[x.weight for x in outcomes],
    strata_weights=benchmark.strata_weights,
    seed=seed,
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
    found = _estimate(some, benchmark, seed)
    rows.append(
      {
        "column": column,
        "value": value,
        "score": found.value * benchmark.scale,
        "ci95": found.interval
        and [
          found.interval.low * benchmark.scale,
          found.interval.high * benchmark.scale,
        ],
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
