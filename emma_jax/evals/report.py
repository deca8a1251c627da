"""The report of a run or an evaluation: one HTML file that needs no other."""

from collections.abc import Mapping, Sequence
import dataclasses
import json
import pathlib
import re
from typing import Any

from emma_jax import stats
from emma_jax.evals import cells, made_by, sheets
from emma_jax.evals.curves import Entry, curves, timing_shares
from emma_jax.evals.grids import Grid
from emma_jax.evals.outcomes import Outcome, Scores
from emma_jax.evals.table import (
  MAIN,
  NAMES,
  bounds,
  notes,
  plain_kind,
  samples_word,
)
from emma_jax.files import write_text
from emma_jax.pages import charts, formats
from emma_jax.pages.render import render

# As many pictures of a main task, and of any other set.
_MAIN, _OTHER = 24, 12
_ABOUT = {
  "understanding": "The model's answer; the truth beside it where they differ.",
  "drawing": "What the model drew for the prompt below; a file's own picture "
  "small beside it.",
  "editing": "Source, the model's result, and small beside it the target.",
  "autoencoder": "Through the autoencoder and back; small: the original.",
}


def write(
  path: str | pathlib.Path,
  *,
  title: str,
  scores: Scores | None = None,
  outcomes: Mapping[str, Sequence[Outcome]] | None = None,
  history: Sequence[Scores] = (),
  metrics: Sequence[Entry] = (),
  config: Mapping[str, Any] | None = None,
  samples: Sequence[Grid] = (),
  stages: Sequence[Grid] = (),
  predictions: str = "",
  starts: Sequence[Mapping[str, Any]] = (),
):
  """Writes the report; what is not given has no section.

  Args:
    path: the HTML file.
    title: the name of the run.
    scores: of the last evaluation, see `runner.run`.
    outcomes: the same evaluation's, for the contact sheets.
    history: the lines of scores.jsonl.
    metrics: the lines of metrics.jsonl.
    config: nested dicts; shown whole.
    samples: of the run's looks, see `over_time.tables`.
    stages: the same prompts after each stage, see `grids.same_prompts`.
    predictions: the file of all of them, from the report's folder.
    starts: what it was made by, see `provenance`.
  """
  outcomes = outcomes or {}
  page = render(
    "report.html.j2",
    title=title,
    facts=_facts(scores, metrics),
    made=made_by.described(starts),
    predictions=predictions,
    tiles=_tiles(scores) if scores else [],
    notes=notes(scores) if scores else [],
    seen=samples_word(scores) if scores else "samples",
    history=_history(history) if history else None,
    progress=_progress(history),
    stages=stages,
    router=_router(metrics),
    tables=_tables(scores) if scores else [],
    sheets=_sheets(outcomes),
    marked=_marked(outcomes),
    samples=samples,
    curves=curves(metrics),
    shares=timing_shares(metrics),
    config=json.dumps(config, indent=2, ensure_ascii=False, default=str)
    if config
    else "",
  )
  write_text(path, page)


def _facts(scores: Scores | None, metrics: Sequence[Entry]) -> list[str]:
  facts = []
  if scores:
    step = formats.thousands(scores["step"])
    facts.append(f"checkpoint {scores['checkpoint']}, step {step}")
  if metrics:
    stages = list(dict.fromkeys(e["stage"] for e in metrics if "stage" in e))
    if stages:
      facts.append("stages " + ", ".join(plain_kind(s) for s in stages))
    steps = formats.thousands(metrics[-1]["step"])
    facts.append(f"{steps} training steps")
    seconds = _seconds(metrics)
    if seconds:
      facts.append(f"{seconds / 60:.1f} min of training")
  return facts


def _seconds(metrics: Sequence[Entry]) -> float:
  """Time of all logged steps; each line speaks for those since the last."""
  total, before = 0.0, 0
  for entry in metrics:
    per_step = entry.get("timing", {}).get("step_seconds", 0.0)
    if isinstance(per_step, (int, float)):
      total += per_step * (entry["step"] - before)
    before = entry["step"]
  return total


