"""Every answer and picture of an evaluation is on the disk, whole or not."""

import hashlib

import numpy as np
from PIL import Image
import pytest

from emma_jax.evals import predictions
from emma_jax.evals.outcomes import Outcome
from emma_jax.structs import Drawing, Editing, Understanding


def picture(seed: int) -> np.ndarray:
  rng = np.random.default_rng(seed)
  return rng.integers(0, 256, (8, 12, 3), dtype=np.uint8)


def outcomes(drawn: int = 3) -> dict[str, list[Outcome]]:
  asked = Understanding(
    id="a\u2028b",
    pictures=(picture(0),),
    turns=(("Red?", "yes"), ("Farbe \u2029?", "rot")),
  )
  edit = Editing(id="e", sources=(picture(1),), instruction="make it blue")
  return {
    "understanding": [
      Outcome(
        record=asked,
        marks=(("colour", True), ("colour", np.bool_(False))),
        answers=("yes", "blau\n"),
      )
    ],
    "drawing": [
      Outcome(
        record=Drawing(id=f"d{i}", prompt=f"{i} dots"),
        marks=(("counting", None),),
        picture=picture(10 + i),
      )
      for i in range(drawn)
    ],
    "editing": [
      Outcome(record=edit, marks=(("colour", True),), picture=picture(2))
    ],
  }


@pytest.mark.smoke
def test_lines_say_what_came_and_name_their_pictures(tmp_path):
  done = outcomes()
  lines = predictions.read(predictions.write(tmp_path, done))
  assert [(x["set"], x["index"], x["id"]) for x in lines] == [
    ("understanding", 0, "a\u2028b"),
    *(("drawing", i, f"d{i}") for i in range(3)),
    ("editing", 0, "e"),
  ]
  assert lines[0]["turns"] == [
    {"question": "Red?", "answer": "yes", "truth": "yes"},
    {"question": "Farbe \u2029?", "answer": "blau\n", "truth": "rot"},
  ]
  assert lines[0]["marks"][1] == {"kind": "colour", "right": False}
  assert (
    lines[1]["prompt"] == "0 dots" and lines[1]["marks"][0]["right"] is None
  )
  assert lines[4]["instruction"] == "make it blue"
  drawn = [o.picture for o in (*done["drawing"], *done["editing"])]
  for line, made in zip(lines[1:], drawn, strict=True):
    data = (tmp_path / line["picture"]).read_bytes()
    assert hashlib.sha256(data).hexdigest() == line["sha256"]
    with Image.open(tmp_path / line["picture"]) as image:
      np.testing.assert_array_equal(np.asarray(image), made)


def test_a_later_evaluation_takes_the_place_of_an_earlier_one(tmp_path):
  predictions.write(tmp_path, outcomes(drawn=5))
  lines = predictions.read(predictions.write(tmp_path, outcomes(drawn=2)))
  named = {x["picture"] for x in lines if "picture" in x}
  there = {f"pictures/{p.name}" for p in (tmp_path / "pictures").iterdir()}
  assert named == there and len(named) == 3


def test_a_kill_leaves_the_predictions_before(tmp_path, monkeypatch):
  """Old lines name old pictures until the new ones are complete."""
  path = predictions.write(tmp_path, outcomes())
  before = predictions.read(path)
  changed = outcomes()
  for outcome in changed["drawing"]:
    outcome.picture[:] = 255 - outcome.picture

  def killed(*_):
    raise KeyboardInterrupt

  monkeypatch.setattr(predictions.files, "write_text", killed)
  with pytest.raises(KeyboardInterrupt):
    predictions.write(tmp_path, changed)
  assert predictions.read(path) == before
  for line in before[1:]:
    data = (tmp_path / line["picture"]).read_bytes()
    assert hashlib.sha256(data).hexdigest() == line["sha256"]
