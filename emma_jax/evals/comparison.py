"""Runs side by side on one page: scores, curves, configs, the same prompts."""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import pathlib
from typing import Any

from emma_jax import paired
from emma_jax.evals import cells, curves, grids, made_by
from emma_jax.evals.outcomes import Scores
from emma_jax.evals.runs import Run, differences
from emma_jax.evals.table import MAIN, NAMES, plain_kind
from emma_jax.files import write_text
from emma_jax.pages import charts
from emma_jax.pages.render import render

# A p below it is a difference.
_SURE = 0.05
# Prompts of a task whose pictures are shown.
_PROMPTS = 6


@dataclasses.dataclass(frozen=True, kw_only=True)
class Difference:
  """A run less the first one, on the samples that both have.

  text: with p that there is none, corrected for all that were looked at. mark:
  right or wrong where it is better or worse for sure, else "".
  """

  text: str
  mark: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
  """A score of all runs; None where a run has none.

  compared: of each with the first, None where nothing can be told.
  differences: the same in words, once all are known.
  """

  name: str
  classes: str
  scores: Sequence[cells.Shown | None]
  compared: Sequence[paired.Comparison | None]
  differences: Sequence[Difference | None] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table:
  """A task's scores."""

  title: str
  rows: Sequence[Row]


def write(path: str | pathlib.Path, runs: Sequence[Run]) -> None:
  """Writes the page; raises OSError."""
  columns = [(run.name, run.predictions) for run in runs if run.predictions]
  page = render(
    "comparison.html.j2",
    title=" and ".join(run.name for run in runs),
    runs=[(run, made_by.described(run.starts)[:1]) for run in runs],
    names=[run.name for run in runs],
    tables=tables(runs),
    curves=[chart for chart in _curves(runs) if chart],
    recorded=all(run.starts for run in runs),
    differences=differences([run.config for run in runs]),
    grids=grids.same_prompts(columns, most=_PROMPTS),
  )
  write_text(path, page)


# ------------------------------------------------------------------ scores


def tables(runs: Sequence[Run]) -> list[Table]:
  """Scores of every task that a run has, the differences tested by pairs."""
  marks = [_marks(run.predictions) for run in runs]
  out = []
  for task in MAIN:
    if not any(task in run.scores for run in runs):
      continue
    entries = [run.scores.get(task) for run in runs]
    of_task = [found.get(task, []) for found in marks]
    rows = [_row("overall", "all", task, entries, of_task)]
    kinds = dict.fromkeys(k for e in entries if e for k in e["kinds"])
    for kind in kinds:
      some = [e["kinds"].get(kind) if e else None for e in entries]
      of_kind = [[m for m in one if m.kind == kind] for one in of_task]
      rows.append(_row(plain_kind(kind), "", "", some, of_kind))
    out.append(Table(title=NAMES[task], rows=rows))
  return _in_words([*out, *_held_out(runs, marks)])


def _in_words(found: Sequence[Table]) -> list[Table]:
  """With the differences, their p corrected for having looked at all (Holm)."""
  places = {
    f"{t} {r} {n}": one.p
    for t, table in enumerate(found)
    for r, row in enumerate(table.rows)
    for n, one in enumerate(row.compared)
    if one is not None
  }
  adjusted = paired.holm(places)
  return [
    Table(
      title=table.title,
      rows=[
        dataclasses.replace(
          row,
          differences=[
            None if one is None else _difference(one, adjusted[f"{t} {r} {n}"])
            for n, one in enumerate(row.compared)
          ],
        )
        for r, row in enumerate(table.rows)
      ],
    )
    for t, table in enumerate(found)
  ]


def _difference(found: paired.Comparison, p: float) -> Difference:
  value, ends = found.difference.value, found.difference.interval
  if not (value or found.difference.standard_error):
    return Difference(text=f"equal in all {found.difference.items}", mark="")
  mark = ""
  if p < _SURE:
    mark = "right" if value > 0 else "wrong"
  interval = f"{ends.low:+.2f} to {ends.high:+.2f}"
  return Difference(text=f"{value:+.2f} ({interval}), p {p:.2g}", mark=mark)


