"""The same few samples at every look: files, columns, one contact sheet."""

import json

import jax
import numpy as np
from PIL import Image
import pytest

from configs import tiny as tiny_config
from emma_jax.build import sections
from emma_jax.evals import contact_sheet, over_time, run_report, samples
from emma_jax.training.looks import Look
from tests import tiny


class Shown:
  """A run's writer: remembers what it was given."""

  def __init__(self):
    self.notes, self.shown = [], []

  def note(self, text):
    self.notes.append(text)

  def show(self, step, pictures, texts):
    self.shown.append((step, pictures, texts))


class Session:
  """Averaged weights paint white and answer well, live ones do not."""

  def __init__(self, config, params, **options):
    self.good = bool(params["averaged"])

  def ask(self, pictures, turns, *, max_tokens, temperature):
    assert max_tokens == 8 and temperature == 0.0
    assert all(len(questions) == 1 for questions in turns)
    return [["a | b" if self.good else "yes"] for _ in turns]

  def draw(self, prompts, *, size, steps, seed):
    assert steps == 2 and seed == 0
    return [self._picture() for _ in prompts]

  def edit(self, pictures, instructions, *, steps, seed):
    return [self._picture() for _ in instructions]

  def _picture(self):
    return np.full((96, 96, 3), 255 if self.good else 90, np.uint8)


@pytest.fixture(scope="module")
def config() -> dict:
  c = tiny.config()
  c.name = "mine"
  c.data.update(height=96, width=96)
  c.train.update(sample_every=2, sample_count=3, sample_tokens=8)
  c.evaluate.steps = 2
  c.stages = tiny_config.tiny_stages(c.model)
  return sections.plain(c)


def look(step: int, stage: str = "3_quality", **changes) -> Look:
  return Look(
    stage=stage,
    step=step,
    last=False,
    samples=True,
    router_trained=False,
    params=lambda averaged: {"averaged": np.array(averaged)},
    mesh=jax.sharding.Mesh(np.array(jax.devices()[:1]), ("data",)),
    writer=Shown(),
    **changes,
  )


@pytest.fixture(scope="module")
def folder(config, tmp_path_factory):
  """After looks at steps 2 and 4, and the second one's writer."""
  workdir = tmp_path_factory.mktemp("run")
  made = samples.RunSamples(workdir, config, Session)
  made(look(2))
  second = look(4)
  made(second)
  return workdir, second.writer


def test_files_of_both_weights_and_answers_by_prompt(folder):
  workdir, _ = folder
  content = json.loads(
    (workdir / "samples" / "step-000000004" / "samples.json").read_text()
  )
  assert (content["step"], content["stage"]) == (4, "3_quality")
  tasks = [item["task"] for item in content["items"]]
  assert tasks == ["understanding"] * 3 + ["drawing"] * 3 + ["editing"] * 3
  for item in content["items"]:
    assert item["text"]
    live, averaged = (item["made"][w] for w in samples.WEIGHTS)
    if item["task"] == "understanding":
      assert live["answers"] == ["yes"] and len(averaged["answers"]) == 1
      continue
    for one in (live, averaged):
      path = workdir / "samples" / "step-000000004" / one["picture"]
      with Image.open(path) as image:
        assert image.size == (96, 96)
  first = workdir / "samples" / "step-000000002"
  again = (first / "averaged" / "drawing-0.png").read_bytes()
  second = workdir / "samples" / "step-000000004" / "averaged"
  assert (second / "drawing-0.png").read_bytes() == again


def test_writers_get_the_sheet_and_a_table_of_answers(folder):
  ((step, pictures, texts),) = folder[1].shown
  assert step == 4 and pictures["samples"].dtype == np.uint8
  table = texts["samples/understanding"].splitlines()
  assert table[0] == "| question | live | averaged |" and len(table) == 5
  assert all(line.count("a \\| b") == 1 for line in table[2:])


def test_a_stage_is_asked_for_what_it_trains_alone(config, tmp_path):
  made = samples.RunSamples(tmp_path, config, Session)
  made(look(7, "4a_expert"))
  (path,) = tmp_path.glob("samples/*/samples.json")
  items = json.loads(path.read_text())["items"]
  assert {item["task"] for item in items} == {"understanding"}


