"""Sets as their users have them are found, counted and read; what is missing is
said with what helps. The files are small ones of each real shape."""

import base64
import contextlib
import json
import pathlib

import pytest

from emma_jax.benchmarks.data import folder, hub_rows, sets
from emma_jax.benchmarks.items import BadItem, Missing
from tests.benchmarks.data.test_tables import write
from tests.data import made

PNG = made.noise(8, 8)
TEXT = base64.b64encode(PNG).decode()
OTHER = base64.b64encode(made.picture("blue")).decode()


def tsv(root: pathlib.Path, name: str, *lines) -> None:
  write(root / f"{name}.tsv", lines)


def test_mmbench_of_vlmevalkit(tmp_path):
  """Circular rows share a picture and a group; "None" is an option."""
  head = ("index", "image", "question", "hint", "A", "B", "C", "answer")
  tsv(
    tmp_path,
    "MMBench_DEV_EN_V11",
    head,
    ("241", TEXT, "which?", "", "None", "NA", "red", "A"),
    ("1000241", "241", "which?", "look", "NA", "red", "None", "C"),
    ("7", OTHER, "is it?", "", "yes", "no", "", "B"),
  )
  found = folder.open_set(str(tmp_path), "mmbench")
  first, roll, last = (found[i] for i in range(3))
  assert (found.format, found.split, len(found)) == ("tsv", "dev_en_v11", 3)
  assert first.options == {"A": "None", "B": "NA", "C": "red"}
  assert first.group == roll.group == "241" != last.group
  assert roll.pictures[0].bytes() == first.pictures[0].bytes() == PNG
  assert last.options == {"A": "yes", "B": "no"} and last.answers == ("B",)
  assert roll.meta["hint"] == "look"


def test_pages_are_groups_of_their_questions(tmp_path):
  head = ("index", "image", "question", "answer")
  tsv(
    tmp_path / "..",  # LMUData: files side by side
    "DocVQA_VAL",
    head,
    ("0", TEXT, "a?", "['x', \"y's\"]"),
    ("1", "0", "b?", "['z']"),
    ("2", OTHER, "c?", "['z']"),
  )
  found = folder.open_set(str(tmp_path / ".."), "docvqa")
  groups = [found[i].group for i in range(3)]
  assert groups[0] == groups[1] != groups[2]
  assert found[0].answers == ("x", "y's")


def test_questions_about_one_picture_are_a_group(tmp_path):
  """AI2D has three for each diagram: they are not independent."""
  head = ("index", "image", "question", "A", "B", "answer")
  tsv(
    tmp_path,
    "AI2D_TEST",
    head,
    ("0", TEXT, "a?", "x", "y", "A"),
    ("1", "0", "b?", "x", "y", "B"),
    ("2", OTHER, "c?", "x", "y", "B"),
    ("3", "", "d?", "x", "y", "B"),
    ("4", "", "e?", "x", "y", "B"),
  )
  found = folder.open_set(str(tmp_path), "ai2d")
  groups = [found[i].group for i in range(5)]
  assert groups[0] == groups[1] and len(set(groups)) == 4


def test_several_pictures_and_a_split_of_two_in_one_file(tmp_path):
  head = ("index", "image", "question", "A", "B", "answer", "split")
  tsv(
    tmp_path,
    "MMMU_DEV_VAL",
    head,
    ("d_1", TEXT, "<image 1>?", "x", "y", "A", "dev"),
    (
      "v_1",
      repr([TEXT, OTHER]),
      "<image 1><image 2>",
      "x",
      "y",
      "B",
      "validation",
    ),
  )
  (item,) = folder.open_set(str(tmp_path), "mmmu").items
  assert item.id == "v_1" and len(item.pictures) == 2
  assert item.pictures[1].bytes() == base64.b64decode(OTHER)
  assert [
    i.id for i in folder.open_set(str(tmp_path), "mmmu", "dev").items
  ] == ["d_1"]


@pytest.mark.parametrize(
  "lines, message",
  [
    ([("1", TEXT, "q", "x", "A"), ("1", TEXT, "q", "x", "A")],
     r"line 3: the index '1' is also that of .*line 2"),
    ([("1", "9", "q", "x", "A")], "that of row '9', which the file does not"),
    ([("1", "<html>no</html>" * 9, "q", "x", "A")], "page of HTML stands"),
    ([("1", "!" * 99, "q", "x", "A")], "the picture is no base64"),
    ([("1", TEXT, "q", "x", "D")], "answer is 'D', but the options are A"),
  ],
)  # fmt: skip
def test_damaged_rows_are_told(tmp_path, lines, message):
  head = ("index", "image", "question", "A", "answer")
  tsv(tmp_path, "AI2D_TEST", head, *lines)
  with pytest.raises(BadItem, match=message):
    item = folder.open_set(str(tmp_path), "ai2d")[0]
    item.pictures[0].bytes()


