"""The report of a run or an evaluation: one HTML file that needs no other."""

from collections.abc import Mapping, Sequence
import json
import pathlib
import re
from typing import Any

from emma_jax.evals import charts, sheets
from emma_jax.evals.outcomes import Outcome, Scores
from emma_jax.evals.style import CSS
from emma_jax.evals.table import MAIN, NAMES, bounds, notes, number, plain_kind
from emma_jax.files import write_text
from emma_jax.structs import TASKS

Entry = Mapping[str, Any]  # of metrics.jsonl

_LOSSES = {
  "understanding": "Understanding: nats per answer token",
  "drawing": "Text to image: velocity error",
  "editing": "Editing: velocity error",
  "router": "Router: nats per picture",
  "l1": "Autoencoder: L1",
  "l2": "Autoencoder: squared error",
}
# Samples of a mixture, or their tokens: data/drawing, data/tokens/drawing.
_MIXTURE = re.compile(rf"data/(?:(\w+)[/_])?({'|'.join(TASKS)})$")
# As many pictures of a main task, and of any other set.
_MAIN, _OTHER = 24, 12

escape = sheets.escape


def write(
  path: str | pathlib.Path,
  *,
  title: str,
  scores: Scores | None = None,
  outcomes: Mapping[str, Sequence[Outcome]] | None = None,
  history: Sequence[Scores] = (),
  metrics: Sequence[Entry] = (),
  config: Mapping[str, Any] | None = None,
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
  """
  parts = [_head(title, scores, metrics)]
  if scores:
    parts.append(_tiles(scores))
  if history:
    parts.append(_history(history))
  if scores:
    parts.append(_tables(scores))
  if outcomes:
    parts.append(_sheets(outcomes))
  if metrics:
    parts.append(_curves(metrics))
  if config:
    text = json.dumps(config, indent=2, ensure_ascii=False, default=str)
    parts.append(
      "<h2>Config</h2><details><summary>Every key of this run</summary>"
      f"<pre>{escape(text)}</pre></details>"
    )
  page = (
    '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
    '<meta name="viewport" content="width=device-width, initial-scale=1">'
    f"<title>{escape(title)}</title><style>{CSS}</style></head>\n<body>"
    + "\n".join(parts)
    + "\n</body></html>\n"
  )
  write_text(path, page)


def _head(title: str, scores: Scores | None, metrics: Sequence[Entry]) -> str:
  facts = []
  if scores:
    facts.append(f"checkpoint {scores['checkpoint']}, step {scores['step']:,}")
  if metrics:
    stages = list(dict.fromkeys(e["stage"] for e in metrics if "stage" in e))
    if stages:
      facts.append("stages " + ", ".join(plain_kind(s) for s in stages))
    facts.append(f"{metrics[-1]['step']:,} training steps")
    seconds = _seconds(metrics)
    if seconds:
      facts.append(f"{seconds / 60:.1f} min of training")
  return f"<h1>{escape(title)}</h1><p>{escape(' · '.join(facts))}</p>"


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


def _tiles(scores: Scores) -> str:
  tiles = []
  for task in (t for t in MAIN if t in scores):
    entry, beside = scores[task], []
    for name, other in bounds(scores, task).items():
      if other.get("score") is not None:
        beside.append(f"{name} {number(other['score'])}")
    if entry.get("baseline") is not None:
      beside.append(f"most frequent answers {number(entry['baseline'])}")
    if "copy" in entry:
      beside.append(f"untouched sources {entry['copy']['psnr']:.1f} dB")
    what = "questions" if task == "understanding" else "samples"
    beside.append(f"{entry['n']} {what}")
    value = number(entry["score"])
    if not value:
      value = f"{entry['psnr']:.1f} dB" if "psnr" in entry else "to look at"
    tiles.append(
      f'<div class="tile"><div class="name">{NAMES[task]}</div>'
      f'<div class="value">{value}</div>'
      f'<div class="beside">{escape(" · ".join(beside))}</div></div>'
    )
  lines = "".join(f"<p>{escape(line)}</p>" for line in notes(scores))
  return f'<div class="tiles">{"".join(tiles)}</div>{lines}'


def _history(history: Sequence[Scores]) -> str:
  tasks = [t for t in MAIN if any(t in entry for entry in history)]
  rows = []
  for entry in history:
    cells = [
      escape(plain_kind(str(entry.get("stage", "")))),
      f"{entry['step']:,}",
    ]
    for task in tasks:
      of_task = entry.get(task, {})
      n = f"<small>{of_task['n']}</small>" if of_task else ""
      cells.append((number(of_task.get("score")) or "&ndash;") + n)
    rows.append("<tr>" + "".join(f"<td>{c}</td>" for c in cells) + "</tr>")
  names = "".join(f"<th>{NAMES[t]}</th>" for t in tasks)
  return (
    "<h2>Scores over time</h2><p>After each stage, on unseen samples; small "
    "print: how many were scored.</p>"
    '<div class="scroll"><table><thead><tr><th>after stage</th><th>step</th>'
    f"{names}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
  )


def _bar(entry: Scores, mark: float | None) -> str:
  if entry["score"] is None:
    return ""
  tick = "" if mark is None else f'<b style="left:{100 * mark:.1f}%"></b>'
  return f'<div><i style="width:{100 * entry["score"]:.1f}%"></i>{tick}</div>'


def _tables(scores: Scores) -> str:
  blocks = []
  for task in (t for t in MAIN if t in scores):
    if scores[task]["kinds"]:
      beside = bounds(scores, task)
      blocks.append(_table(NAMES[task], scores[task], beside))
  if scores.get("held_out"):
    entries = {NAMES[k]: v for k, v in scores["held_out"].items()}
    none: Scores = {"reference": {}, "ceiling": {}}
    blocks.append(
      _table("Never trained on", {"score": None, "kinds": entries}, none)
    )
  if not blocks:
    return ""
  return (
    "<h2>Scores by kind</h2><p>The overall score of understanding is the "
    "mean over all questions, of pictures the mean over kinds. Baseline: "
    "always the most frequent answer (the mark on a bar). Ceiling: the true "
    "pictures through the autoencoder.</p>"
    f'<div class="tables">{"".join(blocks)}</div>'
  )


def _table(title: str, scores: Scores, beside: Mapping[str, Scores]) -> str:
  kinds = scores["kinds"]
  extra = []
  if any("baseline" in e for e in kinds.values()):
    extra.append("baseline")
  extra += [name for name, other in beside.items() if other]
  rows = []
  for kind, entry in kinds.items():
    others = {k: v.get("kinds", {}).get(kind, {}) for k, v in beside.items()}
    rows.append(_table_row(plain_kind(kind), entry, others, extra, ""))
  if scores["score"] is not None:
    rows.append(_table_row("overall", scores, beside, extra, "all"))
  head = "".join(f"<th>{name}</th>" for name in extra)
  return (
    f'<div><h3>{escape(title)}</h3><div class="scroll"><table><thead><tr>'
    f"<th></th><th></th><th>score</th><th>n</th>{head}</tr></thead><tbody>"
    f"{''.join(rows)}</tbody></table></div></div>"
  )


def _table_row(
  name: str,
  entry: Scores,
  others: Mapping[str, Scores],
  extra: Sequence[str],
  classes: str,
) -> str:
  baseline = entry.get("baseline")
  values = {"baseline": baseline}
  values |= {k: v.get("score") for k, v in others.items()}
  more = "".join(f"<td>{number(values[k])}</td>" for k in extra)
  return (
    f'<tr class="{classes}"><td>{escape(name)}</td>'
    f'<td class="bar">{_bar(entry, baseline)}</td>'
    f"<td>{number(entry['score'])}</td><td>{entry['n']}</td>{more}</tr>"
  )


# ------------------------------------------------------------------ pictures

_ABOUT = {
  "understanding": "The model's answer; the truth beside it where they differ.",
  "drawing": "What the model drew for the prompt below; a file's own picture "
  "small beside it.",
  "editing": "Source, the model's result, and small beside it the target.",
  "autoencoder": "Through the autoencoder and back; small: the original.",
}


def _sheets(outcomes: Mapping[str, Sequence[Outcome]]) -> str:
  main = [t for t in MAIN if outcomes.get(t)]
  frames = ""
  pictures = [o for t in main for o in outcomes[t] if o.picture is not None]
  if any(right is not None for o in pictures for _, right in o.marks):
    frames = (
      " Green: right, red: wrong, by the exact scorer; hold the mouse over a "
      "picture to read what it saw."
    )
  parts = [
    "<h2>Contact sheets</h2><p>The first unseen samples in their order, not "
    f"a choice.{frames}</p>"
  ]
  for task in main:
    parts.append(
      f"<h3>{NAMES[task]}</h3><p>{_ABOUT[task]}</p>"
      + sheets.sheet(outcomes[task], _MAIN)
    )
  for name, done in outcomes.items():
    if name in MAIN or not done:
      continue
    title = NAMES.get(name)
    if title is None:
      title = (
        f"Ceiling: {NAMES[name.removeprefix('ceiling_')].lower()}, the "
        "true pictures through the autoencoder"
      )
    parts.append(
      f"<details><summary>{escape(title)}</summary>"
      f"{sheets.sheet(done, _OTHER)}</details>"
    )
  return "\n".join(parts)


# ------------------------------------------------------------------ curves


def _series(
  metrics: Sequence[Entry], key: str, name: str, timing: bool = False
) -> charts.Series:
  """One key over steps; lines without it are skipped."""
  rows = [(e["step"], e.get("timing", {}) if timing else e) for e in metrics]
  return charts.Series(name, [(s, row[key]) for s, row in rows if key in row])


def _keys(metrics: Sequence[Entry], prefix: str) -> list[str]:
  found = dict.fromkeys(k for e in metrics for k in e if k.startswith(prefix))
  return sorted(found)


def _stages(metrics: Sequence[Entry]) -> list[tuple[float, str]]:
  """First logged step of each stage, and what stands before its first "_"."""
  starts: dict[str, float] = {}
  for entry in metrics:
    if "stage" in entry:
      starts.setdefault(entry["stage"], entry["step"])
  return [(step, name.split("_")[0]) for name, step in starts.items()]


def _curves(metrics: Sequence[Entry]) -> str:
  stages = _stages(metrics)
  figures = []
  order = list(_LOSSES)
  place = lambda key: (*order, key[5:]).index(key[5:])
  for key in sorted(_keys(metrics, "loss/"), key=place):
    name = key.removeprefix("loss/")
    if name != "total":
      figures.append(
        charts.chart(
          _LOSSES.get(name, name),
          [_series(metrics, key, name)],
          stages=stages,
          log=True,
        )
      )
  bins = [
    _series(metrics, key, key.split("/time_")[-1].replace("_", " – "))
    for key in _keys(metrics, "loss_by_time/")
  ]
  figures.append(
    charts.chart(
      "Velocity error by flow time",
      bins,
      stages=stages,
      log=True,
      note="0 is the clean picture, 1 pure noise",
    )
  )
  accuracies = [
    _series(metrics, key, key.removeprefix("accuracy/"))
    for key in _keys(metrics, "accuracy/")
  ]
  figures.append(
    charts.chart(
      "Accuracy in training",
      accuracies,
      stages=stages,
      top=1.0,
      label=charts.percent,
      note="tokens of answers, labels of the router",
    )
  )
  figures += _mixtures(metrics, stages)
  rate = [_series(metrics, "learning_rate", "learning rate")]
  figures.append(charts.chart("Learning rate", rate, stages=stages, mean=False))
  speed = [_series(metrics, "tokens_per_second", "tokens/s", timing=True)]
  figures.append(charts.chart("Tokens per second", speed, stages=stages))
  seconds = [
    _series(metrics, "step_seconds", "a step", timing=True),
    _series(metrics, "data_seconds", "of it waiting for data", timing=True),
  ]
  figures.append(charts.chart("Seconds per step", seconds, stages=stages))
  return (
    "<h2>Training</h2><p>Over global steps; dashed lines: the first steps of "
    "the stages. Thin: as logged; thick: running mean.</p>"
    f'<div class="charts">{"".join(figures)}</div>'
  )


def _mixtures(
  metrics: Sequence[Entry], stages: Sequence[tuple[float, str]]
) -> list[str]:
  groups: dict[str, list[charts.Series]] = {}
  for key in _keys(metrics, "data/"):
    match = _MIXTURE.match(key)
    if match:
      series = _series(metrics, key, match[2])
      groups.setdefault(match[1] or "samples", []).append(series)
  return [
    charts.chart(
      f"Realised mixture, share of {plain_kind(unit)}",
      series,
      stages=stages,
      top=1.0,
      label=charts.percent,
      mean=False,
    )
    for unit, series in groups.items()
  ]
