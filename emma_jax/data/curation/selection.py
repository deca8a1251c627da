"""The best n records of every kind, and STEM labels for those of questions."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import functools
import json
import os
import re
from typing import Any

import numpy as np

from emma_jax import files
from emma_jax.data.curation import answers as answers_lib
from emma_jax.data.curation.answers import Answers, Missing
from emma_jax.data.curation.base import Construction, hash64, noted, texts_of
from emma_jax.data.curation.filters import ScoreRule
from emma_jax.data.ingest import containers
from emma_jax.data.ingest.job import ConversionError
from emma_jax.data.ingest.part import Converted, FirstPass, Skipped, Tick
from emma_jax.data.pictures.images import BadRecord
from emma_jax.data.records import schema
from emma_jax.structs import STEM_GENERAL, STEM_SCIENCE, Understanding

_CHOSEN = "chosen.npz"
REPORT = "groups.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Select(Construction):
  """Keeps the highest scores of every group, as many of each (stage 3's data).

  Equal scores are ordered by a hash of the record's id and place, so neither
  the order of the inputs nor the number of processes decides.

  Args:
    score: by which to choose; its range does not apply.
    count: records of a group.
    by: key of the provenance whose values are groups within a task, such as
      data_source; "": a task is a group.
    counts: other counts for some groups: {"understanding/ai2d": 500}.
    missing: what becomes of a record without score or key ("keep" is no
      answer here: there is nothing to compare).
    plan: what `ready` found.
  """

  score: ScoreRule
  count: int
  by: str = ""
  counts: Mapping[str, int] = dataclasses.field(default_factory=dict)
  missing: Missing = "error"
  plan: str = dataclasses.field(default="", repr=False)

  def __post_init__(self):
    if self.count < 0 or any(n < 0 for n in self.counts.values()):
      raise ConversionError("A group has at least 0 records.")
    if self.missing == "keep":
      raise ConversionError(
        "A record without a score cannot be compared: --missing drop leaves "
        "it out."
      )

  def ready(self, first: FirstPass) -> "Select":
    """Itself with the plan of who stays, made in a pass over all scores."""
    ready = dataclasses.replace(self, score=self.score.ready(first))
    plan = os.path.join(first.work, _CHOSEN)
    if not os.path.exists(plan):
      paths = first.collect("scores", rate, ready)
      _choose(ready, paths, plan, os.path.join(first.folder, REPORT))
    return dataclasses.replace(ready, plan=plan)

  def step(self, made: Converted, where: str) -> Iterator[Converted | Skipped]:
    """The record with its score noted if it is chosen, or why it is not."""
    group, value = self.rated(made, where)
    if value is None:
      yield Skipped(f"no {self.score.name}", f"it has no {self.score.name}")
    elif not group:
      yield Skipped(f"no {self.by}", f"its provenance has no {self.by!r}")
    elif hash64(where) in _chosen(self.plan):
      stored = noted(made.stored, **{self.score.name: value})
      yield made._replace(stored=stored)
    else:
      yield Skipped("not chosen", f"{self.score.name} {value:g} in {group}")

  def rated(self, made: Converted, where: str) -> tuple[str, float | None]:
    """(its group, "" where it has none; its score)."""
    _, value = self.score.value(made.stored, where, self.missing)
    group = made.stored.task
    if self.by:
      kind = made.stored.provenance.get(self.by)
      if kind is None and self.missing == "error":
        raise ConversionError(
          f"{where}: its provenance has no {self.by!r}, only "
          f"{sorted(made.stored.provenance)}; --missing drop leaves such "
          "records out."
        )
      group = "" if kind is None else f"{group}/{kind}"
    return group, value


def rate(part: containers.Part, path: str, select: Select, tick: Tick) -> None:
  """Writes group, score and order of a part's rows."""
  group, value, tie, place = [], [], [], []
  for where, row in containers.read(part, select.base.options):
    try:
      if isinstance(row, BadRecord):
        raise row
      for made in select.base.make(row, where, part.path):
        if isinstance(made, Converted):
          of, score = select.rated(made, where)
          if of and score is not None:
            group.append(of)
            value.append(score)
            tie.append(
              hash64(f"{made.stored.record.id} {os.path.basename(where)}")
            )
            place.append(hash64(where))
    except BadRecord:
      pass  # counted when the records are written
    tick(False, 0)
  names = sorted(set(group))
  numbers = {name: i for i, name in enumerate(names)}
  with files.atomic_write(path) as file:
    np.savez(
      file,
      names=np.array(names, str),
      score=np.array(value, float),
      group=np.array([numbers[g] for g in group], np.int32),
      tie=np.array(tie, np.uint64),
      place=np.array(place, np.uint64),
    )


def _choose(
  select: Select, paths: Sequence[str], plan: str, report: str
) -> None:
  groups: dict[str, list[tuple[np.ndarray, ...]]] = {}
  for path in paths:
    with np.load(path) as file:
      for i, name in enumerate(file["names"].tolist()):
        mine = file["group"] == i
        groups.setdefault(name, []).append(
          tuple(file[key][mine] for key in ("score", "tie", "place"))
        )
  unknown = sorted(set(select.counts) - set(groups))
  if unknown:
    raise ConversionError(
      f"There is no group {unknown[0]!r}; there are {sorted(groups)}."
    )
  chosen: list[np.ndarray] = []
  table: dict[str, dict[str, float]] = {}
  for name, parts in sorted(groups.items()):
    score, tie, place = map(np.concatenate, zip(*parts))
    order = np.lexsort([place, tie, -score])
    best = order[: select.counts.get(name, select.count)]
    chosen.append(place[best])
    table[name] = {"records": int(score.size), "chosen": int(best.size)}
    if best.size:
      table[name]["lowest score"] = float(score[best[-1]])
  with files.atomic_write(report, "w") as file:
    json.dump(table, file, indent=1, ensure_ascii=False)
  with files.atomic_write(plan) as file:
    np.savez(file, chosen=np.concatenate([np.zeros(0, np.uint64), *chosen]))


@functools.lru_cache(maxsize=2)
def _chosen(plan: str) -> frozenset[int]:
  with np.load(plan) as file:
    return frozenset(file["chosen"].tolist())


# ------------------------------------------------------------------- labels


@dataclasses.dataclass(frozen=True)
class Rule:
  """`label` for records whose `field` has a match of the expression.

  `field`: "text" (all that is said), "id", or a key of the provenance.
  """

  label: str
  field: str
  matches: str

  def holds(self, stored: schema.Stored) -> bool:
    """Whether the field has a match, whatever its case."""
    if self.field == "text":
      value = "\n".join(texts_of(stored.record))
    elif self.field == "id":
      value = stored.record.id
    else:
      value = str(stored.provenance.get(self.field, ""))
    return re.search(self.matches, value, re.IGNORECASE) is not None


def read_rules(path: str) -> tuple[Rule, ...]:
  """[{"label": "stem", "field": "data_source", "matches": "ai2d|dvqa"}, ...]

  ConversionError for anything else.
  """
  try:
    with open(path, encoding="utf-8") as file:
      rules = tuple(Rule(**rule) for rule in json.load(file))
    for rule in rules:
      re.compile(rule.matches)
      if rule.label not in ("stem", "general"):
        raise ValueError(f"label {rule.label!r} is neither stem nor general")
  except (OSError, ValueError, TypeError, re.error) as error:
    raise ConversionError(
      f'{path} is no list of rules such as {{"label": "stem", "field": '
      f'"data_source", "matches": "ai2d"}}: {error}'
    ) from error
  if not rules:
    raise ConversionError(f"{path} has no rules.")
  return rules


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelStem(Construction):
  """Labels questions STEM or general, for the experts and the router.

  Args:
    rules: the first one that holds gives the label.
    answers: asked where no rule holds; {"stem": true}.
    missing: what becomes of a record without a label; "keep" leaves it
      unlabelled.
    relabel: also change labels that are there.
  """

  rules: tuple[Rule, ...] = ()
  answers: Answers | None = None
  missing: Missing = "error"
  relabel: bool = False

  def step(self, made: Converted, where: str) -> Iterator[Converted | Skipped]:
    """The question with its label; what is no question is left out."""
    record = made.stored.record
    if not isinstance(record, Understanding):
      yield Skipped("no question", f"a record of {made.stored.task}")
      return
    if record.stem in (STEM_GENERAL, STEM_SCIENCE) and not self.relabel:
      yield made
      return
    label, by = self.label(made.stored, where)
    if label is None and self.missing == "drop":
      yield Skipped("no label", "no rule holds, and there is no answer")
      return
    if label is not None:
      record = dataclasses.replace(record, stem=label)
      stored = dataclasses.replace(made.stored, record=record)
      made = made._replace(stored=noted(stored, stem_by=by))
    yield made

  def label(self, stored: schema.Stored, where: str) -> tuple[int | None, str]:
    """(label, what gave it)."""
    for number, rule in enumerate(self.rules):
      if rule.holds(stored):
        label = STEM_SCIENCE if rule.label == "stem" else STEM_GENERAL
        return label, f"rule {number}"
    asked = answers_lib.ask(_Truth(self.answers), stored, where, self.missing)
    if asked is None:
      return None, ""
    return STEM_SCIENCE if asked["stem"] else STEM_GENERAL, "answer"


@dataclasses.dataclass(frozen=True)
class _Truth:
  """Answers of which each is true or false."""

  answers: Answers | None

  def answer(self, stored: schema.Stored, where: str) -> dict[str, bool]:
    if self.answers is None:
      raise answers_lib.NoAnswer(where, "no rule holds for it")
    found = self.answers.answer(stored, where)
    return {"stem": answers_lib.truth(found, "stem", where)}


def labels_of(lengths: Any) -> dict[str, int]:
  """Questions by label, of a side file."""
  names = {STEM_SCIENCE: "stem", STEM_GENERAL: "general"}
  asked = lengths.task <= schema.TASKS.index("text")
  count = Counter(lengths.stem[asked].tolist())
  return {names.get(k, "unknown"): n for k, n in sorted(count.items())}