def hub(path: pathlib.Path, name: str, table: list[dict]) -> None:
  pa = pytest.importorskip("pyarrow")
  import pyarrow.parquet as pq

  path.mkdir(parents=True, exist_ok=True)
  pq.write_table(pa.Table.from_pylist(table), path / name)


IMAGE = {"bytes": PNG, "path": None}
HUB = {
  "chartqa": dict(type="human_test", question="q", answer="7", image=IMAGE),
  "docvqa": dict(
    questionId="5", question="q", image=IMAGE, docId=3, answers=["a", "b"]
  ),
  "infovqa": dict(questionId="5", question="q", image=IMAGE, answers=["a"]),
  "textvqa": dict(
    question_id=5, image_id="i", question="q", image=IMAGE, answers=["a"] * 10
  ),
  "ocrbench": dict(
    dataset="d", question="q", question_type="t", answer=["a"], image=IMAGE
  ),
  "mmbench": dict(
    index=1000005, question="q", hint="nan", answer="B", A="x", B="None",
    C="nan", D="nan", category="c", image=IMAGE, **{"L2-category": "l"},
  ),
  "mmmu": dict(
    id="v_1", question="<image 1>", options="['x', 'None']", answer="B",
    question_type="multiple-choice", image_1=IMAGE, image_2=None,
  ),
  "mathvista": dict(
    pid="1", question="q", image="images/1.jpg", decoded_image=IMAGE,
    choices=["x", "y"], answer="x", question_type="multi_choice",
    answer_type="text", metadata={"task": "t"},
  ),
  "ai2d": dict(question="q", options=["x", "y", "z"], answer="2", image=IMAGE),
  "mmstar": dict(
    index=5, question="q", image=IMAGE, answer="C", category="c",
    l2_category="l",
  ),
  "mmvet": dict(
    question_id="v1_0", image=IMAGE, question="q", answer="a<OR>b",
    capability="ocr,math",
  ),
  "gedit": dict(
    key="k", task_type="style", instruction="do", instruction_language="en",
    input_image=IMAGE,
  ),
  "emu_edit": dict(
    idx=3, hash="h", instruction="do", task="add", image=IMAGE, split="test"
  ),
}  # fmt: skip


@pytest.mark.parametrize("name", hub_rows.HUB_SETS)
def test_every_set_of_the_hub_is_read(tmp_path, name):
  of = sets.SETS[name]
  part = next((s for s in of.splits if of.splits[s].split), of.default)
  split = of.splits[part]
  place = tmp_path / name / (split.config or "data")
  hub(place, f"{split.split or 'test'}-00000-of-00001.parquet", [HUB[name]])
  (item,) = folder.open_set(str(tmp_path), name, part).items
  assert item.pictures[0].bytes() == PNG and item.question
  want = {
    "mmbench": dict(
      id="1000005", group="5", options={"A": "x", "B": "None"}, answers=("B",)
    ),
    "ai2d": dict(answers=("C",), options={"A": "x", "B": "y", "C": "z"}),
    "mmmu": dict(options={"A": "x", "B": "None"}, answers=("B",)),
    "docvqa": dict(id="5", group="3", answers=("a", "b")),
    "textvqa": dict(group="i", answers=("a",) * 10),
    "mathvista": dict(answers=("x",), options={"A": "x", "B": "y"}),
    "mmvet": dict(id="v1_0", answers=("a<OR>b",)),
  }.get(name, {})
  assert {k: getattr(item, k) for k in want} == want


ODD = (None, "", "x", 3, -1, 2.5, True, [], ["x", None], {}, {"x": 1})


@pytest.mark.parametrize("name", hub_rows.HUB_SETS)
def test_no_odd_value_of_a_row_is_a_bug_of_ours(name):
  """By enumeration: each value is an item's, or told with its file."""
  of = sets.SETS[name]
  row = HUB[name]
  rows = [row | {key: odd} for key in row for odd in ODD]
  rows += [{k: v for k, v in row.items() if k != key} for key in row]
  part = next((s for s in of.splits if of.splits[s].split), of.default)
  for odd in rows:
    with contextlib.suppress(BadItem):
      items = hub_rows.HubRows(_Rows([odd]), name, part)
      source = folder.Source(
        name=name,
        split=part,
        format="parquet",
        files=("a.parquet",),
        items=items,
      )
      for i in range(len(source.groups)):
        [shown.bytes() for shown in source[i].pictures]


