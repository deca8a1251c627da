"""What a person sees fits 80 columns, in one order, whatever the numbers."""

import doctest
import json
import re

import pytest
import rich.cells

from emma_jax import terminal
from emma_jax.training import display, header
from tests.training.test_loop import make_run

pytestmark = pytest.mark.smoke

TINY = display.Progress(
  stage="1_pretraining",
  step=120,
  steps=350,
  seconds_left=72.0,
  loss=1.23412,
  step_seconds=0.1723,
  tokens_per_second=12_345.0,
  memory=1.21e9,
)
FULL = display.Progress(
  stage="1_pretraining",
  step=120_000,
  steps=244_140,
  seconds_left=601_000.0,
  loss=0.351_23,
  step_seconds=2.491,
  tokens_per_second=1_640_000.0,
  memory=71.2e9,
)


def test_docstrings():
  assert doctest.testmod(display).failed == 0
  assert doctest.testmod(header).failed == 0


@pytest.mark.parametrize("progress", [TINY, FULL])
@pytest.mark.parametrize("columns", [40, 79, 119, 200])
def test_a_line_fits_and_keeps_its_order(progress, columns):
  line = display.line(progress, columns)
  assert rich.cells.cell_len(line) <= columns
  parts = ["1_pretraining", f"{progress.step}/{progress.steps}"]
  parts += [display.clock(progress.seconds_left), *progress.figures()]
  shown = [line.index(part) for part in parts if part in line]
  assert shown == sorted(shown) and len(shown) >= 3
  if columns >= 79:  # all of them, at either size
    assert len(shown) == len(parts)


def test_what_is_not_known_yet_is_left_out():
  first = display.Progress(stage="a", step=0, steps=10)
  assert display.line(first, 79).split() == ["a", "0/10", "─" * 30, "-:--"]
  assert display.sentence(first) == "a 0/10  -:-- left"


VALUES = {"stage": "a", "stage_step": 4, "loss/total": 0.5, "loss/x": 1.0}
TIMING = {"step_seconds": 0.5, "tokens_per_second": 20.0}


def told(capsys) -> list[str]:
  return capsys.readouterr().err.splitlines()


def test_a_log_has_short_lines_with_time_left(capsys):
  shown = display.Display([("a", 10), ("b", 5)])
  shown.begin("a", 0)
  shown.step(1, None)
  shown.show(4, VALUES, TIMING)
  shown.end()
  shown.show(12, VALUES | {"stage": "b", "stage_step": 2}, TIMING)
  assert told(capsys) == [
    "a 4/10  0:03 left  loss 0.5  0.5 s/step  20 tok/s",
    "b 2/5  0:02 left  loss 0.5  0.5 s/step  20 tok/s",
  ]


def test_the_live_line_counts_every_step(monkeypatch):
  """At the rate that was logged last; before, by that of the steps so far."""
  shown = []
  monkeypatch.setattr(terminal, "is_live", lambda: True)
  monkeypatch.setattr(terminal, "show", lambda render: shown.append(render(40)))
  bar = display.Display([("a", 10)])
  bar.begin("a", 2)
  bar.step(3, 2.0)
  bar.show(4, VALUES, TIMING)
  bar.step(5, 2.0)
  left = [re.search(r"\d/10 .* (\d:\d\d)", line)[1] for line in shown]
  assert left == ["0:14", "0:03", "0:02"]
  assert shown[0].startswith("a 3/10") and "loss 0.5" in shown[2]


def test_json_lines_are_objects(capsys):
  shown = display.Display([("a", 10)])
  with terminal.guarded(), terminal.json_lines():
    terminal.doing("loading")
    shown.show(4, VALUES | {"loss/total": float("nan")}, TIMING)
    shown.note("WARNING: odd\nsaved")
  events = [json.loads(line) for line in told(capsys)]
  assert [e["event"] for e in events] == ["doing", "step", "line", "line"]
  assert events[1]["seconds_left"] == 3.0 and events[1]["loss"] == "nan"
  assert [e["level"] for e in events[2:]] == ["warning", "info"]
  assert events[3]["text"] == "saved" and all("time" in e for e in events)


def test_other_processes_say_nothing(capsys):
  terminal._TOLD.clear()
  display.Display([("a", 10)], active=False).doing("loading")
  assert not told(capsys)


def test_the_header_says_what_moves_and_where(tmp_path):
  run = make_run()
  from emma_jax import sharding

  mesh = sharding.make_mesh(run.mesh)
  said = "\n".join(
    header.lines(run, tmp_path, mesh, 7, "stage 3_quality, step 2")
  )
  for words in (
    "2 stages",
    "cpu",
    "2 parameters",
    str(tmp_path),
    "tensorboard",
  ):
    assert words in said
  assert "at stage 3_quality, step 2: 7 of 10 steps are done" in said
  assert "drawing: world:drawing:train" in said and "editing" not in said
  line = header.stage_line(run, run.stages[1], 0)
  assert line == "Stage 3_quality: 5 steps; trains 2 parameters, freezes 0."
  line = header.stage_line(run, run.stages[1], 2)
  assert line.startswith("Stage 3_quality: steps 3 to 5; ")
