"""A killed and resumed run leaves the scores of an undisturbed one."""

import json
import shutil

import numpy as np
from PIL import Image
import pytest

from emma_jax.evals import contact_sheet, predictions, runner, stage_sheet
from emma_jax.evals.during import StageEvaluator
from emma_jax.structs import TASKS

from .conftest import Blind, Perfect


def make(config, params, **options):
  return (Perfect if params["good"] else Blind)(config, params, **options)


def stages(workdir, config, plan):
  for stage, step, good, last, routed in plan:
    evaluator = StageEvaluator(
      workdir,
      config,
      make_session=make,
      load_reference=lambda: Perfect(name="reference"),
    )
    evaluator({"good": good}, stage, step, last, routed)


PLAN = [
  ("0_alignment", 10, False, False, False),
  ("1_pretraining", 30, True, False, False),
  ("4b_router", 40, True, True, True),
]


def strip(workdir):
  history = runner.read_history(workdir / "scores.jsonl")
  final = json.loads((workdir / "scores.json").read_text())
  return [runner.without_timing(e) for e in (*history, final)]


def test_resumed_equals_undisturbed(tmp_path, config, capsys):
  config["evaluate"] = dict(config["evaluate"], reference=True)
  stages(tmp_path / "whole", config, PLAN)
  stages(tmp_path / "killed", config, PLAN[:2] + PLAN[1:] + PLAN[2:])
  whole = strip(tmp_path / "whole")
  assert whole == strip(tmp_path / "killed")
  assert [e["step"] for e in whole] == [10, 30, 40, 40]
  assert [e.get("stage") for e in whole[:3]] == [p[0] for p in PLAN]
  first, final = whole[0], whole[-1]
  assert first["drawing"]["n"] == 6 and not first["held_out"]
  assert final["drawing"]["n"] == 12 and final["held_out"]
  for task in TASKS:
    assert final["reference"][task]["score"] == 1.0
  said = capsys.readouterr()
  sheets = [
    np.asarray(Image.open(tmp_path / name / stage_sheet.NAME))
    for name in ("whole", "killed")
  ]
  np.testing.assert_array_equal(*sheets)
  assert "The same prompts after each stage" in said.err
  assert "After 0_alignment: understanding" in said.err
  assert "report.html" in said.out and "scores.json" in said.out
  page = (tmp_path / "whole" / "report.html").read_text()
  assert "Scores over time" in page and "reference 1.00 (" in page
  assert "<code>evaluations/step-40/predictions.jsonl</code>" in page
  for step, count in ((10, 6), (40, 12)):
    folder = tmp_path / "whole" / "evaluations" / f"step-{step}"
    lines = predictions.read(folder / predictions.LINES)
    assert sum(line["set"] == "drawing" for line in lines) == count


def test_the_sheet_has_a_column_a_stage_and_one_of_the_shipped_model(
  tmp_path, config, monkeypatch
):
  """Drawings of before and after; what is lost is left out."""
  config["evaluate"] = dict(config["evaluate"], reference=True)
  seen = []
  draw = contact_sheet.sheet
  monkeypatch.setattr(
    contact_sheet,
    "sheet",
    lambda rows, head: seen.append((rows, head)) or draw(rows, head),
  )
  stages(tmp_path, config, PLAN[:2])
  shutil.rmtree(tmp_path / "evaluations" / "step-10")
  stages(tmp_path, config, PLAN[2:])
  assert [len(head) for _, head in seen] == [1, 2, 4]
  rows, head = seen[-1]
  assert list(head) == [*(p[0] for p in PLAN), "shipped model"]
  drawn = [r for r in rows if not isinstance(r.cells[1], str) and not r.shown]
  assert len(drawn) == 4 and len(rows) == 8
  for row in drawn:
    lost, after, last, other = row.cells
    assert lost == "-"
    np.testing.assert_array_equal(after, last)
    np.testing.assert_array_equal(after, other)


def test_scores_are_handed_back_for_the_runs_writers(tmp_path, config):
  evaluator = StageEvaluator(tmp_path, config, make_session=make)
  found = evaluator({"good": True}, "a", 3, True, False)
  assert found["scores/drawing"] == 1.0 == found["scores/held_out/drawing_zh"]
  assert any(name.startswith("scores/editing/") for name in found)


def test_the_router_is_taken_once_it_is_trained_whatever_the_stage(
  tmp_path, config
):
  seen = []

  def remember(config, params, **options):
    seen.append((options["name"], options["step"], options["route"]))
    return Perfect(config, params, **options)

  plan = [("4b_router", 10, False), ("routing", 30, True), ("5_more", 40, True)]
  for stage, step, routed in plan:
    StageEvaluator(tmp_path, config, remember)({}, stage, step, False, routed)
  assert seen == [
    ("fake 4b_router", 10, "versatile"),
    ("fake routing", 30, "router"),
    ("fake 5_more", 40, "router"),
  ]


def test_files_without_held_out_ones_still_get_a_report(
  tmp_path, config, capsys
):
  config["data"] = dict(config["data"], sources={"drawing": "jsonl:x.jsonl"})
  metrics = [{"step": s, "stage": "a", "loss/drawing": 1 / s} for s in (1, 2)]
  (tmp_path / "metrics.jsonl").write_text(
    "".join(json.dumps(m) + "\n" for m in metrics)
  )
  StageEvaluator(tmp_path, config, make_session=None)({}, "a", 2, True, False)
  assert "evaluate.sources" in capsys.readouterr().err
  assert "velocity error" in (tmp_path / "report.html").read_text()
  assert not (tmp_path / "scores.json").exists()


def test_a_wrong_section_is_refused_before_training(tmp_path, config):
  config["evaluate"] = dict(config["evaluate"], split="train")
  with pytest.raises(ValueError, match="test or val"):
    StageEvaluator(tmp_path, config)
