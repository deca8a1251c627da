"""Pictures that training and evaluation share are noticed."""

import json

import numpy as np
from PIL import Image
import pytest

from emma_jax.evals import seen, table
from tests.data import made


def _lines(path, *names: str) -> str:
  path.parent.mkdir(exist_ok=True)
  for name in names:
    value = int(name.removesuffix(".png"))
    pixels = np.random.default_rng(value).integers(0, 256, (8, 8, 3), np.uint8)
    Image.fromarray(pixels).save(path.parent / name)
  rows = [{"image": name, "caption": name} for name in names]
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))
  return f"jsonl:{path}"


@pytest.fixture
def evaluated(tmp_path) -> str:
  return _lines(tmp_path / "val" / "a.jsonl", "1.png", "2.png", "3.png")


def _training(tmp_path, *names: str) -> dict[str, str]:
  return {"drawing": _lines(tmp_path / "train" / "b.jsonl", *names)}


def test_a_copy_is_found_in_another_folder(tmp_path, evaluated):
  found = seen.compare(evaluated, 3, _training(tmp_path, "2.png", "9.png"))
  assert found == seen.Seen(samples=3, shared=1, compared=2, records=2)
  assert not found.unseen and found.words().startswith("1 of 3 samples")


def test_a_copy_is_found_in_records(tmp_path, evaluated):
  picture = (tmp_path / "val" / "3.png").read_bytes()
  stored = made.samples()
  from emma_jax.data.records import schema
  from emma_jax.structs import Drawing

  stored.append(
    schema.Stored(record=Drawing(prompt="x", picture=picture, id="x"))
  )
  folder = made.dataset(tmp_path / "set", stored)
  found = seen.compare(evaluated, 3, {"a": f"records:{folder}"})
  assert found.shared == 1 and found.samples == 3


def test_others_are_unseen(tmp_path, evaluated):
  found = seen.compare(evaluated, 3, _training(tmp_path, "8.png", "9.png"))
  assert found.unseen and found.words() == ""
  assert seen.compare(evaluated, 3, {"a": "world:drawing:train"}).unseen


def test_what_was_not_compared_is_not_called_unseen(
  tmp_path, evaluated, monkeypatch
):
  monkeypatch.setattr(seen, "_RECORDS", 1)
  names = [f"{i}.png" for i in range(10, 13)]
  found = seen.compare(evaluated, 2, _training(tmp_path, *names))
  assert (found.compared, found.records) == (1, 3) and not found.unseen
  assert "1 of 3 training records" in found.words()
  gone = {"a": f"jsonl:{tmp_path / 'gone.jsonl'}"}
  found = seen.compare(evaluated, 3, gone)
  assert not found.unseen and "is not known" in found.words()


def test_the_word_unseen_is_earned():
  entry = {"score": None, "n": 1, "kinds": {}}
  assert table.samples_word({"drawing": entry}) == "unseen samples"
  for unseen in (True, False):
    marked = entry | {"seen": {"unseen": unseen, "note": "" if unseen else "x"}}
    scores = {"drawing": marked, "editing": entry}
    word = table.samples_word(scores)
    assert word == ("unseen samples" if unseen else "samples")
  assert "Text to image: x" in table.notes({"drawing": marked})


def test_the_world_by_its_split():
  training = {"a": "world:drawing:train", "b": "jsonl:x.jsonl"}
  assert seen.drawn_from("train", training)
  assert not seen.drawn_from("test", training)
