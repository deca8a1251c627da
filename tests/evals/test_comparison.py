"""Runs side by side: the same samples in pairs, and what differs by name."""

import json
import pathlib

import pytest

from emma_jax import paired, provenance
from emma_jax.cli import report as command
from emma_jax.evals import (
  comparison,
  grids,
  once,
  over_time,
  run_report,
  runner,
  runs,
)
from emma_jax.evals.settings import EvalSettings
from emma_jax.exits import Exit
from tests.evals.conftest import Blind, Perfect
from tests.pages import reading


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> list[pathlib.Path]:
  """Evaluations of a session that knows all, and of one that knows nothing."""
  out = []
  for name, kind in (("perfect", Perfect), ("blind", Blind)):
    session = kind()
    session.config = session.config | {"name": name, "seed": len(out)}
    folder = tmp_path_factory.mktemp("runs") / name
    once.evaluate(session, EvalSettings.of(session.config), folder)
    out.append(folder)
  return out


def test_the_difference_is_the_paired_tests(folders):
  perfect, blind = runs.read(folders)
  (drawing,) = [
    t for t in comparison.tables([perfect, blind]) if t.title == "Text to image"
  ]
  overall = drawing.rows[0]
  assert [s.value for s in overall.scores] == [1.0, 0.0]
  assert overall.compared[0] is None
  found = overall.compared[1]
  assert found.difference.value == pytest.approx(-1.0)
  assert found.difference.items == 12
  assert overall.differences[1].mark == "wrong"
  assert overall.differences[1].text.startswith("-1.00")
  # Of two samples of a kind nothing is sure, and that is not coloured.
  kind = drawing.rows[1]
  assert kind.scores[0].score == "2 of 2"
  assert kind.differences[1].mark == "" and "p 1" in kind.differences[1].text


def test_p_is_corrected_for_all_that_is_looked_at(folders):
  tables = comparison.tables(runs.read(folders))
  rows = [row for table in tables for row in table.rows]
  found = {str(i): row.compared[1] for i, row in enumerate(rows)}
  raw = {i: one.p for i, one in found.items() if one}
  assert len(raw) > 10
  adjusted = paired.holm(raw)
  for i, p in adjusted.items():
    assert p >= raw[i]
    text = rows[int(i)].differences[1].text
    assert text.endswith(f"p {p:.2g}") or text.startswith("equal in all")


def test_a_run_beside_itself_does_not_differ(folders, tmp_path):
  (tmp_path / "again").symlink_to(folders[1])
  with pytest.raises(runs.NoRun, match="twice"):
    runs.read([folders[1], tmp_path / "again"])
  one, _ = runs.read([folders[1], folders[0]])
  for table in comparison.tables([one, one]):
    for row in table.rows:
      if row.compared[1]:
        assert row.compared[1].p == 1.0 and row.differences[1].mark == ""
        assert row.differences[1].text.startswith("equal in all")


def test_the_command_writes_one_page_of_all(folders, tmp_path, capsys):
  out = tmp_path / "c.html"
  assert command.main([*map(str, folders), "--out", str(out)]) == 0
  assert "perfect" in capsys.readouterr().out
  page = reading.check(out.read_text())
  for words in ("Scores", "The same prompts", "Configs", "seed", "commit"):
    assert words in page.text, words
  assert "sample.max_tokens" not in page.text  # is the same in both
  images = [a for tag, a in page.tags if tag == "img"]
  # Four sources and six pictures a task and run.
  assert sum("perfect: " in a["alt"] for a in images) == 12
  assert sum("blind: " in a["alt"] for a in images) == 12


def test_what_is_no_run_is_refused_by_name(tmp_path, capsys):
  assert command.main([str(tmp_path)]) == Exit.MISTAKE
  assert f"{tmp_path} holds neither" in capsys.readouterr().err


def test_configs_differ_by_key():
  a, b = {"x": {"y": 1, "z": [1]}, "w": "s"}, {"x": {"y": 2, "z": [1]}}
  assert runs.differences([a, b]) == [("x.y", ["1", "2"]), ("w", ['"s"', ""])]


def test_a_run_shows_the_same_prompts_after_each_stage(tmp_path, config):
  """Of its predictions; a stage whose files are gone has no column."""
  from emma_jax.evals import predictions

  done = runner.run(Perfect(), EvalSettings.of(config))
  for stage, step in (("0_a", 3), ("1_b", 9), ("2_c", 12)):
    entry = {"stage": stage, **done.scores, "step": step}
    runner.append_history(tmp_path / "scores.jsonl", entry)
    if step != 9:
      predictions.write(tmp_path / predictions.folder_of(step), done.outcomes)
  provenance.append(
    tmp_path, provenance.about(config, step=0, devices="1 x cpu")
  )
  report = run_report.RunReport(tmp_path, config)
  report.write(done)
  page = reading.check(report.path.read_text())
  assert "The same prompts after each stage" in page.text
  assert "Made by" in page.text and "1 x cpu" in page.text
  (asked, drawn, edited) = grids.same_prompts(
    report._stages(runner.read_history(tmp_path / "scores.jsonl"))
  )
  assert asked.heads == drawn.heads == ["0 a", "2 c"]
  assert len(drawn.lines) == grids.LINES
  line = edited.lines[0]
  # The source is made anew from the id of the sample.
  assert len(line.shown) == 1 and line.shown[0].alt == "source"
  assert [cell.picture.classes for cell in line.cells] == ["right"] * 2
  answers = asked.lines[0].cells[0].answers
  assert answers and {mark for _, mark in answers} == {"right"}
  assert over_time.tables(tmp_path) == []  # no look was taken


def test_a_run_that_went_on_shows_its_newest_scores(tmp_path):
  runner.write_scores(tmp_path / "scores.json", {"step": 5})
  line = {"stage": "a", "step": 9, "checkpoint": "x"}
  runner.append_history(tmp_path / "scores.jsonl", line)
  (run,) = runs.read([tmp_path])
  assert run.scores["step"] == 9 and json.dumps(run.config) == "{}"