# ------------------------------------------------------------------ scores


@dataclasses.dataclass(frozen=True)
class Tile:
  """A task's score at a glance, with its interval or what there is of one."""

  name: str
  value: str
  interval: str
  beside: Sequence[str]


def _tiles(scores: Scores) -> list[Tile]:
  tiles = []
  for task in (t for t in MAIN if t in scores):
    entry, beside = scores[task], []
    for name, other in bounds(scores, task).items():
      if other.get("score") is not None:
        beside.append(f"{name} {cells.of_entry(task, other).text}")
    if entry.get("baseline") is not None:
      baseline = formats.score(entry["baseline"], entry["n"])
      beside.append(f"most frequent answers {baseline}")
    if "copy" in entry:
      beside.append(f"untouched sources {entry['copy']['psnr']:.1f} dB")
    what = "questions" if task == "understanding" else "samples"
    beside.append(f"{entry['n']} {what}")
    shown = cells.of_entry(task, entry)
    value, interval = shown.score, shown.interval
    if not value:
      value = f"{entry['psnr']:.1f} dB" if "psnr" in entry else "to look at"
      ends = entry.get("psnr_ci95")
      interval = f"{ends[0]:.1f}–{ends[1]:.1f} dB" if ends else ""
    tiles.append(Tile(NAMES[task], value, interval, beside))
  return tiles


@dataclasses.dataclass(frozen=True)
class Evaluated:
  """A line of the history: the scores of each task, None where it has none."""

  stage: str
  step: int
  cells: Sequence[cells.Shown | None]


@dataclasses.dataclass(frozen=True)
class History:
  """Scores over time, of the tasks that any line has."""

  tasks: Sequence[str]
  rows: Sequence[Evaluated]


def _history(history: Sequence[Scores]) -> History:
  tasks = [t for t in MAIN if any(t in entry for entry in history)]
  rows = [
    Evaluated(
      stage=plain_kind(str(entry.get("stage", ""))),
      step=entry["step"],
      cells=[
        cells.of_entry(task, entry[task]) if task in entry else None
        for task in tasks
      ],
    )
    for entry in history
  ]
  return History([NAMES[t] for t in tasks], rows)


def _progress(history: Sequence[Scores]) -> charts.Lines | None:
  """Scores over steps, with their intervals; None of fewer than two."""
  if len(history) < 2:
    return None
  series = []
  for task in MAIN:
    entries = [(e["step"], e[task]) for e in history if task in e]
    entries = [(s, e) for s, e in entries if e["score"] is not None]
    series.append(
      charts.Series(
        NAMES[task],
        [(s, e["score"]) for s, e in entries],
        [(s, *e["ci95"]) for s, e in entries if e.get("ci95")],
      )
    )
  return charts.chart(
    "Scores after each stage",
    series,
    top=1.0,
    mean=False,
    note="with 95% intervals",
  )


@dataclasses.dataclass(frozen=True)
class Router:
  """The router on held-out pictures, and the labels it was trained on.

  experts: names of the labels, and of what pictures were sent to.
  rows: (label, pictures sent to each of the experts).
  """

  accuracy: cells.Shown
  experts: Sequence[str]
  rows: Sequence[tuple[str, Sequence[int]]]
  stem_share: float
  pictures: int