class _Rows:
  """A table in memory."""

  def __init__(self, rows: list[dict]):
    self.path, self._rows = "a.parquet", rows
    self.columns = tuple(rows[0])

  def __len__(self) -> int:
    return len(self._rows)

  def __getitem__(self, index: int) -> dict:
    return self._rows[index]

  def column(self, name: str) -> list:
    return [row.get(name) for row in self._rows]

  def where(self, index: int) -> str:
    return f"a.parquet[{index}]"


@pytest.mark.parametrize("index", ["1.0", "a1", ""])
def test_an_index_that_is_no_number_is_told_with_its_line(tmp_path, index):
  head = ("index", "image", "question", "A", "answer")
  tsv(tmp_path, "MMBench_DEV_EN_V11", head, (index, TEXT, "q", "x", "A"))
  with pytest.raises(BadItem, match="line 2: the index .* is no whole number"):
    _ = folder.open_set(str(tmp_path), "mmbench")[0]


def test_a_column_that_comes_twice_is_told(tmp_path):
  head = ("index", "image", "question", "A", "A", "answer")
  tsv(tmp_path, "AI2D_TEST", head, ("1", TEXT, "q", "x", "y", "A"))
  with pytest.raises(BadItem, match="several columns A;"):
    folder.open_set(str(tmp_path), "ai2d")


@pytest.mark.parametrize(
  "name, changes, file",
  [
    ("ai2d", {}, "test"),
    ("ocrbench", {}, "test"),
    ("mathvista", {"pid": "2"}, "testmini"),
    ("mmvet", {"question_id": "v1_1"}, "test"),
  ],
)
def test_pictures_of_the_hub_are_groups_too(tmp_path, name, changes, file):
  column = "decoded_image" if name == "mathvista" else "image"
  other = {column: {"bytes": made.picture("blue"), "path": None}}
  table = [HUB[name], HUB[name] | changes, HUB[name] | {"pid": "3"} | other]
  if name == "mmvet":
    table[2]["question_id"] = "v1_2"
  if name != "mathvista":
    table[2].pop("pid")
  hub(tmp_path / name / "data", f"{file}-00000-of-00001.parquet", table)
  first, second, third = folder.open_set(str(tmp_path), name).items
  assert first.id != second.id
  assert first.group == second.group != third.group


def test_splits_and_configs_of_a_snapshot_are_told_apart(tmp_path):
  place = tmp_path / "docvqa"
  row = dict(HUB["docvqa"])
  hub(place / "DocVQA", "validation-00000-of-00002.parquet", [row])
  hub(
    place / "DocVQA",
    "validation-00001-of-00002.parquet",
    [row | {"questionId": "6"}],
  )
  hub(place / "DocVQA", "test-00000-of-00001.parquet", [row])
  hub(place / "InfographicVQA", "validation-00000-of-00001.parquet", [row])
  ids = lambda split: [
    i.id for i in folder.open_set(str(tmp_path), "docvqa", split).items
  ]
  assert ids("val") == ["5", "6"] and ids("test") == ["5"]


@pytest.mark.parametrize(
  "name, wanted, place, file, found",
  [
    # Folders may name the split, as in the hub's converted branch.
    ("textvqa", "val", "validation", "0000.parquet", True),
    ("textvqa", "val", "train", "0000.parquet", False),
    ("textvqa", "val", "data", "train-00000-of-00001.parquet", False),
    ("textvqa", "val", "", "textvqa.parquet", True),
    # What the hub does not have is not read from what it has.
    ("ai2d", "test_no_mask", "data", "test-00000-of-00001.parquet", False),
    ("mmbench", "dev_en_v11", "en", "dev-00000-of-00001.parquet", False),
    ("mmbench", "dev_en", "en", "dev-00000-of-00001.parquet", True),
    ("mmbench", "dev_en", "cn", "dev-00000-of-00001.parquet", False),
    ("docvqa", "val", "InfographicVQA", "validation-0.parquet", False),
    ("emu_edit", "test", "data", "validation-00000.parquet", False),
    ("emu_edit", "val", "data", "validation-00000.parquet", True),
  ],
)
def test_no_other_split_or_config_is_read(
  tmp_path, name, wanted, place, file, found
):
  hub(tmp_path / name / place, file, [HUB[name]])
  if found:
    assert len(folder.open_set(str(tmp_path), name, wanted)) == 1
  else:
    with pytest.raises(Missing):
      folder.open_set(str(tmp_path), name, wanted)


def test_a_split_that_a_file_lacks_is_not_another(tmp_path):
  head = ("index", "image", "question", "answer", "split")
  tsv(tmp_path, "MMMU_DEV_VAL", head, ("1", TEXT, "q", "A", "validation"))
  with pytest.raises(BadItem, match="no row of the split 'dev'; it has valid"):
    folder.open_set(str(tmp_path), "mmmu", "dev")


