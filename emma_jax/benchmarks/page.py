"""The page of a run: report.html, one file that loads nothing.

Tables as the paper has them, with intervals; then set by set where the score
comes from: categories, answers, replies of judges, prompts, failures, times.
"""

from collections.abc import Iterable, Mapping, Sequence
import dataclasses
import math
import os
from typing import Any

from emma_jax import files
from emma_jax.benchmarks import compare, published, samples, tables
from emma_jax.benchmarks import results as reading
from emma_jax.benchmarks.records import Outcome
from emma_jax.benchmarks.results import Results
from emma_jax.benchmarks.samples import Evidence, Room
from emma_jax.judge.ledger import Price
from emma_jax.pages import formats
from emma_jax.pages.render import render

NAME = "report.html"
# Samples of a set, each of random and disputed; failures of a kind; rows of a
# column of categories; bytes of all pictures, so that a page with its texts
# stays below 10 MB.
_SAMPLES, _FAILURES, _ROWS, _PICTURES = 12, 10, 12, 7_000_000
_KINDS = ("understanding", "drawing", "editing")
# The paper's mean is over these, of a hundred each.
_ELEVEN = (
  *("chartqa", "docvqa", "textvqa", "infovqa", "ocrbench", "mmbench"),
  *("mmmu", "mathvista", "ai2d", "mmstar", "mmvet"),
)
_REHEARSAL = "smoke"  # name of the config


def write(out: str, data: str = "") -> str:
  """Writes a folder's report.html; returns its path.

  Args:
    out: folder of the results.
    data: folder of the test sets, over the config's.

  Raises:
    BadRun: there are no results, or their files are damaged.
  """
  run = reading.read(out)
  room = Room(_PICTURES)
  details = []
  for n, one in enumerate(run.sets):
    room.keep_for(len(run.sets) - n - 1)
    details.append(_details(run, one, _data(run, one, data), room))
  text = render(
    "benchmark.html.j2",
    title=f"Benchmarks: {run.run.get('checkpoint', run.out)}",
    rehearsal=run.config.get("name") == _REHEARSAL,
    facts=_facts(run),
    tables=_tables(run.sets),
    resolvable=_resolvable(run.sets),
    beside=[
      (one, tables.headline(one), published.beside(one)) for one in run.sets
    ],
    sets=details,
    left_out=room.left_out,
    unreadable=room.unreadable,
    signed=compare.signed,
    printed=lambda value, unit: tables.score({"score": value, "unit": unit}),
  )
  path = os.path.join(out, NAME)
  files.write_text(path, text)
  return path


def _data(run: Results, one: Mapping[str, Any], data: str) -> str:
  """Folder of a set's data: its own, the one given, the config's."""
  section = run.config["sets"].get(one["name"], {})
  return section.get("data") or data or run.config.get("data") or ""


def _facts(run: Results) -> list[tuple[str, str]]:
  """(name, value) of the header."""
  about = run.run
  versions = about.get("versions", {})
  return [
    ("checkpoint", f"{about.get('checkpoint')}, step {about.get('step')}"),
    ("weights", str(about.get("weights"))[:16]),
    ("commit", str(about.get("commit") or "not recorded")),
    ("device", str(about.get("device"))),
    ("config", str(run.config.get("name"))),
    ("versions", ", ".join(f"{k} {v}" for k, v in versions.items())),
  ]


# ------------------------------------------------------------------ tables


@dataclasses.dataclass(frozen=True, kw_only=True)
class Line:
  """A number of a table; `low`, `high`, `at`, `paper`: shares of its scale.

  classes: of the row. name, split: "" in lines of further implementations.
  why: what is wrong with the number, "" for nothing.
  """

  classes: str
  name: str
  split: str
  impl: str
  score: str
  interval: str
  at: float | None = None
  low: float = 0.0
  high: float = 0.0
  paper: float | None = None
  n: str = ""
  failed: str = ""
  why: str = ""
  beside: published.Beside | None = None
  unit: str = ""


def _tables(sets: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[Line]]]:
  """(kind, lines) of the kinds that were run."""
  found = []
  for kind in _KINDS:
    lines = [x for one in sets if one["kind"] == kind for x in _lines(one)]
    if kind == "understanding":
      lines += _mean(sets)
    if lines:
      found.append((kind, lines))
  return found