def _router(metrics: Sequence[Entry]) -> Router | None:
  """Of the last line that measures one."""
  for entry in reversed(metrics):
    if "router/accuracy" in entry:
      found = (re.fullmatch(r"router/(.+)_to_\1", key) for key in entry)
      labels = [match[1] for match in found if match]
      table = [[entry[f"router/{a}_to_{b}"] for b in labels] for a in labels]
      n = sum(map(sum, table))
      ends = stats.wilson(sum(row[i] for i, row in enumerate(table)), n)
      names = ["STEM" if label == "stem" else label for label in labels]
      return Router(
        cells.shown(entry["router/accuracy"], n, [ends.low, ends.high]),
        names,
        list(zip(names, table, strict=True)),
        entry["labels/stem"],
        entry["labels/pictures"],
      )
  return None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
  """A kind's scores; `others` under the columns that not every table has."""

  name: str
  shown: cells.Shown
  baseline: float | None
  others: Sequence[tuple[str, str]]  # (column, text)
  classes: str


@dataclasses.dataclass(frozen=True)
class Table:
  """Scores of one task by kind."""

  title: str
  columns: Sequence[str]
  rows: Sequence[Row]


def _tables(scores: Scores) -> list[Table]:
  tables = []
  for task in (t for t in MAIN if t in scores):
    if scores[task]["kinds"]:
      tables.append(_table(task, scores[task], bounds(scores, task)))
  if scores.get("held_out"):
    columns = _columns(scores["held_out"], {})
    rows = [
      _row(NAMES[name], cells.of_entry(name, entry), entry, {}, columns)
      for name, entry in scores["held_out"].items()
    ]
    tables.append(Table("Never trained on", columns, rows))
  return tables


def _columns(
  entries: Mapping[str, Scores], beside: Mapping[str, Scores]
) -> list[str]:
  baseline = any("baseline" in e for e in entries.values())
  names = [name for name, other in beside.items() if other]
  return ["baseline", *names] if baseline else names


def _table(task: str, scores: Scores, beside: Mapping[str, Scores]) -> Table:
  kinds = scores["kinds"]
  columns, rows = _columns(kinds, beside), []
  for kind, entry in kinds.items():
    others = {
      name: cells.of_kind(other.get("kinds", {}).get(kind, {})).text
      for name, other in beside.items()
    }
    name = plain_kind(kind)
    rows.append(_row(name, cells.of_kind(entry), entry, others, columns))
  if scores["score"] is not None:
    others = {k: cells.of_entry(task, v).text for k, v in beside.items()}
    found = cells.of_entry(task, scores)
    rows.append(_row("overall", found, scores, others, columns, "all"))
  return Table(NAMES[task], columns, rows)


def _row(
  name: str,
  found: cells.Shown,
  entry: Scores,
  others: Mapping[str, str],
  columns: Sequence[str],
  classes: str = "",
) -> Row:
  baseline = entry.get("baseline")
  texts = {"baseline": formats.score(baseline, found.n), **others}
  return Row(
    name=name,
    shown=found,
    baseline=baseline,
    others=[(column, texts.get(column, "")) for column in columns],
    classes=classes,
  )


# ------------------------------------------------------------------ pictures


@dataclasses.dataclass(frozen=True)
class Section:
  """A contact sheet; without `about` it has to be opened by hand."""

  title: str
  about: str
  sheet: sheets.Sheet


def _marked(outcomes: Mapping[str, Sequence[Outcome]]) -> bool:
  """Whether a main task has pictures that are known to be right or wrong."""
  done = [o for t in MAIN for o in outcomes.get(t, ())]
  return any(
    right is not None
    for o in done
    if o.picture is not None
    for _, right in o.marks
  )


def _sheets(outcomes: Mapping[str, Sequence[Outcome]]) -> list[Section]:
  main = [t for t in MAIN if outcomes.get(t)]
  sections = [
    Section(NAMES[t], _ABOUT[t], sheets.sheet(outcomes[t], _MAIN)) for t in main
  ]
  for name, done in outcomes.items():
    if name in MAIN or not done:
      continue
    title = NAMES.get(name)
    if title is None:
      title = (
        f"Ceiling: {NAMES[name.removeprefix('ceiling_')].lower()}, the "
        "true pictures through the autoencoder"
      )
    sections.append(Section(title, "", sheets.sheet(done, _OTHER)))
  return sections