def test_names_of_pictures_that_are_not_in_a_table_are_told(tmp_path):
  row = HUB["mmstar"] | {"image": {"bytes": None, "path": "/etc/hostname"}}
  hub(tmp_path / "mmstar", "val-0.parquet", [row])
  with pytest.raises(BadItem, match="is a name, and not in the table"):
    folder.open_set(str(tmp_path), "mmstar")[0]


def test_both_languages_of_gedit_lie_in_one_table(tmp_path):
  row = HUB["gedit"]
  hub(
    tmp_path / "gedit",
    "data.parquet",
    [row, row | {"instruction_language": "cn", "instruction": "做"}],
  )
  (english,) = folder.open_set(str(tmp_path), "gedit").items
  (chinese,) = folder.open_set(str(tmp_path), "gedit", "cn").items
  assert (english.question, chinese.question) == ("do", "做")


def test_our_own_lines(tmp_path):
  place = tmp_path / "mmvet"
  place.mkdir()
  (place / "a.png").write_bytes(PNG)
  (tmp_path / "b.png").write_bytes(PNG)
  rows_ = [
    {"id": "1", "question": "q", "pictures": ["a.png"], "answers": ["x"]},
    {"id": "2", "question": "q", "pictures": ["../b.png"]},
  ]
  path = place / "items.jsonl"
  path.write_text("\n".join(map(json.dumps, rows_)), encoding="utf-8")
  found = folder.open_set(str(tmp_path), "mmvet")
  assert found.format == "lines" and found[0].pictures[0].bytes() == PNG
  with pytest.raises(BadItem, match="lies outside of"):
    found[1].pictures[0].bytes()
  for wrong in ({"answers": "yes"}, {"pictures": "a.png"}, {"options": ["A"]}):
    path.write_text(json.dumps(rows_[0] | wrong), encoding="utf-8")
    with pytest.raises(BadItem, match="line 1: .* is needed"):
      folder.open_set(str(tmp_path), "mmvet")
  path.write_text(json.dumps(rows_[0] | {"answer": "x"}), encoding="utf-8")
  with pytest.raises(BadItem, match=r"unknown keys \['answer'\]"):
    folder.open_set(str(tmp_path), "mmvet")


def test_all_that_is_missing_is_said_at_once(tmp_path):
  tsv(
    tmp_path,
    "MMStar",
    ("index", "image", "question", "answer"),
    ("0", TEXT, "q", "A"),
  )
  wanted = [(name, "") for name in sets.SETS]
  found = {e.name: e for e in folder.inventory(str(tmp_path), wanted)}
  assert found.keys() == sets.SETS.keys()
  assert found["mmstar"].status == "incomplete"
  assert "1 rows of 1,500" in found["mmstar"].advice
  assert "MMStar.tsv (md5 e1ecd214...)" in found["mmstar"].advice
  for name, entry in found.items():
    if name != "mmstar":
      assert entry.status == "missing" and "Licence" in entry.advice
  assert "once lmms-lab/ChartQA" in found["chartqa"].advice
  with pytest.raises(ValueError, match="No test set 'mmsta'; there are chart"):
    folder.open_set(str(tmp_path), "mmsta")
  with pytest.raises(ValueError, match="has no split 'x'; it has val, test"):
    folder.open_set(str(tmp_path), "docvqa", "x")


def test_an_unknown_revision_is_named_by_its_sum(tmp_path):
  head = ("index", "image", "question", "answer", "category")
  tsv(
    tmp_path,
    "MMVet",
    head,
    *((str(n), TEXT, "q", "a", "ocr") for n in range(218)),
  )
  (entry,) = folder.inventory(str(tmp_path), [("mmvet", "")])
  assert (entry.status, entry.rows) == ("unknown", 218)
  assert entry.md5 in entry.advice and "748aa6d4" in entry.advice


def test_the_real_prompts(shared_dir, tmp_path):
  real = shared_dir / "data" / "benchmarks"
  for name, other in (
    ("geneval", "geneval"),
    ("dpg", "dpg_bench"),
    ("imgedit", "imgedit_bench"),
  ):
    (tmp_path / name).symlink_to(real / other)
  drawn = folder.open_set(str(tmp_path), "geneval")
  assert len(drawn) == 553 and drawn[0].id == "00000"
  assert {i.meta["category"] for i in drawn.items} == {
    "single_object", "two_object", "counting", "colors", "position",
    "color_attr",
  }  # fmt: skip
  longer = folder.open_set(str(tmp_path), "geneval", "long")
  assert len(longer) == 553 and longer[0].question != drawn[0].question
  assert len(folder.open_set(str(tmp_path), "dpg")) == 1065
  edits = folder.open_set(str(tmp_path), "imgedit")
  assert len(edits) == 737 and len({i.id for i in edits.items}) == 737
