"""MMBench's circular evaluation, and accuracy per category.

The rows of one question are its rolls: index i, i + 10^6, i + 2 x 10^6, ...,
the options moved on by one each time. A question counts if every roll is right.

  vlmevalkit        vlmeval/dataset/utils/multiple_choice.py
                    (`mcq_circular_eval`, `report_acc`)
  lmms_eval_static  0.7.3, tasks/mmbench/mmbench_evals.py, without a judge
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
import math
from typing import Any

from emma_jax.benchmarks.scoring import choice, choice_judge
from emma_jax.benchmarks.scoring.missing import is_missing

ROLL = 1_000_000
Row = Mapping[str, Any]

_ABBREVIATIONS = {
  "coarse_perception": "CP",
  "finegrained_perception (instance-level)": "FP-S",
  "finegrained_perception (cross-instance)": "FP-C",
  "logic_reasoning": "LR",
  "relation_reasoning": "RR",
  "attribute_reasoning": "AR",
}


def groups(rows: Iterable[Row]) -> dict[int, list[Row]]:
  """Base index -> its rolls, both in the order of the rows.

  Rolls without their base question are left out.
  """
  listed = list(rows)
  found: dict[int, list[Row]] = {
    int(row["index"]): [] for row in listed if row["index"] < ROLL
  }
  for row in listed:
    base = int(row["index"]) % ROLL
    if base in found:
      found[base].append(row)
  return found


def all_right(
  rolls: Sequence[Row], judge: choice_judge.Judge | None = None
) -> bool:
  """Whether every roll of a question is right, as VLMEvalKit decides.

  A roll that is read, and wrong, ends the question before any judge is asked.

  Args:
    rolls: options by letter, "prediction" and "answer" each.
    judge: asked for rolls that cannot be read; None: those are wrong.
  """
  read = [
    choice.infer(r["prediction"], choice_judge.options_of(r)) for r in rolls
  ]
  if any(x and x != r["answer"] for x, r in zip(read, rolls)):
    return False
  unread = [r for x, r in zip(read, rolls) if not x]
  if judge is None:
    return not unread
  return all(choice_judge.resolve(r, judge) == r["answer"] for r in unread)


def all_right_lmms(
  rolls: Sequence[Row], judge: choice_judge.Judge | None = None
) -> bool:
  """The same as lmms-eval decides; without a judge, by `extract_letter`.

  Args:
    rolls: options A to D, "prediction" and "answer" each.
    judge: asked for rolls that cannot be read.

  Raises:
    KeyError: a roll has no key of an option; a missing option is None.
  """
  unread = []
  for row in rolls:
    options = {x: row[x] for x in "ABCD" if not is_missing(row[x])}
    letter = choice.infer_lmms(row["prediction"], options)
    if letter and letter != row["answer"]:
      return False
    if not letter:
      unread.append((row, sorted(options)))
  for row, letters in unread:
    letter = (
      choice_judge.resolve_lmms(row, judge)
      if judge
      else choice.extract_letter(row["prediction"], letters)
    )
    if not letter or letter != row["answer"]:
      return False
  return True


def mean(values: Sequence[float]) -> float:
  """nan of none, as numpy has it."""
  return sum(values) / len(values) if values else math.nan


def report(rows: Sequence[Row]) -> dict[str, Any]:
  """Accuracy over all rows, per l2-category and per category, 0 to 1.

  Args:
    rows: "hit" (0 or 1) each; optionally "split", "category", "l2-category".

  Returns:
    {"split", "Overall", a key per category}; MMBench's l2-categories go by
    their abbreviations. With several splits all values are lists, one a split
    in alphabetic order, nan where a category has no row.
  """
  splits = sorted({str(row.get("split", "none")) for row in rows})
  columns: dict[str, Any] = {"split": splits}

  def accuracies(some: Sequence[Row]) -> list[float]:
    return [
      mean([r["hit"] for r in some if str(r.get("split", "none")) == split])
      for split in splits
    ]

  columns["Overall"] = accuracies(rows)
  for column in ("l2-category", "category"):
    names = {row[column] for row in rows if column in row}
    for name in sorted(names):
      some = [row for row in rows if row.get(column) == name]
      columns[_ABBREVIATIONS.get(name, name)] = accuracies(some)
  if len(splits) == 1:
    return {name: values[0] for name, values in columns.items()}
  return columns


def vlmevalkit(
  rows: Sequence[Row], judge: choice_judge.Judge | None = None
) -> dict[str, Any]:
  """Hits per question and the report over the base questions.

  Args:
    rows: "index", options by letter, "answer", "prediction" each; optionally
      "split", "category", "l2-category".
    judge: for rolls that cannot be read.

  Returns:
    {"hit_by_g_index": {base index as text: 0 or 1}, "report": see `report`}
  """
  hits = {
    base: int(all_right(rolls, judge)) for base, rolls in groups(rows).items()
  }
  main = [
    {**row, "hit": hits[int(row["index"])]}
    for row in rows
    if row["index"] < ROLL
  ]
  return {
    "hit_by_g_index": {str(base): hit for base, hit in hits.items()},
    "report": report(main),
  }


def lmms(
  rows: Sequence[Row], judge: choice_judge.Judge | None = None
) -> dict[str, Any]:
  """lmms-eval's accuracies over the base questions, 0 to 1.

  Args:
    rows: "index", options A to D, "answer", "prediction", "category" each;
      optionally "l2-category".
    judge: for rolls that cannot be read; None: its static variant.

  Returns:
    {"overall", "category": {name: accuracy}, "l2": the same}

  Raises:
    KeyError: no row has an option, or a category, of those named above.
  """
  named = [
    {k if k in ("A", "B", "C", "D") else k.lower(): v for k, v in row.items()}
    for row in rows
  ]
  # A table has a cell for every column that any row has.
  columns = {key: None for row in named for key in row}
  table = [
    {**columns, **row, "prediction": str(row["prediction"])} for row in named
  ]
  table.sort(key=lambda row: row["index"])
  hits = {
    base: float(all_right_lmms(rolls, judge))
    for base, rolls in groups(table).items()
  }

  def by(column: str) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for row in table:
      if row["index"] < ROLL and not is_missing(row[column]):
        found.setdefault(row[column], []).append(hits[int(row["index"])])
    return {name: mean(values) for name, values in sorted(found.items())}

  return {
    "overall": mean(list(hits.values())),
    "category": by("category"),
    "l2": by("l2-category") if "l2-category" in columns else {},
  }


def mmstar_lmms(results: Iterable[Row]) -> float:
  """MMStar in lmms-eval: the mean over l2-categories of their means, 0 to 1.

  Not the mean over questions, which VLMEvalKit and MMStar itself report.

  Args:
    results: {"l2_category", "score"} each.

  Raises:
    ZeroDivisionError: no results.
  """
  scores: dict[str, list[float]] = {}
  for result in results:
    scores.setdefault(result["l2_category"], []).append(result["score"])
  return sum(map(mean, scores.values())) / len(scores)


SCORERS: Mapping[tuple[str, str, str], Callable[..., Any]] = {
  ("MMBench", "circular", "vlmevalkit"): lambda rows: vlmevalkit(rows),
  ("MMBench", "circular", "lmms_eval_static"): lambda rows: lmms(rows),
  ("MMStar", "aggregate", "vlmevalkit"): lambda rows: report(rows),
  ("MMStar", "aggregate", "lmms_eval"): lambda results: mmstar_lmms(results),
}