def _held_out(
  runs: Sequence[Run], marks: Sequence[Mapping[str, list["Mark"]]]
) -> Iterator[Table]:
  sets = [run.scores.get("held_out") or {} for run in runs]
  rows = [
    _row(
      NAMES[name],
      "",
      name,
      [found.get(name) for found in sets],
      [found.get(name, []) for found in marks],
    )
    for name in dict.fromkeys(name for found in sets for name in found)
  ]
  if rows:
    yield Table(title="Never trained on", rows=rows)


def _row(
  name: str,
  classes: str,
  of: str,
  entries: Sequence[Scores | None],
  marks: Sequence[Sequence["Mark"]],
) -> Row:
  """`of`: the task whose overall score it is; "": of one kind."""
  shown = [
    None if e is None else cells.of_entry(of, e) if of else cells.of_kind(e)
    for e in entries
  ]
  mean_of_kinds = cells.is_mean_of_kinds(of, _kinds(marks[0]))
  return Row(
    name=name,
    classes=classes,
    scores=shown,
    compared=[
      None if n == 0 else _compared(marks[0], one, mean_of_kinds)
      for n, one in enumerate(marks)
    ],
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mark:
  """Whether one thing was right; `id` is the same in all runs."""

  id: str
  record: str
  kind: str
  right: bool


def _kinds(marks: Sequence[Mark]) -> set[str]:
  return {mark.kind for mark in marks}


def _marks(folder: pathlib.Path | None) -> dict[str, list[Mark]]:
  """Set -> the marks of its predictions that an exact scorer gave."""
  out: dict[str, list[Mark]] = {}
  for (name, index, sample), line in grids.lines(folder).items():
    for n, mark in enumerate(line["marks"]):
      if mark["right"] is not None:
        record = f"{index} {sample}"
        one = Mark(
          id=f"{record} {n}",
          record=record,
          kind=mark["kind"],
          right=mark["right"],
        )
        out.setdefault(name, []).append(one)
  return out


def _compared(
  first: Sequence[Mark], other: Sequence[Mark], mean_of_kinds: bool
) -> paired.Comparison | None:
  """None where fewer than two samples are in both."""
  a = {mark.id: float(mark.right) for mark in first}
  b = {mark.id: float(mark.right) for mark in other}
  if len(a.keys() & b.keys()) < 2:
    return None
  return paired.compare(
    a,
    b,
    {mark.id: mark.record for mark in first},
    {mark.id: mark.kind for mark in first} if mean_of_kinds else None,
    seed=0,
  )


# ------------------------------------------------------------------ curves


def _curves(runs: Sequence[Run]) -> Iterator[charts.Lines | None]:
  """One chart a curve, a line a run."""
  thinned = [curves.thinned(run.metrics) for run in runs]
  for curve in curves.comparable(thinned):
    series = [
      curves.series(metrics, curve.key, run.name, curve.timing)
      for run, metrics in zip(runs, thinned)
    ]
    yield charts.chart(
      curve.title, series, log=curve.log, top=curve.top, label=curve.label
    )
  for task in MAIN:
    yield _scores(runs, task)


def _scores(runs: Sequence[Run], task: str) -> charts.Lines | None:
  series = []
  for run in runs:
    entries: list[Any] = [
      (e["step"], e[task]) for e in run.history if task in e
    ]
    if not entries and task in run.scores:
      entries = [(run.scores["step"], run.scores[task])]
    entries = [(s, e) for s, e in entries if e["score"] is not None]
    series.append(
      charts.Series(
        run.name,
        [(s, e["score"]) for s, e in entries],
        [(s, *e["ci95"]) for s, e in entries if e.get("ci95")],
      )
    )
  if all(len(one.points) < 2 for one in series):
    return None  # the table has it
  return charts.chart(
    f"Score: {NAMES[task].lower()}",
    series,
    top=1.0,
    mean=False,
    note="after each stage, with 95% intervals",
  )
