"""The public sets' builders, on small files as published."""

import json
import sys

import pytest

pytest.importorskip("tensorflow_datasets", reason="needs the extra tfds")
pytest.importorskip("pyarrow", reason="needs the extra data")

# isort: split
import pyarrow as pa
import pyarrow.parquet as pq

from emma_jax.cli import common, data
from emma_jax.data.ingest import containers, sequences, tfds_builders
from emma_jax.data.loading import dataset, sources
from emma_jax.data.records.source import RecordsSource
from tests import neutral
from tests.data import made

# Its last bytes are zeros, which NumPy's own bytes would lose.
RED, BLUE = made.picture("red") + b"\0\0", made.noise(kind="JPEG")
SAID = [{"from": "human", "value": "<image>\nq"}, {"from": "gpt", "value": "a"}]
PLAIN = [{"from": "human", "value": "2 + 2?"}, {"from": "gpt", "value": "4"}]
STRUCT = {"bytes": RED, "path": "a.png"}


def _llava_558k(folder):
  (folder / "00000").mkdir()
  (folder / "00000" / "a.jpg").write_bytes(BLUE)
  (folder / "blip_laion_cc_sbu_558k.json").write_text(
    json.dumps(
      [
        {"id": "1", "image": "00000/a.jpg", "conversations": SAID},
        {"id": "2", "image": "00000/lost.jpg", "conversations": SAID},
        {"id": "3", "image": "00000/a.jpg", "conversations": SAID},
      ]
    )
  )
  return ["1", "3"]


def _parquet(path, rows):
  path.parent.mkdir(exist_ok=True)
  pq.write_table(pa.Table.from_pylist(rows), path)


def _llava_onevision(folder):
  row = lambda i, image, said: {
    "id": i,
    "image": image,
    "conversations": said,
    "data_source": "ai2d",
  }
  _parquet(
    folder / "ai2d" / "train-0.parquet",
    [row("1", STRUCT, SAID), row("2", None, PLAIN)],
  )
  _parquet(folder / "maths" / "train-0.parquet", [row("3", None, PLAIN)])
  return ["1", "2", "3"]


def _fine_vision(folder):
  _parquet(
    folder / "a" / "train-0.parquet",
    [
      {
        "images": [STRUCT, {"bytes": BLUE, "path": None}],
        "texts": [
          {"user": "q", "assistant": "a"},
          {"user": "r", "assistant": "b"},
        ],
        "source": "ai2d",
        "relevance_ratings": [5, 4],
        "relevance_min": 4,
        "image_correspondence_ratings": [1, 1],
        "image_correspondence_min": 1,
        "visual_dependency_ratings": None,
        "visual_dependency_min": None,
        "formatting_ratings": [2, 3],
        "formatting_min": 2,
      }
    ],
  )
  return None


def _x2i2(folder):
  (folder / "a.png").write_bytes(RED)
  (folder / "b.jpg").write_bytes(BLUE)
  row = {"task_type": "edit", "instruction": "do", "output_image": "b.jpg"}
  made.jsonl(
    folder / "a.jsonl",
    {**row, "input_images": ["a.png"]},
    {**row, "input_images": []},
    "{ no JSON",
  )
  return None


def _omni_edit(folder):
  _parquet(
    folder / "data" / "train-0.parquet",
    [
      {
        "omni_edit_id": "7",
        "task": "swap",
        "src_img": STRUCT,
        "edited_img": {"bytes": BLUE, "path": None},
        "edited_prompt_list": ["short", "in detail"],
        "width": 30,
        "height": 20,
        "sc_score_1": 9.0,
        "sc_score_2": 8.0,
        "sc_reasoning": "fine",
        "pq_score": 7.0,
        "o_score": 7.5,
      }
    ],
  )
  return ["7"]


MADE = {
  "llava_558k": _llava_558k,
  "llava_onevision": _llava_onevision,
  "fine_vision": _fine_vision,
  "x2i2": _x2i2,
  "omni_edit": _omni_edit,
}