def _lines(one: Mapping[str, Any]) -> Iterable[Line]:
  """The headline, then what other implementations say of the same files."""
  paper = next(
    (x for x in published.beside(one) if x.row.model == "EMMA"), None
  )
  numbers = sorted(one["numbers"], key=lambda n: n["impl"] != one["impl"])
  for place, number in enumerate(numbers):
    yield _line(one, number, paper if not place else None, not place)


def _line(
  one: Mapping[str, Any],
  number: Mapping[str, Any],
  paper: published.Beside | None,
  first: bool,
) -> Line:

  def place(value: float) -> float:
    return _place(one, value)

  interval = number["ci95"]
  notes = [number["reason"]] if number["reason"] else []
  if number["partial"] and first:
    notes.append(f"partial: {one['data']['items']:,} items")
  if number["unread"]:
    notes.append(f"{number['unread']:,} unread, wrong: no judge")
  failed = sum(number["failures"].values())
  return Line(
    classes="all" if first else "soft",
    name=one["title"] if first else "",
    split=_split(one) if first else "",
    impl=number["impl"],
    score=tables.score(number) if number["score"] is not None else "none",
    interval=tables.interval(number),
    at=None if number["score"] is None else place(number["score"]),
    low=place(interval[0]) if interval else 0.0,
    high=place(interval[1]) if interval else 0.0,
    paper=place(paper.row.value) if paper else None,
    n=formats.thousands(number["n_expected"]),
    failed=formats.thousands(failed) if failed else "",
    why="; ".join(notes),
    beside=paper,
    unit=number["unit"],
  )


def _split(one: Mapping[str, Any]) -> str:
  extra = one["name"].partition(":")[2]
  return (
    f"{one['split']} ({extra})"
    if extra not in ("", one["split"])
    else (one["split"])
  )


def _place(one: Mapping[str, Any], value: float) -> float:
  """Where a printed score lies on its set's scale, 0..1."""
  worst, best = reading.limits(one)
  return min(1.0, max(0.0, (value - worst) / (best - worst)))


def _hundredths(one: Mapping[str, Any], value: float) -> float:
  """A printed error, or half an interval, of a hundred."""
  worst, best = reading.limits(one)
  return 100 * value / (best - worst)


def _mean(sets: Sequence[Mapping[str, Any]]) -> list[Line]:
  """The paper's mean of 11, where all are there whole."""
  by_name = {one["name"]: one for one in sets}
  eleven = [by_name[name] for name in _ELEVEN if name in by_name]
  numbers = [tables.headline(one) for one in eleven]
  if len(eleven) < len(_ELEVEN):
    return []
  if any(n["score"] is None or n["partial"] for n in numbers):
    return []
  value, half = _mean_of(eleven)
  printed = {"score": value, "unit": "%"}
  ends = {"ci95": (value - half, value + half), "unit": "%"}
  row = next(
    r for r in published.rows() if (r.model, r.set) == ("EMMA", published.MEAN)
  )
  return [
    Line(
      classes="all",
      name="Mean of 11",
      split="",
      impl="",
      score=tables.score(printed),
      interval=tables.interval(ends),
      at=value / 100,
      low=(value - half) / 100,
      high=(value + half) / 100,
      paper=row.value / 100,
      beside=published.Beside(
        row=row,
        difference=value - row.value,
        reasons=("splits, implementations and judges not stated",),
        outside=abs(value - row.value) > half,
      ),
      unit="%",
    )
  ]


