"""Curves of a training run for its report, from the lines of metrics.jsonl."""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import itertools
import math
import re
from typing import Any

from emma_jax.evals.table import plain_kind
from emma_jax.pages import charts, formats
from emma_jax.structs import TASKS

Entry = Mapping[str, Any]  # of metrics.jsonl
Stages = Sequence[tuple[float, str]]

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


def curves(metrics: Sequence[Entry]) -> list[charts.Lines]:
  """Charts over global steps, of what was logged."""
  stages = _stages(metrics)
  metrics = thinned(metrics)
  drawn = [
    *_losses(metrics, stages),
    *_held_out(metrics, stages),
    _by_time(metrics, stages),
    _accuracies(metrics, stages),
    *_mixtures(metrics, stages),
    *_speeds(metrics, stages),
  ]
  return [chart for chart in drawn if chart]


def thinned(metrics: Sequence[Entry], most: int = 2000) -> Sequence[Entry]:
  """At most about so many lines: means of as many neighbours of one stage.

  A run of a million steps is read in a second, and looks the same.
  """
  size = math.ceil(len(metrics) / most)
  if size < 2:
    return metrics
  out = []
  for _, of_stage in itertools.groupby(metrics, lambda e: e.get("stage")):
    lines = list(of_stage)
    for start in range(0, len(lines), size):
      out.append(_merged(lines[start : start + size]))
  return out


def _merged(lines: Sequence[Entry]) -> Entry:
  """The last line, its numbers the means over the lines that have them."""
  out = dict(lines[-1])
  timings = [e["timing"] for e in lines if "timing" in e]
  if timings:
    out["timing"] = _merged(timings)
  for key in dict.fromkeys(key for e in lines for key in e):
    found = [e[key] for e in lines if isinstance(e.get(key), (int, float))]
    if found and key not in ("step", "stage_step"):
      out[key] = math.fsum(found) / len(found)
  return out


def timing_shares(metrics: Sequence[Entry]) -> list[tuple[str, float]]:
  """(cause, share of the wall time) of the last process, largest first."""
  for entry in reversed(metrics):
    timing = entry.get("timing", {})
    found = [
      (key.removeprefix("share/"), timing[key])
      for key in timing
      if key.startswith("share/")
    ]
    if found:
      return sorted(found, key=lambda x: -x[1])
  return []


def series(
  metrics: Sequence[Entry], key: str, name: str, timing: bool = False
) -> charts.Series:
  """One key over steps; lines without it are skipped."""
  rows = [(e["step"], e.get("timing", {}) if timing else e) for e in metrics]
  return charts.Series(name, [(s, row[key]) for s, row in rows if key in row])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Curve:
  """One key of the log as runs are compared by it."""

  key: str
  title: str
  timing: bool = False
  log: bool = False
  top: float | None = None
  label: charts.Format = formats.short


def comparable(runs: Sequence[Sequence[Entry]]) -> Iterator[Curve]:
  """Curves that any run has: losses, accuracies, the rate, the speed."""
  every = [entry for metrics in runs for entry in metrics]
  held_out = "validation_averaged/loss/"
  for prefix, what in (("loss/", ""), (held_out, "Held out: ")):
    for key in _by_place(_keys(every, prefix), prefix):
      name = key.removeprefix(prefix)
      if name != "total":
        yield Curve(key=key, title=what + _LOSSES.get(name, name), log=True)
  for key in _keys(every, "accuracy/"):
    title = f"Accuracy in training: {key.removeprefix('accuracy/')}"
    yield Curve(key=key, title=title, top=1.0, label=formats.percent)
  yield Curve(key="learning_rate", title="Learning rate")
  yield Curve(key="tokens_per_second", title="Tokens per second", timing=True)


def _by_place(keys: Sequence[str], prefix: str) -> list[str]:
  order = list(_LOSSES)
  name = lambda key: key.removeprefix(prefix)
  return sorted(keys, key=lambda key: (*order, name(key)).index(name(key)))


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


def _losses(
  metrics: Sequence[Entry], stages: Stages
) -> Iterator[charts.Lines | None]:
  for key in _by_place(_keys(metrics, "loss/"), "loss/"):
    name = key.removeprefix("loss/")
    if name != "total":
      drawn = [series(metrics, key, name)]
      title = _LOSSES.get(name, name)
      yield charts.chart(title, drawn, stages=stages, log=True)


def _held_out(
  metrics: Sequence[Entry], stages: Stages
) -> Iterator[charts.Lines | None]:
  """Of held-out records, per task, and per task and bin of flow time."""
  live, averaged = "validation/", "validation_averaged/"
  for key in _keys(metrics, f"{live}loss/"):
    name = key.removeprefix(f"{live}loss/")
    yield charts.chart(
      f"Held out: {_LOSSES.get(name, name)}",
      [
        series(metrics, f"{averaged}loss/{name}", "averaged weights"),
        series(metrics, key, "live weights"),
      ],
      stages=stages,
      log=True,
      mean=False,
      note="the same records, noise and times at every look",
    )
  for task in TASKS:
    prefix = f"{averaged}loss_by_time/{task}_time_"
    yield charts.chart(
      f"Held out, by flow time: {task}",
      [
        series(metrics, key, key.removeprefix(prefix).replace("_", " – "))
        for key in _keys(metrics, prefix)
      ],
      stages=stages,
      log=True,
      mean=False,
      note="averaged weights; 0 is the clean picture, 1 pure noise",
    )


def _by_time(metrics: Sequence[Entry], stages: Stages) -> charts.Lines | None:
  bins = [
    series(metrics, key, key.split("/time_")[-1].replace("_", " – "))
    for key in _keys(metrics, "loss_by_time/")
  ]
  return charts.chart(
    "Velocity error by flow time",
    bins,
    stages=stages,
    log=True,
    note="0 is the clean picture, 1 pure noise",
  )


def _accuracies(
  metrics: Sequence[Entry], stages: Stages
) -> charts.Lines | None:
  accuracies = [
    series(metrics, key, key.removeprefix("accuracy/"))
    for key in _keys(metrics, "accuracy/")
  ]
  return charts.chart(
    "Accuracy in training",
    accuracies,
    stages=stages,
    top=1.0,
    label=formats.percent,
    note="tokens of answers, labels of the router",
  )


def _mixtures(
  metrics: Sequence[Entry], stages: Stages
) -> list[charts.Lines | None]:
  groups: dict[str, list[charts.Series]] = {}
  for key in _keys(metrics, "data/"):
    match = _MIXTURE.match(key)
    if match:
      drawn = series(metrics, key, match[2])
      groups.setdefault(match[1] or "samples", []).append(drawn)
  return [
    charts.chart(
      f"Realised mixture, share of {plain_kind(unit)}",
      drawn,
      stages=stages,
      top=1.0,
      label=formats.percent,
      mean=False,
    )
    for unit, drawn in groups.items()
  ]


def _speeds(
  metrics: Sequence[Entry], stages: Stages
) -> Iterator[charts.Lines | None]:
  rate = [series(metrics, "learning_rate", "learning rate")]
  yield charts.chart("Learning rate", rate, stages=stages, mean=False)
  speed = [series(metrics, "tokens_per_second", "tokens/s", timing=True)]
  note = "without compiling, saving and evaluating"
  yield charts.chart("Tokens per second", speed, stages=stages, note=note)
  seconds = [
    series(metrics, "step_seconds", "a step", timing=True),
    series(metrics, "data_seconds", "of it waiting for data", timing=True),
  ]
  yield charts.chart("Seconds per step", seconds, stages=stages, note=note)
