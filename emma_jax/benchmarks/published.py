"""Numbers that others print, and whether one can be compared with them.

published.json has a row for each model, set and metric, on the set's printed
scale. What a source does not say is "unknown" there, and unknown is not equal
to anything: a number whose judge nobody names is comparable with none.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import functools
import importlib.resources
import json
from typing import Any

from emma_jax.benchmarks import tables

UNKNOWN = "unknown"
OVERALL = "overall"
# The paper's mean over its 11 sets of questions; no set of its own.
MEAN = "mean of 11"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Published:
  """A number as it was printed.

  Args:
    model: as its source calls it.
    set: of it, as in `data.sets`, or MEAN.
    split: of the data.
    metric: "overall", or a part of it.
    impl: who scored it, as in `Benchmark.impls`.
    value: on the set's printed scale.
    source: where it stands.
    judge: the model asked; "none" where none is.
    prompts: the template, as in `Benchmark.prompts`.
    rewritten: whether prompts of drawings were rewritten: "yes" or "no".
  """

  model: str
  set: str
  split: str
  metric: str
  impl: str
  value: float
  source: str
  judge: str
  prompts: str
  rewritten: str


@functools.cache
def rows() -> tuple[Published, ...]:
  """All there are."""
  file = importlib.resources.files(__package__) / "published.json"
  content = json.loads(file.read_text(encoding="utf-8"))
  return tuple(Published(**row) for row in content["rows"])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Beside:
  """A published number beside one of a run.

  Args:
    row: the published one.
    difference: the run's less it; None where the run has no score.
    reasons: why they cannot be compared; none: they can.
    outside: whether it lies outside of the run's interval.
  """

  row: Published
  difference: float | None
  reasons: Sequence[str]
  outside: bool

  @property
  def verdict(self) -> str:
    """In words."""
    if self.reasons:
      return f"not comparable: {', '.join(self.reasons)}"
    if not self.outside:
      return "within the interval"
    return "above" if (self.difference or 0) > 0 else "below"

  @property
  def mark(self) -> str:
    """Of a page: a colour where there is a difference that counts."""
    if self.reasons:
      return "grey"
    if not self.outside:
      return ""
    return "right" if (self.difference or 0) > 0 else "wrong"


def beside(one: Mapping[str, Any]) -> list[Beside]:
  """The published numbers of a set, by model.

  Args:
    one: an entry of results.json.
  """
  number = tables.headline(one)
  found = []
  for row in rows():
    if row.set != one["set"] or row.metric != OVERALL:
      continue
    if row.rewritten not in (UNKNOWN, _rewritten(one)):
      continue  # another number of the same paper
    score, interval = number["score"], number["ci95"]
    outside = bool(interval) and not interval[0] <= row.value <= interval[1]
    found.append(
      Beside(
        row=row,
        difference=None if score is None else score - row.value,
        reasons=_reasons(row, one, number),
        outside=outside,
      )
    )
  return found


def _rewritten(one: Mapping[str, Any]) -> str:
  """Whether a set's own prompts are the rewritten ones: GenEval's "long"."""
  return "yes" if one["split"] == "long" else "no"


def _reasons(
  row: Published, one: Mapping[str, Any], number: Mapping[str, Any]
) -> list[str]:
  pairs = (
    ("split", row.split, {one["split"]}),
    ("implementation", row.impl, {one["impl"]}),
    ("judge", row.judge, judges(one)),
    ("prompts", row.prompts, {one["prompt"]}),
    ("rewritten prompts", row.rewritten, {_rewritten(one)}),
  )
  unknown = [name for name, theirs, _ in pairs if theirs == UNKNOWN]
  differ = [
    name
    for name, theirs, ours in pairs
    if theirs != UNKNOWN and ours != {theirs}
  ]
  found = list(differ)
  if unknown:
    found.append(f"{' and '.join(_listed(unknown))} not stated")
  if number["score"] is None:
    found.append("no score")
  if number["partial"]:
    found.append("partial")
  return found


def _listed(names: Sequence[str]) -> list[str]:
  """
  >>> " and ".join(_listed(["a", "b", "c"]))
  'a, b and c'
  """
  head, tail = names[:-1], names[-1:]
  return [*([", ".join(head)] if head else []), *tail]


def asked(one: Mapping[str, Any]) -> str:
  """The model that a set's judge was to be; "none" without a judge."""
  judge = one["judge"]
  if not judge["name"]:
    return "none"
  identity = judge["identity"]
  return str(identity.get("model") or identity.get("kind") or judge["name"])


def judges(one: Mapping[str, Any]) -> set[str]:
  """Models that judged a set, as they named themselves; else as asked for."""
  return {x for x in one["judge"]["answered_as"] if x} or {asked(one)}