@pytest.fixture(params=tfds_builders.NAMES)
def prepared(request, tmp_path):
  """(name, TFDS's folder, wanted ids) with what was downloaded by hand."""
  name = request.param
  folder = tmp_path / "tfds" / "downloads" / "manual" / name
  folder.mkdir(parents=True)
  return name, tmp_path / "tfds", MADE[name](folder)


def test_published_files_become_records_and_train(
  prepared, tmp_path, monkeypatch
):
  name, folder, ids = prepared
  monkeypatch.chdir(tmp_path)
  assert (
    common.run(
      data.main,
      [
        "convert",
        f"tfds:{name}:train",
        "--data-dir",
        str(folder),
        "--out",
        "set",
        "--workers",
        "0",
      ],
    )
    == 0
  )
  source = RecordsSource("set")
  got = [source[i] for i in range(len(source))]
  if ids:
    assert [r.id for r in got] == ids
  pictures = [p for i in range(len(got)) for p in source.stored(i).pictures]
  assert pictures and set(pictures) <= {RED, BLUE}
  assert source.card.rejected == 0 and "tensorflow" not in sys.modules
  # The same records without a conversion, as a source of training.
  monkeypatch.setenv("TFDS_DATA_DIR", str(folder))
  direct = sources.open_source(f"tfds:{name}:train")
  assert [direct[i] for i in range(len(direct))] == got
  config = neutral.data_config(
    seed=0,
    sources={"a": f"tfds:{name}:train"},
    phases=(neutral.phase({"a": 1}),),
    samples_per_batch=len(got),
    workers=1,
    layout=neutral.layout(
      rows=2,
      und_tokens=200,
      und_pictures=4,
      references=2,
      targets=2,
      height=32,
      width=32,
    ),
    framing=neutral.framing(height=32, width=32),
  )
  opened = dataset.open_pipeline(config, made.TOKENIZER)
  with dataset.stream(opened) as batches:  # in a process of its own
    info = next(batches).info
  assert not info.bad and sum(info.packed.samples_per_task.values()) == len(got)


def test_columns_are_those_of_the_publication(prepared):
  name, folder, _ = prepared
  options = sequences.Options(data_dir=str(folder))
  (part,) = containers.split(f"tfds:{name}:train", 99, options)
  row = next(r for _, r in containers.read(part, options))
  wanted = {
    "llava_558k": {"id", "image", "conversations"},
    "llava_onevision": {"id", "image", "conversations", "data_source"},
    "x2i2": {"task_type", "instruction", "input_images", "output_image"},
  }.get(name)
  if name == "fine_vision":
    assert row["relevance_ratings"] == [5, 4] and row["relevance_min"] == 4
    assert row["visual_dependency_ratings"] == []
    assert row["visual_dependency_min"] == -1  # a missing number
  elif name == "omni_edit":
    assert row["sc_score_1"] == 9 and row["sc_reasoning"] == "fine"
    assert row["edited_prompt_list"] == ["short", "in detail"]
  else:
    assert set(row) == wanted


def test_a_name_in_capitals_is_a_file_too(tmp_path):
  folder = tmp_path / "downloads" / "manual" / "llava_558k"
  folder.mkdir(parents=True)
  row = {"id": "a", "image": "", "conversations": []}
  for name in ("a.json", "B.JSON", "note.txt"):
    (folder / name).write_text(json.dumps([row]))
  options = sequences.Options(data_dir=str(tmp_path))
  parts = containers.split("tfds:llava_558k:train", 9, options)
  assert sum(part.rows for part in parts) == 2


def test_a_folder_without_files_says_what_to_do(tmp_path):
  options = sequences.Options(data_dir=str(tmp_path))
  with pytest.raises(ValueError, match="manual"):
    containers.split("tfds:omni_edit:train", 9, options)
