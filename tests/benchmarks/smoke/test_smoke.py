"""The shipped rehearsal: its files, and its way through judges and scores."""

import io
import json
import os
from pathlib import Path
import shutil

import numpy as np
from PIL import Image, ImageOps
import pytest

from emma_jax.benchmarks import asked, records, runs, stages, suite
from emma_jax.benchmarks.data import folder as data
from emma_jax.benchmarks.items import Item
from emma_jax.benchmarks.records import Appender, Prediction
from emma_jax.benchmarks.settings import BadSettings
from emma_jax.benchmarks.smoke import __main__ as smoke
from emma_jax.benchmarks.smoke import replies
from emma_jax.build import config_file
from tests.benchmarks import toy

pytestmark = pytest.mark.smoke
FILES = Path(data.located(smoke.FILES))
SIXTEEN = (
  *("chartqa", "docvqa", "infovqa", "textvqa", "ocrbench", "mmbench", "mmmu"),
  *("mathvista", "ai2d", "mmstar", "mmvet"),
  *("geneval", "dpg", "gedit", "imgedit", "emu_edit"),
)


@pytest.fixture(scope="module")
def config() -> dict:
  return config_file.load("benchmarks/smoke").to_dict()


@pytest.fixture(scope="module")
def splits(config) -> list[tuple[str, str]]:
  """(set, split) of all sections."""
  return [(n.partition(":")[0], s["split"]) for n, s in config["sets"].items()]


def open_set(folder: Path, name: str, split: str) -> data.Source:
  inner = folder / "cn" if split == "cn" else folder
  return data.open_set(str(inner), name, split)


def items(folder: Path, name: str, split: str) -> list[Item]:
  source = open_set(folder, name, split)
  return [source[i] for i in range(len(source))]


def pixels(picture: bytes) -> np.ndarray:
  with Image.open(io.BytesIO(picture)) as opened:
    upright = ImageOps.exif_transpose(opened)
    return np.asarray(upright.convert("RGB")).astype(int)


# -------------------------------------------------------------------- files


def test_all_sixteen_and_the_newer_sets_are_there(splits):
  names = {name for name, _ in splits}
  assert names == {*(*SIXTEEN, "geneval2", "wise_verified", "longtext", "rise")}
  rewritten_and_chinese = {("geneval", "long"), ("gedit", "cn")}
  assert rewritten_and_chinese | {("longtext", "zh")} <= set(splits)
  shapes = {open_set(FILES, *one).format for one in splits}
  assert shapes == {"tsv", "lines", "repository"}


def test_they_are_small():
  files = [p for p in FILES.rglob("*") if p.is_file()]
  assert sum(p.stat().st_size for p in files) < 100_000
  assert max(p.stat().st_size for p in files) < 30_000


def test_the_files_are_those_that_the_script_makes(tmp_path, splits):
  made = tmp_path / "made"
  smoke.make(str(made))
  smoke.make(str(made))  # over those of before

  def names(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))

  assert names(made) == names(FILES)
  for name in names(made):
    if name.endswith((".json", ".jsonl", ".csv")):
      assert (made / name).read_bytes() == (FILES / name).read_bytes(), name
  for one in splits:
    for new, old in zip(items(made, *one), items(FILES, *one), strict=True):
      # Groups are hashes of pictures' files, which another Pillow packs anew.
      for field in ("id", "question", "options", "answers", "meta"):
        assert getattr(new, field) == getattr(old, field)
      for a, b in zip(new.pictures, old.pictures, strict=True):
        left, right = pixels(a.bytes()), pixels(b.bytes())
        assert left.shape == right.shape
        assert np.abs(left - right).mean() < 2


def test_the_script_deletes_nothing_of_others(tmp_path):
  (tmp_path / "mine.txt").write_text("mine")
  with pytest.raises(ValueError, match="other files"):
    smoke.make(str(tmp_path))
  assert (tmp_path / "mine.txt").read_text() == "mine"


# -------------------------------------------------------------------- items


def test_every_item_can_be_asked_by_every_template(splits):
  for name, split in splits:
    benchmark = suite.find(name)
    for item in items(FILES, name, split):
      for template, prompt in benchmark.prompts.items():
        request = prompt(item)
        assert request.text.strip(), (name, item.id, template)
        assert bool(request.pictures) == (benchmark.task != "draw")
      for picture in item.pictures:
        height, width, _ = pixels(picture.bytes()).shape
        assert 24 <= min(height, width) <= max(height, width) <= 160


def test_questions_differ_as_those_of_the_sets_do():
  rolls = [item.group for item in items(FILES, "mmbench", "")]
  assert rolls == ["7"] * 3 + ["8"] * 2
  first, *others = items(FILES, "mmmu", "")
  assert len(first.pictures) == 2 and "<image 2>" in first.question
  assert [bool(item.options) for item in others] == [False, True, False]
  types = {i.meta["answer_type"] for i in items(FILES, "mathvista", "")}
  assert types == {"text", "integer", "float", "list"}
  tags = [item.meta["category"] for item in items(FILES, "geneval", "long")]
  assert len(set(tags)) == 6
  assert (
    len({i.meta["category"] for i in items(FILES, "wise_verified", "")}) == 6
  )
  assert len({i.meta["category"] for i in items(FILES, "rise", "")}) == 4


