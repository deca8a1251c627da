import json

import pytest

from configs.benchmarks import smoke
from emma_jax.benchmarks import during
from emma_jax.benchmarks.settings import BadSettings
from emma_jax.build import config_file
from emma_jax.judge.base import JudgeError
from tests.benchmarks import toy

# Answered, and drawn for a judge.
SETS = "chartqa,dpg"


def evaluator(tmp_path, monkeypatch, **changes) -> during.BenchmarkEvaluator:
  """Of the rehearsal, two items a set, with the smallest model."""

  def load(name):
    c = smoke.get_config()
    c.rows = 4
    for section in c.sets.values():
      section.repeats = 1
    return c

  monkeypatch.setattr(config_file, "load", load)
  given = dict(config="benchmarks/smoke", sets=SETS, limit=2, every=2, data="")
  config = dict(toy.model().session.config)
  config["evaluate"] = dict(config["evaluate"], benchmarks=given | changes)
  return during.BenchmarkEvaluator(tmp_path, config)


def test_numbers_of_a_step_and_of_the_next(tmp_path, monkeypatch, capsys):
  call = evaluator(tmp_path, monkeypatch)
  params = toy.model().session.params
  call(params, "1_pretraining", 2, False, False)
  call(params, "1_pretraining", 4, False, False)
  lines = [
    json.loads(x)
    for x in (tmp_path / "benchmarks.jsonl").read_text().split("\n")[:-1]
  ]
  assert [x["step"] for x in lines] == [2, 4]
  assert set(lines[0]["scores"]) == {"chartqa", "dpg"}
  assert lines[0]["scores"] == lines[1]["scores"]  # of the same weights
  assert "Benchmarks at step 4: chartqa" in capsys.readouterr().err
  for step in (2, 4):
    folder = tmp_path / "benchmarks" / f"step-{step}"
    assert (folder / "results.json").is_file()


def test_a_judge_that_fails_ends_no_training(tmp_path, monkeypatch, capsys):
  call = evaluator(tmp_path, monkeypatch, sets="chartqa")

  def fails(*given, **more):
    raise JudgeError("the quota is exhausted.")

  monkeypatch.setattr(during.stages, "judge", fails)
  call(toy.model().session.params, "1_pretraining", 2, False, False)
  err = capsys.readouterr().err
  assert "No benchmarks at step 2: the quota is exhausted." in err
  assert not (tmp_path / "benchmarks.jsonl").exists()


def test_what_is_missing_is_told_before_the_training(tmp_path, monkeypatch):
  with pytest.raises(BadSettings, match="No section sets.chartq"):
    evaluator(tmp_path, monkeypatch, sets="chartq")