def _mean_of(sets: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
  """(mean, half of its 95% interval), of a hundred; sets are independent."""
  values = [100 * _place(one, tables.headline(one)["score"]) for one in sets]
  errors = [
    _hundredths(one, tables.headline(one)["standard_error"]) for one in sets
  ]
  half = 1.96 * math.hypot(*errors) / len(sets)
  return math.fsum(values) / len(sets), half


def _resolvable(sets: Sequence[Mapping[str, Any]]) -> str:
  """What differences these numbers can show."""
  scored = [one for one in sets if tables.headline(one)["ci95"]]
  if not scored:
    return ""
  halves = sorted(
    (_hundredths(one, (ci[1] - ci[0]) / 2), one["title"])
    for one in scored
    for ci in [tables.headline(one)["ci95"]]
  )
  (least, narrow), (most, wide) = halves[0], halves[-1]
  text = (
    f"On a scale of 100 points half an interval is {least:.1f} ({narrow}) to "
    f"{most:.1f} ({wide}). "
  )
  small = "Gains of 0.2 to 0.6 points, which papers print for one change, are "
  text += small + (
    "not resolvable on one of these sets"
    if least > 0.6
    else "not resolvable on most sets"
  )
  if len(scored) > 1:
    _, half = _mean_of(scored)
    text += f"; the mean of these {len(scored)} is known to {half:.1f}"
  return (
    f"{text}. Two runs on the same items are told apart by less: "
    "emma-benchmark compare A B."
  )


# ----------------------------------------------------------------- details


def _details(
  run: Results, one: Mapping[str, Any], data: str, room: Room
) -> dict[str, Any]:
  """What the template shows of one set."""
  by_impl = _outcomes(run, one)
  chosen = samples.choose(
    by_impl,
    count=_SAMPLES,
    failures=_FAILURES,
    seed=f"{run.config.get('seed', 0)}/{one['name']}",
  )
  evidence = Evidence(run, one, chosen, data)
  shown = [
    (title, [evidence.sample(x, room) for x in some])
    for title, some in (
      ("Drawn at random", chosen.random),
      ("Most disputed between implementations", chosen.disputed),
    )
  ]
  number = tables.headline(one)
  failed = []
  for kind, outcomes in chosen.failed.items():
    count, title = number["failures"].get(kind), f"Failed, {kind}"
    if count is None:  # what no rule reads is wrong, and no failure
      count, title = number["unread"], "Unread, and no judge was asked"
    failed.append((title, count, [evidence.sample(x, room) for x in outcomes]))
  first = evidence.first
  return {
    "one": one,
    "number": number,
    "lines": list(_lines(one)),
    "columns": _columns(one),
    "samples": shown,
    "failed": failed,
    "note": evidence.note,
    "prompt": evidence.prompt(first) if first else None,
    "asked": published.asked(one),
    "usd": _usd(run, one["judge"]),
    "timing": _timing(one["timing"]),
    "several": len(one["numbers"]) > 1,
  }


def _usd(run: Results, judge: Mapping[str, Any]) -> float | None:
  """What a set's replies cost at the config's prices; None: not known."""
  section = run.config.get("judges", {}).get(judge["name"], {})
  if section.get("kind") != "openai":
    return None
  return Price(**section["price"]).of(
    judge["input_tokens"], judge["output_tokens"], 0
  )


def _outcomes(run: Results, one: Mapping[str, Any]) -> dict[str, list[Outcome]]:
  """By implementation, the headline's first."""
  impls = [n["impl"] for n in one["numbers"]]
  impls.sort(key=lambda impl: impl != one["impl"])
  return {impl: run.outcomes(one, impl) for impl in impls}


def _columns(
  one: Mapping[str, Any],
) -> list[tuple[str, list[Mapping[str, Any]], int]]:
  """(column, its worst rows, how many more), of the headline's categories.

  Columns of one row, such as capabilities, share a table.
  """
  columns: dict[str, list[Mapping[str, Any]]] = {}
  for row in tables.headline(one)["categories"]:
    columns.setdefault(row["column"], []).append(row)
  alone: list[Mapping[str, Any]] = [
    {
      **row,
      "value": name if row["value"] == "yes" else f"{name} {row['value']}",
    }
    for name, (row, *more) in columns.items()
    if not more
  ]
  found = {name: rows for name, rows in columns.items() if len(rows) > 1}
  if alone:
    found["each on its own"] = alone
  tabled = []
  for name, rows in found.items():
    rows = sorted(rows, key=lambda row: (row["score"], row["value"]))
    placed: list[Mapping[str, Any]] = [
      {**row, "at": _place(one, row["score"])} for row in rows[:_ROWS]
    ]
    tabled.append((name, placed, len(rows) - len(placed)))
  return tabled


def _timing(timing: Mapping[str, float]) -> list[tuple[str, str]]:
  """(what, how much); nothing where nothing was computed."""
  made, seconds = timing.get("made", 0), timing.get("seconds", 0.0)
  if not made or not seconds:
    return []
  found = [
    ("predictions", formats.thousands(int(made))),
    ("a second", f"{made / seconds:.3g}"),
    (
      "of the time outside of the model",
      formats.share(max(0.0, 1 - timing.get("model_seconds", 0.0) / seconds)),
    ),
  ]
  if timing.get("slots"):
    share = max(0.0, 1 - timing["tokens"] / timing["slots"])
    found.append(("of the slots padding", formats.share(share)))
  return found
