"""One row of each public format, and rows that are none."""

import pytest

from emma_jax.data.ingest import rows
from emma_jax.data.pictures.images import BadRecord
from emma_jax.structs import STEM_GENERAL, Drawing, Editing, Understanding

A, B = b"a", b"b"
TALK = [{"from": "human", "value": "<image>\nq"}, {"from": "gpt", "value": "a"}]
TURNS = (("<image>\nq", "a"),)


def _read(row, form=None):
  return rows.read(row, form or rows.detect(row), "here", lambda v, k, w: v)


@pytest.mark.smoke
@pytest.mark.parametrize(
  "row, form, record",
  [
    (
      {"id": "1", "image": A, "conversations": TALK},
      "conversations",
      Understanding(pictures=(A,), turns=TURNS, id="1"),
    ),
    (
      {
        "id": "1",
        "image": None,
        "data_source": "x",
        "stem": False,
        "conversations": TALK,
      },
      "conversations",
      Understanding(pictures=(), turns=TURNS, stem=STEM_GENERAL, id="1"),
    ),
    # As TensorFlow Datasets give it: a dict of lists.
    (
      {
        "id": "1",
        "images": [A, B],
        "conversations": {
          "from": ["human", "gpt"],
          "value": ["<image>\nq", "a"],
        },
      },
      "conversations",
      Understanding(pictures=(A, B), turns=TURNS, id="1"),
    ),
    (
      {
        "images": [A, B],
        "texts": [{"user": "q", "assistant": "a"}] * 2,
        "source": "ai2d",
      },
      "finevision",
      Understanding(pictures=(A, B), turns=(("q", "a"),) * 2, id="here"),
    ),
    (
      {"image": A, "caption": "c"},
      "captions",
      Drawing(prompt="c", picture=A, id="here"),
    ),
    (
      {"image": A, "text": "c", "id": 5},
      "captions",
      Drawing(prompt="c", picture=A, id="5"),
    ),
    (
      {"source": A, "instruction": "do", "target": B},
      "editing",
      Editing(sources=(A,), instruction="do", target=B, id="here"),
    ),
    (
      {
        "omni_edit_id": "o",
        "task": "swap",
        "src_img": A,
        "edited_img": B,
        "edited_prompt_list": ["do", "do this"],
      },
      "omniedit",
      Editing(sources=(A,), instruction="do this", target=B, id="o"),
    ),
    (
      {
        "task_type": "edit",
        "instruction": "do",
        "input_images": [A],
        "output_image": B,
      },
      "x2i2",
      Editing(sources=(A,), instruction="do", target=B, id="here"),
    ),
    (
      {"instruction": "do", "input_images": [A, B], "output_image": B},
      "x2i2",
      Editing(sources=(A, B), instruction="do", target=B, id="here"),
    ),
    (
      {
        "instruction": "do",
        "input_images": [A, B] * 4 + [A],
        "output_image": B,
      },
      "x2i2",
      Editing(sources=(A, B) * 4 + (A,), instruction="do", target=B, id="here"),
    ),
    (
      {"source": [A, B], "instruction": "do", "target": B},
      "editing",
      Editing(sources=(A, B), instruction="do", target=B, id="here"),
    ),
    (
      {"instruction": "c", "input_images": [], "output_image": B},
      "x2i2",
      Drawing(prompt="c", picture=B, id="here"),
    ),
    (
      {"task_type": "t2i", "instruction": "c", "output_image": B},
      "x2i2",
      Drawing(prompt="c", picture=B, id="here"),
    ),
  ],
)
def test_formats(row, form, record):
  assert rows.detect(row) == form
  assert _read(row) == record


@pytest.mark.parametrize(
  "row, form, reason",
  [
    ({}, "captions", "'caption' is missing"),
    ({"caption": "c"}, "captions", "'image' is missing"),
    ({"image": A, "caption": 3}, "captions", "caption is 3"),
    ({"conversations": TALK[:1]}, "conversations", "not pairs"),
    ({"conversations": TALK[::-1]}, "conversations", "not from human"),
    ({"conversations": "x"}, "conversations", "not pairs"),
    ({"conversations": TALK, "stem": "yes"}, "conversations", "stem"),
    ({"texts": [], "images": [A]}, "finevision", "not a list of turns"),
    ({"texts": ["q"], "images": [A]}, "finevision", "texts holds"),
    ({"texts": [{"user": "q"}], "images": []}, "finevision", "'assistant'"),
    (
      {"texts": [{"user": "q", "assistant": "a"}], "images": 5},
      "finevision",
      "images is a int",
    ),
    (
      {"src_img": A, "edited_img": B, "edited_prompt_list": []},
      "omniedit",
      "no instruction",
    ),
    (
      {"source": [], "instruction": "do", "target": B},
      "editing",
      "source is empty; without one it is a drawing",
    ),
  ],
)
def test_rows_that_are_none(row, form, reason: str):
  with pytest.raises(BadRecord, match=reason) as e:
    _read(row, form)
  assert e.value.where == "here"


def test_unknown_columns_are_no_format():
  assert rows.detect({"a": 1}) is None
  assert rows.detect({"image": A}) is None


@pytest.mark.parametrize("form", rows.FORMATS)
def test_a_format_needs_all_of_its_keys(form):
  row = dict.fromkeys((*rows.FORMATS[form].keys, "caption"), A)
  assert rows.detect(row) == form
  for key in rows.FORMATS[form].keys:
    assert rows.detect({k: v for k, v in row.items() if k != key}) is None


def test_the_captions_key_is_the_first_that_is_there():
  row = {"image": A, "txt": "4", "prompt": "3", "text": "2", "caption": "1"}
  for key, said in (
    ("caption", "1"),
    ("text", "2"),
    ("prompt", "3"),
    ("txt", "4"),
  ):
    assert _read(row, "captions").prompt == said
    del row[key]


@pytest.mark.parametrize(
  "row, name",
  [
    ({"id": "a", "omni_edit_id": "b"}, "a"),
    ({"omni_edit_id": "b"}, "b"),
    ({"id": 0}, "0"),
    ({"id": ""}, "here"),
    ({"id": None}, "here"),
  ],
)
def test_a_records_id(row, name):
  assert _read(row | {"image": A, "caption": "c"}).id == name


@pytest.mark.parametrize(
  "stem, label",
  [({"stem": True}, 1), ({"stem": False}, 0), ({"stem": None}, -1), ({}, -1)],
)
def test_a_rows_label(stem, label):
  assert rows.stem_of(stem, "here") == label
