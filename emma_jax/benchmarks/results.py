"""A finished run read back: results.json and the outcomes beside it."""

from collections.abc import Mapping, Sequence
import dataclasses
import os
from typing import Any

from emma_jax.benchmarks import folders, records, suite
from emma_jax.benchmarks.folders import SetFolder
from emma_jax.benchmarks.records import BadRun, Outcome
from emma_jax.benchmarks.suite import Benchmark

# The best score of sets whose scores are not 0..1, in units of the set.
_HIGHEST = {"gedit": 10.0, "imgedit": 5.0}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Results:
  """What a folder of results holds.

  Args:
    out: the folder.
    run: of run.json: weights, versions, device.
    config: the run's.
    sets: entries of results.json; see `aggregate.aggregate`.
  """

  out: str
  run: Mapping[str, Any]
  config: Mapping[str, Any]
  sets: Sequence[Mapping[str, Any]]

  @property
  def names(self) -> tuple[str, ...]:
    """Of the sets, in their order."""
    return tuple(one["name"] for one in self.sets)

  def find(self, name: str) -> Mapping[str, Any] | None:
    """The entry of a set; None where it was not run."""
    return next((one for one in self.sets if one["name"] == name), None)

  def place(self, one: Mapping[str, Any]) -> SetFolder:
    """A set's folder."""
    return SetFolder(self.out, one["name"])

  def outcomes(self, one: Mapping[str, Any], impl: str = "") -> list[Outcome]:
    """Those that count of a set under an implementation, by default the
    headline's: one without a weight is of no score.

    Raises:
      BadRun: outcomes.jsonl is not there, damaged, or of another aggregation.
    """
    path = self.place(one).outcomes
    impl = impl or one["impl"]
    found = [
      x for x in records.load(Outcome, path) if x.impl == impl and x.weight > 0
    ]
    number = next(n for n in one["numbers"] if n["impl"] == impl)
    if len(found) != number["n_expected"]:
      raise BadRun(
        f"{path} has {len(found):,} outcomes of {one['name']} ({impl}), and "
        f"results.json was made of {number['n_expected']:,}. Run "
        "`emma-benchmark aggregate` again."
      )
    return found


def read(out: str) -> Results:
  """The results in a folder.

  Raises:
    BadRun: there are none, of this version.
  """
  run = folders.check(out)
  content = folders.read_json(
    os.path.join(out, "results.json"),
    "nothing was scored yet; run `emma-benchmark aggregate` first",
    *("config", "sets"),
  )
  return Results(
    out=out, run=run, config=content["config"], sets=content["sets"]
  )


def select(results: Results, only: str) -> list[str]:
  """Names of `--sets`, of those there are; all where none are named.

  Raises:
    BadRun: a name that was not run.
  """
  wanted = [x.strip() for x in only.split(",") if x.strip()]
  for name in wanted:
    if name not in results.names:
      raise BadRun(
        f"{results.out} has no results of {name!r}; it has "
        f"{', '.join(results.names) or 'none'}."
      )
  return wanted or list(results.names)


def limits(one: Mapping[str, Any]) -> tuple[float, float]:
  """The worst and the best score that a set has, as printed."""
  benchmark = suite.find(one["set"])
  best = _HIGHEST.get(benchmark.name, 1.0)
  return benchmark.lowest * benchmark.scale, best * benchmark.scale


def identify(outcome: Outcome) -> str:
  """Names an outcome among those of a set and an implementation."""
  return f"{outcome.id}\x1f{outcome.repeat}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scores:
  """Outcomes as tests between two runs take them: by `identify`.

  Args:
    values: scores, in units of the set.
    clusters, strata, weights: of each.
    strata_weights: of the means of strata; None where they are alike, or one.
  """

  values: Mapping[str, float]
  clusters: Mapping[str, str]
  strata: Mapping[str, str]
  weights: Mapping[str, float]
  strata_weights: Mapping[str, float] | None


def scores(outcomes: Sequence[Outcome], benchmark: Benchmark) -> Scores:
  """Of `Results.outcomes`."""
  by_name = {identify(x): x for x in outcomes}
  strata = {k: x.stratum for k, x in by_name.items()}
  several = len(set(strata.values())) > 1
  return Scores(
    values={k: x.score for k, x in by_name.items()},
    clusters={k: x.cluster for k, x in by_name.items()},
    strata=strata,
    weights={k: x.weight for k, x in by_name.items()},
    strata_weights=(benchmark.strata_weights or None) if several else None,
  )
