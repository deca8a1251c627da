"""A row becomes a record: what of it counts, and what the recipe adds."""

import dataclasses
import json
import zipfile

import pytest

from emma_jax.data.ingest import job, part
from emma_jax.data.pictures.images import BadRecord
from emma_jax.data.text.tokenizer import TinyTokenizer
from tests.data import made

PICTURE = made.noise()
MIXED = [
  {"file_name": "a.png", "text": "red", "question": "", "answer": ""},
  {"file_name": "a.png", "text": "", "question": "what?", "answer": "a star"},
  {"file_name": "", "question": "2+2?", "answer": "4"},
  {"source": "a.png", "instruction": "turn", "target": "a.png"},
  {"file_name": "a.png", "text": None, "answer": "no question"},
]


def stored(recipe_weight: float, **row):
  recipe = part.Recipe(
    form="captions", tokenizer=TinyTokenizer(), weight=recipe_weight
  )
  row = {"id": "a", "caption": "a red star", "image": PICTURE} | row
  found, sizes = part.stored_of(row, recipe, "set.jsonl:1", "set.jsonl")
  assert len(sizes) == 1
  return found


def test_a_rows_own_weight_wins():
  assert stored(2.0).weight == 2.0
  assert stored(2.0, weight=0.5).weight == 0.5
  assert stored(2.0, weight=0.0).weight == 0.0
  assert stored(2.0, weight=1.0).weight == 1.0


@pytest.mark.smoke
@pytest.mark.parametrize("first", range(4))
def test_rows_of_several_formats_in_one_input(tmp_path, first):
  """Whichever comes first, each is what it says; empty cells say nothing."""
  (tmp_path / "a.png").write_bytes(PICTURE)
  lines = [MIXED[first], *MIXED[:first], *MIXED[first + 1 :]]
  path = tmp_path / "x.jsonl"
  path.write_text("".join(json.dumps(line) + "\n" for line in lines))
  recipe = part.Recipe(form="", tokenizer=TinyTokenizer())
  run = lambda out, recipe: job.run(
    job.Job(
      inputs=[str(path)],
      out=str(tmp_path / out),
      maker=recipe,
      workers=0,
      max_rejected=1.0,
    )
  )
  card = run("out", recipe)
  assert card.tasks == {
    **{"drawing": 1, "understanding": 1, "text": 1, "editing": 1}
  }
  assert card.rejected == 1
  # Who names the format wants no other.
  card = run("one", dataclasses.replace(recipe, form="captions"))
  assert card.tasks == {"drawing": 1} and card.rejected == 4


@pytest.mark.parametrize(
  "value, told",
  [
    ("https://a.org/a.png", "is an address, and nothing is downloaded"),
    ("data:image/png;base64,iVBORw0KGgo=", "is base64"),
    ("iVBORw0KGgo" * 10_000, "is base64"),
    ("lost-one/" * 10_000, "no such picture 'lost-"),
  ],
)
def test_what_is_no_path_is_told_in_a_line(tmp_path, value, told):
  recipe = part.Recipe(form="captions", tokenizer=TinyTokenizer())
  row = {"image": value, "caption": "red"}
  with pytest.raises(BadRecord, match=told) as caught:
    part.stored_of(row, recipe, "x", str(tmp_path))
  assert len(caught.value.reason) < 400


def test_paths_of_windows_are_found_and_leave_no_folder(tmp_path):
  folder = tmp_path / "in"
  (folder / "s").mkdir(parents=True)
  (folder / "s" / "a.png").write_bytes(PICTURE)
  (tmp_path / "b.png").write_bytes(PICTURE)
  recipe = part.Recipe(form="captions", tokenizer=TinyTokenizer())
  row = {"image": r"s\a.png", "caption": "red"}
  found, _ = part.stored_of(row, recipe, "x", str(folder))
  assert found.record.picture == PICTURE
  with pytest.raises(BadRecord, match="is outside of"):
    row["image"] = r"..\b.png"
    part.stored_of(row, recipe, "x", str(folder))


def test_pictures_in_a_zip_beside_the_table(tmp_path):
  """As LLaVA's are published: a JSON, and images.zip."""
  with zipfile.ZipFile(tmp_path / "images.zip", "w") as out:
    out.writestr("s/a.png", PICTURE)
  recipe = part.Recipe(
    form="captions",
    tokenizer=TinyTokenizer(),
    images_dir=str(tmp_path / "images.zip"),
  )
  row = {"image": "s/a.png", "caption": "red"}
  found, _ = part.stored_of(row, recipe, "x", str(tmp_path / "a.json"))
  assert found.record.picture == PICTURE
  for name, told in (("b.png", "no such picture"), ("../a", "is outside of")):
    with pytest.raises(BadRecord, match=told):
      row["image"] = name
      part.stored_of(row, recipe, "x", str(tmp_path / "a.json"))


def test_a_weight_that_is_no_number_is_refused():
  with pytest.raises(BadRecord, match="weight is '3', not a number"):
    stored(1.0, weight="3")