def test_every_reply_is_to_a_call_of_an_item(splits):
  known = {
    f"{name}/{item.id}/{repeat}"
    for name, split in splits
    for item in items(FILES, name, split)
    for repeat in range(suite.find(name).repeats)
  }
  calls = [
    json.loads(line)["call"]
    for line in (FILES / "judge.jsonl").read_text().splitlines()
  ]
  assert len(set(calls)) == len(calls) > 100
  asked = {"/".join(call.split("/")[:3]) for call in calls}
  assert asked <= known
  judged = {name for name, _ in splits if suite.find(name).judge}
  assert {call.partition("/")[0] for call in calls} == judged
  assert replies.REFUSED in calls and replies.UNREADABLE in calls
  assert replies.ABSENT not in calls
  assert replies.ABSENT.rpartition("/")[0] in known


# ------------------------------------------------------------------- stages


def predict(run: runs.Run, sources) -> None:
  """In place of a model: noise, and answers with a letter and without one."""
  decides = {"weights": "none"}
  for one in run.sets:
    place, source = run.place(one), sources[one.name]
    with Appender(place.part(0)) as out:
      place.note(one, decides, source)
      for n in range(len(source)):
        for repeat in range(one.repeats):
          out.add([prediction(place.path, one, source[n], n, repeat)])


def prediction(folder: str, one, item: Item, n: int, repeat: int) -> Prediction:
  made_with = records.digest({"weights": "none"})
  line = dict(id=item.id, repeat=repeat, settings=made_with, prompt="")
  line["key"] = asked.of(item, one).key(made_with, item.id, repeat)
  if one.benchmark.task == "ask":
    return Prediction(**line, text="A" if n % 2 else "a bird, it seems")
  drawn = toy.png(100 * n + repeat, 96, 96)
  path = f"pictures/{n}-{repeat}.png"
  os.makedirs(os.path.join(folder, "pictures"), exist_ok=True)
  Path(folder, path).write_bytes(drawn)
  digest = records.hashlib.sha256(drawn).hexdigest()
  return Prediction(**line, picture=path, sha256=digest)


@pytest.fixture(scope="module")
def results(config, tmp_path_factory) -> dict[str, dict]:
  """Name -> the results of a set; "table" -> the lines that are printed."""
  from emma_jax.benchmarks import tables

  out = tmp_path_factory.mktemp("out")
  # Another folder of data plays no part: the config names its own.
  run = runs.make_run(config, str(out / "run"), data="/not/there")
  sources = runs.open_sources(run)
  runs.begin(run, {})
  predict(run, sources)
  stages.judge(run, sources, stop=lambda: False)
  path = stages.score(run, sources)
  content = json.loads(Path(path).read_text())
  assert tables.show(path) == 0  # all have a score
  return {one["name"]: one for one in content["sets"]} | {
    "table": {"lines": list(tables.lines(content))}
  }


def test_every_set_has_a_score_that_no_comparison_takes(config, results):
  for name in config["sets"]:
    one = results[name]
    assert one["data"]["rehearsal"]
    assert all(number["partial"] for number in one["numbers"])
    headline = next(x for x in one["numbers"] if x["impl"] == one["impl"])
    assert headline["score"] is not None, name
  last = results["table"]["lines"][-1]
  assert "rehearsal" in last and "mean nothing" in last


def test_failures_are_those_that_are_planted(config, results):
  def failures(name: str) -> dict[str, dict[str, int]]:
    return {x["impl"]: x["failures"] for x in results[name]["numbers"]}

  assert failures("gedit")["step1x"] == {"judge:refused": 1}
  assert failures("imgedit")["original"] == {"judge:unparsable": 1}
  assert failures("longtext")["original"] == {"judge:absent": 1}
  # Judges whose texts are the user's to give are not asked.
  assert failures("rise") == {
    "own": {},
    "new": {"judge:absent": 4},
    "old": {"judge:absent": 4},
  }
  assert failures("wise_verified") == {
    "own": {},
    "original": {"judge:absent": 6},
  }
  for name in set(config["sets"]) - {"gedit", "imgedit", "longtext"}:
    one = results[name]
    assert failures(name)[one["impl"]] == {}, name
    assert (
      "rehearsal" in one["judge"]["answered_as"] or not one["judge"]["name"]
    )


def test_without_its_mark_the_same_folder_is_not_enough(config, tmp_path):
  shutil.copytree(FILES, tmp_path / "data")
  marked = data.inventory(str(tmp_path / "data"), [("chartqa", "")])
  assert [entry.status for entry in marked] == ["rehearsal"]
  os.remove(tmp_path / "data" / data.REHEARSAL)
  section = config["sets"]["chartqa"] | {"data": str(tmp_path / "data")}
  changed = config | {"sets": {"chartqa": section}}
  run = runs.make_run(changed, str(tmp_path / "out"))
  with pytest.raises(BadSettings, match="4 rows of 2,500"):
    runs.open_sources(run)