def test_own_prompts_are_drawn_in_place_of_held_out_ones(config):
  train = config["train"] | {"sample_prompts": ["a cat", "一只猫"]}
  found = samples.chosen(config | {"train": train})
  drawn = [item.text for item in found.items if item.task == "drawing"]
  assert drawn == ["a cat", "一只猫"]
  assert sum(item.task == "editing" for item in found.items) == 3


def test_a_run_without_held_out_records_is_told_why(config, tmp_path):
  sources = {name: "jsonl:none.jsonl" for name in config["data"]["sources"]}
  data = config["data"] | {"sources": sources}
  made = samples.RunSamples(tmp_path, config | {"data": data}, Session)
  one = look(2)
  made(one)
  assert "validate_sources" in one.writer.notes[0]
  assert not (tmp_path / "samples").exists()


def test_the_report_has_a_line_a_prompt_and_a_column_a_look(folder, config):
  workdir, _ = folder
  tables = over_time.tables(workdir)
  assert [t.title for t in tables] == ["Questions", "Text to image", "Edits"]
  for table in tables:
    assert table.heads == ["2", "4"] and len(table.lines) == 6
    assert [line.beside for line in table.lines[:2]] == ["averaged", "live"]
    assert all(len(line.cells) == 2 for line in table.lines)
  report = run_report.RunReport(workdir, config)
  (workdir / "metrics.jsonl").write_text(
    '{"step": 4, "stage": "3_quality", "loss/drawing": 1.0, '
    '"validation/loss/drawing": 0.7, "validation_averaged/loss/drawing": 0.6}\n'
  )
  report.write()
  page = report.path.read_text()
  assert "Samples over time" in page and page.count("data:image/jpeg") == 24
  assert "Held out: Text to image" in page


def test_of_many_looks_a_few_are_shown_first_and_last_among_them(tmp_path):
  for step in range(1, 31):
    item = dict(task="drawing", number=0, text="a", made={})
    item["made"] = {w: {"answers": ["x"]} for w in samples.WEIGHTS}
    path = tmp_path / "samples" / f"step-{step:09d}" / "samples.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(dict(stage="a", step=step, items=[item])))
  (path.parent.parent / "step-000000007" / "samples.json").write_text("{")
  (table,) = over_time.tables(tmp_path)
  steps = list(map(int, table.heads))
  assert len(steps) == over_time.COLUMNS
  assert steps[0] == 1 and steps[-1] == 30
  assert steps == sorted(set(steps))


def test_a_page_that_cannot_be_written_ends_nothing(tmp_path, config, capsys):
  report = run_report.RunReport(tmp_path, config)
  report.path.mkdir()
  report.write()
  assert "No report" in capsys.readouterr().err


def test_a_sheet_has_its_pictures_where_its_head_says():
  red, blue = (
    np.full((64, 64, 3), c, np.uint8) for c in ((255, 0, 0), (0, 0, 255))
  )
  rows = [
    contact_sheet.Row("source", [red], [blue, "an answer " * 30]),
    contact_sheet.Row("一 [bold] & \udcff", [], [red, blue]),
  ]
  made = contact_sheet.sheet(rows, ("live", "averaged"))
  side = contact_sheet.SIDE + 8
  column = lambda n: made[:, 8 + n * side : 8 + n * side + 64]
  is_of = lambda part, color: (part == color).all(-1).any()
  assert is_of(column(1), (255, 0, 0)) and not is_of(column(1), (0, 0, 255))
  assert is_of(column(2), (0, 0, 255)) and is_of(column(2), (255, 0, 0))
  assert is_of(column(3), (0, 0, 255))


def test_samples_that_cannot_be_written_end_nothing(config, tmp_path):
  (tmp_path / "samples").write_text("a file in the folder's place")
  one = look(2)
  samples.RunSamples(tmp_path, config, Session)(one)
  assert "samples of step 2 are lost" in one.writer.notes[0]
