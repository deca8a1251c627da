"""emma-evaluate: flags, messages, and the files it leaves."""

import collections
import json
import sys

import numpy as np
import pytest

from emma_jax import locks
from emma_jax.build import config_file
from emma_jax.build import session as build_session
from emma_jax.cli import common, evaluate
from emma_jax.evals import predictions
from emma_jax.evals.settings import EvalSettings
from emma_jax.exits import Exit
from emma_jax.world.scene import CANVAS

CONFIG = {
  "name": "fake",
  "model": {"kind": "emma"},
  "data": {
    "sources": {"drawing": "world:drawing:train"},
    "height": CANVAS,
    "width": CANVAS,
  },
  "sample": {"max_tokens": 8, "steps": 50},
  "evaluate": {
    "samples": 3,
    "stage_samples": 2,
    "held_out_samples": 2,
    "batch": 2,
    "seed": 0,
    "steps": 2,
    "split": "test",
  },
}


class Copier:
  """Draws blue canvases and leaves sources alone."""

  name, step = "copier", 5

  def __init__(self, config):
    self.config = config

  def ask(self, pictures, turns, **_):
    return [["yes"] * len(t) for t in turns]

  def draw(self, prompts, *, size, **_):
    return [np.full((*size, 3), (0, 0, 255), np.uint8) for _ in prompts]

  def edit(self, pictures, instructions, **_):
    return [first for first, *_ in pictures]

  def reconstruct(self, pictures):
    return list(pictures)


@pytest.fixture
def loaded(monkeypatch, tmp_path) -> list:
  loaded = []

  def load(name, *, change, **_):
    loaded.append((name, change(CONFIG)))
    return Copier(change(CONFIG))

  monkeypatch.setattr(build_session, "load", load)
  monkeypatch.setenv("EMMA_CACHE", str(tmp_path / "cache"))
  monkeypatch.chdir(tmp_path)
  return loaded


def test_flags_and_files(loaded, tmp_path, capsys):
  out = tmp_path / "out"
  code = evaluate.main(
    [
      "--samples",
      "4",
      "--tasks",
      "drawing,editing",
      "--no-held-out",
      "--config.evaluate.batch=3",
      "--config.sample.steps=9",
      "--out",
      str(out),
    ]
  )
  assert code == 0 and loaded[0][0] == "reference"
  assert loaded[0][1]["sample"]["steps"] == 9
  scores = json.loads((out / "scores.json").read_text())
  assert set(scores) >= {
    "drawing",
    "editing",
    "ceiling",
    "settings",
    "step",
    "checkpoint",
    "seconds",
  }
  assert "understanding" not in scores and scores["held_out"] == {}
  assert scores["drawing"]["n"] == 4 and scores["settings"]["batch"] == 3
  assert scores["settings"]["samples"] == 4
  said = capsys.readouterr()
  assert "Text to image" in said.out and str(out / "report.html") in said.out
  assert "copier" in said.err
  lines = predictions.read(out / "predictions.jsonl")
  sets = collections.Counter(line["set"] for line in lines)
  assert sets["drawing"] == sets["editing"] == 4
  assert "<code>predictions.jsonl</code>" in (out / "report.html").read_text()
  EvalSettings.of(loaded[0][1])  # the config itself stays sound


def test_settings_are_asked_before_weights_are_read(
  tmp_path, monkeypatch, capsys
):
  def load(name, change, **_):
    change(CONFIG)
    pytest.fail("the weights would be read now")

  monkeypatch.setattr(build_session, "load", load)
  out = str(tmp_path / "out")
  assert evaluate.main(["--samples", "0", "--out", out]) == Exit.MISTAKE
  assert "samples=0 must be at least 1" in capsys.readouterr().err


def test_samples_are_those_of_every_set(loaded, tmp_path):
  options = ["--tasks", "drawing", "--samples", "3", "--out", "out"]
  assert evaluate.main(options) == 0
  scores = json.loads((tmp_path / "out" / "scores.json").read_text())
  sets = [scores["drawing"], *scores["held_out"].values()]
  assert len(sets) == 3 and all(s["n"] == 3 for s in sets)


