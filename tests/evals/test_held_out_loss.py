"""Losses of own records: of the weights, whatever the batch they are in."""

import numpy as np
import pytest

from emma_jax.build import session as build_session
from emma_jax.data.transforms import Text
from emma_jax.evals import files, held_out_loss, table
from emma_jax.evals.outcomes import Outcome
from emma_jax.structs import Drawing, Editing, Understanding
from tests import tiny


@pytest.fixture(scope="module")
def session():
  config = tiny.config()
  config.stages = {}
  return build_session.session(config, tiny.params(), "tiny", 3)


def _records(task: str, count: int) -> list:
  rng = np.random.default_rng(0)
  pictures = [rng.integers(0, 256, (40, 70, 3), np.uint8) for _ in range(count)]
  if task == "understanding":
    return [
      Understanding(pictures=(p,), turns=(("what?", "red " * (i + 1)),), id="u")
      for i, p in enumerate(pictures)
    ]
  if task == "drawing":
    return [
      Drawing(prompt="red " * (i + 1), picture=p, id="d")
      for i, p in enumerate(pictures)
    ]
  return [
    Editing(sources=(p,), instruction="red", target=p[::-1], id="e")
    for p in pictures
  ]


@pytest.mark.parametrize("task", ["understanding", "drawing"])
def test_each_record_counts_once_and_bins_are_the_whole(session, task):
  """Of three records in batches of two: one row stays empty."""
  found = held_out_loss.measure(session, _records(task, 3), task, batch=2)
  if task == "understanding":
    assert set(found) == {"token accuracy", "token loss"}
    assert 0 <= found["token accuracy"]["value"] <= 1
    to_sample = held_out_loss._to_sample(session.config)
    learned = [
      len(part.tokens)
      for record in _records(task, 3)
      for part in to_sample(record).parts
      if isinstance(part, Text) and part.loss
    ]
    assert found["token loss"]["n"] == sum(learned) > 3
    assert found["token loss"]["value"] > 0
    return
  bins = [v for k, v in found.items() if k.startswith("velocity ")]
  count = sum(x["n"] for x in bins)
  assert count == held_out_loss.DRAWS * found["velocity"]["n"] == 12
  total = sum(x["value"] * x["n"] for x in bins)
  assert total / count == pytest.approx(found["velocity"]["value"], rel=1e-4)


@pytest.mark.smoke
def test_every_measure_has_a_value_or_says_why_not():
  """Of a task of files nothing in the table is left open."""
  measures = {
    "why": files.WHY["drawing"],
    "velocity": {"value": 0.5, "n": 3},
    "nearest training picture": {"why": "there is none"},
  }
  entry = {"score": None, "n": 3, "kinds": {}, "measures": measures}
  scores = {"drawing": entry, "checkpoint": "x", "step": 1}
  lines = "\n".join(table.notes(scores))
  assert "velocity: 0.5 (n = 3)" in lines
  assert "nearest training picture: not measured, there is none" in lines
  grid = table.measures(scores)
  cells = [list(column.cells) for column in grid.columns]
  for name, value, _, about in zip(*cells):
    assert value or about, name
  assert "no exact score for real pictures" in str(
    list(table.table(scores).columns[0].cells)
  )
  assert table.measures({"drawing": entry | {"measures": measures}})
  del entry["measures"]
  assert table.measures(scores) is None


def test_files_are_measured_with_ceiling_and_nearest(session, monkeypatch):
  """What the autoencoder makes of the pictures, and of what none is, why."""
  monkeypatch.setattr(held_out_loss, "measure", lambda *_: {})
  records = _records("editing", 2)
  done = [
    Outcome(record=r, marks=(("editing", None),), picture=r.target)
    for r in records
  ]
  found = files.measured(session, done, "editing", batch=2)
  ceiling = found["autoencoder's ceiling"]
  assert ceiling["n"] == 2 and 0 < ceiling["value"] < 60
  assert "world" in found["nearest training picture"]["why"]
  assert "no exact score" in found["why"]
