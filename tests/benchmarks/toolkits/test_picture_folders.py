"""Folders for the originals' scripts: whole, in their layout, byte for byte."""

import functools
import hashlib
import io
import json

from PIL import Image
import pytest

from emma_jax.benchmarks.items import BadItem, Picture
from emma_jax.benchmarks.records import BadRun
from emma_jax.benchmarks.toolkits import picture_folders
from emma_jax.judge.base import Call, Reply
from tests.benchmarks import toy
from tests.benchmarks.toolkits import made

pytestmark = pytest.mark.smoke
CHECKS = [
  {"tag": tag, "include": [{"class": name, "count": 1}], "prompt": f"a {name}"}
  for tag, name in (("single_object", "dog"), ("counting", "cup"))
]


def geneval(tmp_path, **more):
  items = [
    made.item(f"{n:05d}", c["prompt"], meta={"category": c["tag"], "checks": c})
    for n, c in enumerate(CHECKS)
  ]
  drawn = {
    item.id: [toy.png(10 * n + k) for k in range(4)]
    for n, item in enumerate(items)
  }
  source = made.lines("geneval", *items)
  return made.predicted(tmp_path, "geneval", source, drawn | more)


def detector(call: Call) -> Reply:
  """Sees a dog and a cup in half of the pictures, by their bytes."""
  seen = hashlib.sha256(call.pictures[0]).digest()[0] % 2
  box = {"box": [0, 0, 9, 9], "score": 0.95}
  objects = {"dog": [box], "cup": [box]} if seen else {}
  return Reply(text=json.dumps({"objects": objects}))


def test_geneval_and_its_scores(tmp_path):
  one = geneval(tmp_path)
  folder = tmp_path / picture_folders.write(one, str(tmp_path / "out"))
  assert folder == tmp_path / "out" / "geneval_test"
  back = {}
  for n, checks in enumerate(CHECKS):
    place = folder / f"{n:05d}"
    assert json.loads((place / "metadata.jsonl").read_text()) == checks
    files = sorted((place / "samples").iterdir())
    assert [f.name for f in files] == [f"000{k}.png" for k in range(4)]
    back[f"{n:05d}"] = [f.read_bytes() for f in files]
  again = made.predicted(tmp_path / "again", "geneval", one.source, back)
  scores = made.scores(one, detector)
  assert made.scores(again, detector) == scores
  assert set(scores["original"]) == {0.0, 1.0}


def test_a_folder_has_all_pictures_or_is_not_there(tmp_path):
  crashed = made.prediction("00001", status="crashed", error="no")
  bad = geneval(tmp_path)
  bad.predictions["00001", 0] = crashed
  with pytest.raises(BadRun, match=r"1 of 8 .* have no picture: 00001/0 \(cra"):
    picture_folders.write(bad, str(tmp_path / "out"))
  bad = geneval(tmp_path)
  del bad.predictions["00001", 2]
  with pytest.raises(BadRun, match=r"1 of 8 predictions are missing: 00001/2"):
    picture_folders.write(bad, str(tmp_path / "out"))
  bad = geneval(tmp_path)
  picture = bad.predictions["00001", 3].picture
  (tmp_path / "run" / "geneval" / picture).write_bytes(toy.png(99))
  with pytest.raises(BadRun, match="its sha256 differs"):
    picture_folders.write(bad, str(tmp_path / "out"))
  assert not (tmp_path / "out" / "geneval_test").exists()
  picture_folders.write(geneval(tmp_path), str(tmp_path / "out"))
  with pytest.raises(BadRun, match="is not empty"):
    picture_folders.write(geneval(tmp_path), str(tmp_path / "out"))


def test_dpg_is_a_grid_of_two_by_two(tmp_path):
  drawn = [toy.png(n) for n in range(4)]
  source = made.lines("dpg", made.item("COCO_12", "a dog"))
  one = made.predicted(tmp_path, "dpg", source, {"COCO_12": drawn})
  folder = picture_folders.write(one, str(tmp_path / "out"))
  with Image.open(f"{folder}/COCO_12.png") as grid:
    assert grid.size == (128, 128)
    corners = [(0, 0), (64, 0), (0, 64), (64, 64)]  # as the script cuts them
    for (x, y), data in zip(corners, drawn):
      with Image.open(io.BytesIO(data)) as tile:
        cut = grid.crop((x, y, x + 64, y + 64))
        assert cut.tobytes() == tile.tobytes()


@pytest.mark.parametrize(
  "drawn, message",
  [
    ([toy.png(n) for n in range(3)], "has 3 pictures; DPG-Bench takes 4"),
    ([toy.png(0, 32, 64)] * 4, r"squares of one size; there are 64 x 32"),
    ([toy.png(0, 32, 32), *[toy.png(0)] * 3], r"32 x 32 .*64 x 64"),
  ],
)
def test_what_dpg_would_cut_wrongly_is_refused(tmp_path, drawn, message):
  source = made.lines("dpg", made.item("a"))
  one = made.predicted(
    tmp_path, "dpg", source, {"a": drawn}, repeats=len(drawn)
  )
  with pytest.raises(BadRun, match=message):
    picture_folders.write(one, str(tmp_path / "out"))


def test_edits_lie_beside_what_was_edited(tmp_path):
  raw, shown = (
    Picture("row", functools.partial(toy.png, n, 32, 48)) for n in (1, 2)
  )
  item = made.item(
    "ab12",
    "make it red",
    pictures=(raw, shown),
    meta={"category": "color_alter", "instruction_language": "en"},
  )
  source = made.lines("gedit", item)
  one = made.predicted(
    tmp_path, "gedit", source, {"ab12": [toy.png(3, 32, 48)]}, split="en"
  )
  folder = tmp_path / picture_folders.write(one, str(tmp_path / "out"))
  place = folder / "fullset" / "color_alter" / "en"
  assert (place / "ab12.png").read_bytes() == toy.png(3, 32, 48)
  with Image.open(place / "ab12_SRCIMG.png") as found:
    with Image.open(io.BytesIO(shown.bytes())) as expected:
      assert found.tobytes() == expected.tobytes()


def test_a_name_that_leads_elsewhere_is_refused(tmp_path):
  source = made.lines("imgedit", made.item("../../x", meta={"category": "add"}))
  one = made.predicted(tmp_path, "imgedit", source, {"../../x": [toy.png(0)]})
  with pytest.raises(BadItem, match="cannot name a file"):
    picture_folders.write(one, str(tmp_path / "out"))
  source = made.lines("imgedit", made.item("1082", meta={"category": "add"}))
  one = made.predicted(tmp_path, "imgedit", source, {"1082": [toy.png(0)]})
  folder = picture_folders.write(one, str(tmp_path / "out"))
  with open(f"{folder}/1082.png", "rb") as file:
    assert file.read() == toy.png(0)