def test_a_quick_look_is_small(loaded, tmp_path):
  options = ["--quick", "--tasks", "drawing", "--out", "out"]
  assert evaluate.main(options) == 0
  scores = json.loads((tmp_path / "out" / "scores.json").read_text())
  assert scores["drawing"]["n"] == 16 and scores["settings"]["steps"] == 10
  assert not scores["held_out"] and not scores["ceiling"]
  assert evaluate.main([*options, "--samples", "2"]) == 0
  scores = json.loads((tmp_path / "out" / "scores.json").read_text())
  assert scores["drawing"]["n"] == 2


def test_default_folders(loaded, tmp_path):
  assert evaluate.main(["--no-held-out"]) == 0
  assert (tmp_path / "evaluation" / "report.html").is_file()
  (tmp_path / "run" / "checkpoints").mkdir(parents=True)
  assert evaluate.main(["--no-held-out", "--checkpoint", "run"]) == 0
  assert (tmp_path / "run" / "evaluation" / "scores.json").is_file()


def test_a_folder_in_use_is_left_at_once(loaded, tmp_path, capsys):
  """Before weights are read; scores and predictions are one evaluation's."""
  other = locks.FolderLock(tmp_path / "evaluation", "emma-evaluate")
  assert evaluate.main(["--no-held-out"]) == Exit.IN_USE
  assert "in use by emma-evaluate" in capsys.readouterr().err and not loaded
  assert [p.name for p in other.folder.iterdir()] == [locks.NAME]
  other.release()


@pytest.mark.parametrize(
  "argv, words",
  [
    (["--und", "lost.jsonl"], "no such file"),
    (["--config.data.seed=3"], "only keys of evaluate, sample"),
    (["--config.evaluate.sampels=3"], "Did you mean"),
    (["--tasks", "drawings"], "drawings"),
    (["--samples", "0"], "samples=0"),
  ],
)
def test_mistakes_get_a_line(loaded, capsys, argv, words):
  assert evaluate.main(argv) == 2
  said = capsys.readouterr().err
  assert words in said and "Traceback" not in said


def test_only_how_it_is_scored_and_sampled_can_be_changed(loaded, capsys):
  """By enumeration of the config's sections: all others are the weights'."""
  sections = config_file.load("tiny").keys()
  assert {"model", "data", "train"} <= set(sections)
  for section in [*sections, "nothing"]:
    code = evaluate.main([f"--config.{section}.x=1"])
    assert code == 2
    refused = "the weights decide this" in capsys.readouterr().err
    allowed = ("evaluate", "sample", "mesh")
    assert refused == (section not in allowed), section


def test_a_model_of_files_asks_for_files(loaded, monkeypatch, capsys):
  monkeypatch.setitem(CONFIG, "data", {"sources": {"drawing": "jsonl:x"}})
  assert evaluate.main([]) == 2
  assert "--und" in capsys.readouterr().err


def test_a_broken_file_is_named(loaded, tmp_path, capsys):
  path = tmp_path / "t2i.jsonl"
  path.write_text('{"image": "lost.png", "caption": "x"}\n')
  assert evaluate.main(["--t2i", str(path)]) == 2
  assert "t2i.jsonl:1" in capsys.readouterr().err


def test_help_names_every_flag(capsys, monkeypatch):
  monkeypatch.setattr(sys, "argv", ["emma-evaluate", "--help"])
  with pytest.raises(SystemExit) as ended:
    evaluate.entry()
  text = capsys.readouterr().out
  assert ended.value.code == 0
  for flag in (
    "--checkpoint",
    "--out",
    "--samples",
    "--split",
    "--tasks",
    "--no-held-out",
    "--reference",
    "--und",
    "--t2i",
    "--edit",
    "--dtype",
    "--coordinator",
    "--config.evaluate",
    "--config.mesh",
  ):
    assert flag in text


def test_folders_of_records_are_evaluated_as_files_are(tmp_path):
  """What `emma-train finetune` has held out lies in one."""
  (tmp_path / "dataset.json").write_text("{}")
  parse = evaluate._parser().parse_args
  found = evaluate._changes(parse(["--t2i", str(tmp_path)]))
  assert found["sources"] == {"drawing": f"records:{tmp_path}"}
  (tmp_path / "empty").mkdir()
  with pytest.raises(common.UserError, match="no such file or folder"):
    evaluate._changes(parse(["--und", str(tmp_path / "empty")]))
