"""JSON lines of three formats; what is wrong names file and line."""

import json
from pathlib import Path
import pickle

import numpy as np
from PIL import Image
import pytest

from emma_jax.data.loading import sources
from emma_jax.data.loading.sources import JsonlSource
from emma_jax.data.pictures.images import BadRecord
from emma_jax.structs import STEM_SCIENCE, STEM_UNKNOWN, Drawing, Editing


@pytest.fixture
def folder(tmp_path) -> Path:
  Image.new("RGB", (4, 4), "red").save(tmp_path / "a.png")
  return tmp_path


def _write(folder: Path, *rows) -> str:
  path = folder / "rows.jsonl"
  lines = [r if isinstance(r, str) else json.dumps(r) for r in rows]
  path.write_text("\n".join(lines) + "\n", encoding="utf-8")
  return str(path)


def _talk(*said: str) -> list[dict[str, str]]:
  who = ("human", "gpt")
  return [{"from": who[i % 2], "value": s} for i, s in enumerate(said)]


@pytest.mark.smoke
def test_the_three_formats(folder):
  a = str(folder / "a.png")
  source = JsonlSource(_write(folder, {"image": "a.png", "caption": "é"}))
  assert source.task == "drawing"
  where = f"{source.path}:1"
  assert source[0] == Drawing(prompt="é", picture=a, id=where)
  row = {"id": 5, "source": "a.png", "instruction": "do", "target": "a.png"}
  source = JsonlSource(_write(folder, row))
  assert source[0] == Editing(sources=(a,), instruction="do", target=a, id="5")
  talk = _talk("<image><image>q", "a", "r", "b")
  row = {"id": "x", "images": ["a.png", "a.png"], "conversations": talk}
  source = JsonlSource(_write(folder, row, {**row, "stem": True}))
  assert source[0].pictures == (a, a)
  assert source[0].turns == (("<image><image>q", "a"), ("r", "b"))
  assert source[0].stem == STEM_UNKNOWN
  assert source[1].stem == STEM_SCIENCE


@pytest.mark.parametrize(
  "row, reason",
  [
    ("{broken", "no JSON"),
    ("[1]", "list instead of"),
    ({"image": "a.png"}, "'caption' is missing"),
    ({"image": "a.png", "caption": 3}, "caption is 3"),
    ({"image": "none.png", "caption": ""}, "no such picture 'none.png'"),
    ({"image": "", "caption": ""}, "not a path"),
    ({"image": "a\0b", "caption": ""}, "no such picture"),
  ],
)
def test_broken_lines_name_their_place(folder, row, reason: str):
  good = {"image": "a.png", "caption": "ok"}
  source = JsonlSource(_write(folder, good, "", row, good))
  assert len(source) == 3
  assert source[0].prompt == source[2].prompt == "ok"
  with pytest.raises(BadRecord, match=reason) as e:
    _ = source[1]
  assert e.value.where == f"{source.path}:3"  # the blank line counts


@pytest.mark.parametrize(
  "talk", [[], _talk("q"), _talk("q", "a")[::-1], "talk", [1, 2]]
)
def test_broken_conversations(folder, talk):
  source = JsonlSource(_write(folder, {"conversations": talk}))
  with pytest.raises(BadRecord, match="conversations"):
    _ = source[0]


def test_files_that_do_not_open(folder):
  with pytest.raises(ValueError, match="no lines"):
    JsonlSource(_write(folder, ""))
  with pytest.raises(ValueError, match="none of the formats"):
    JsonlSource(_write(folder, {"text": "a"}))
  with pytest.raises(FileNotFoundError):
    JsonlSource(str(folder / "none.jsonl"))


def test_crlf_bom_and_pickling(folder):
  path = folder / "dos.jsonl"
  row = json.dumps({"image": "a.png", "caption": "c"}).encode()
  path.write_bytes(b"\xef\xbb\xbf" + row + b"\r\n" + row)
  source = pickle.loads(pickle.dumps(JsonlSource(str(path))))
  assert [source[i].prompt for i in range(2)] == ["c", "c"]


def test_specs():
  world = sources.open_source("world:drawing:train:7")
  assert len(world) == 7
  np.testing.assert_array_equal(
    world[3].picture, sources.open_source("world:drawing:train")[3].picture
  )
  for spec in ("drawing", "world:drawing", "jsonl:", "world:a:b:0", "web:x"):
    with pytest.raises(ValueError, match="neither"):
      sources.open_source(spec)
  with pytest.raises(ValueError, match="juggling"):
    sources.open_source("world:juggling:train")


def test_the_shared_examples_open(shared_dir):
  folder = shared_dir / "data" / "emoji"
  if not folder.is_dir():
    pytest.skip(f"{folder} is not there.")
  for name, task in (
    ("und", "understanding"),
    ("t2i", "drawing"),
    ("edit", "editing"),
  ):
    source = sources.open_source(f"jsonl:{folder}/{name}_val.jsonl")
    assert source.task == task
    assert all(source[i].id for i in range(len(source)))


def test_rows_of_python_are_a_source(tmp_path, monkeypatch):
  """A bad row is a BadRecord in its place; pictures are the rows' own."""
  (tmp_path / "rows_of_captions.py").write_text("""
import numpy as np
def rows():
  good = {"image": np.zeros((4, 4, 3), np.uint8), "caption": "red"}
  return [good, {**good, "caption": 5}, {**good, "image": "a.png"}, good]
""")
  monkeypatch.syspath_prepend(tmp_path)
  source = sources.open_source("python:rows_of_captions:rows", "drawing")
  assert len(source) == 4 and source[3].prompt == "red"
  assert source[3].id == source.where(3) == "python:rows_of_captions:rows[3]"
  for i, words in ((1, "caption is 5"), (2, "not a picture's bytes")):
    with pytest.raises(BadRecord, match=words):
      source[i]
  assert sources.is_shuffled("python:rows_of_captions:rows")
  with pytest.raises(ValueError, match="wanted is one for editing"):
    sources.open_source("python:rows_of_captions:rows", "editing")
  with pytest.raises(ValueError, match="neither world"):
    sources.open_source("python:rows_of_captions")
