"""One row of each public format, and rows that are none."""

import pytest

from emma_jax.data.ingest import part, rows, suggested
from emma_jax.data.pictures.images import BadRecord
from emma_jax.structs import STEM_GENERAL, Drawing, Editing, Understanding

A, B = b"a", b"b"
TALK = [{"from": "human", "value": "<image>\nq"}, {"from": "gpt", "value": "a"}]
TURNS = (("<image>\nq", "a"),)


def _asked(*parts):
  """`messages` of one question with such parts, and its answer."""
  asked = {"role": "user", "content": list(parts)}
  return [asked, {"role": "assistant", "content": "a"}]


def _talk(question, answer="a"):
  return [
    {"from": "human", "value": question},
    {"from": "gpt", "value": answer},
  ]


def _part(**more):
  return {"type": "image", "text": None} | more


_SAID = {"user": "q", "assistant": "a"}
_Q = {"type": "text", "text": "q", "image": None}


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
    # LLaMA-Factory's; a content of parts whose pictures stand in a column, as
    # Hugging Face's, or in the parts, as OpenAI's; roles under LLaVA's key.
    (
      {
        "images": [A],
        "messages": [
          {"content": "<image>q", "role": "user"},
          {"content": "a", "role": "assistant"},
        ],
      },
      "messages",
      Understanding(pictures=(A,), turns=(("<image>q", "a"),), id="here"),
    ),
    (
      {"images": [A, B], "messages": _asked(_part(), _Q, _part(image=None))},
      "messages",
      Understanding(
        pictures=(A, B), turns=(("<image>q<image>", "a"),), id="here"
      ),
    ),
    (
      {
        "messages": _asked(
          {"type": "image_url", "image_url": {"url": "a.png"}},
          {"type": "image", "path": "b.png"},
          _Q,
        )
      },
      "messages",
      Understanding(
        pictures=("a.png", "b.png"),
        turns=(("<image><image>q", "a"),),
        id="here",
      ),
    ),
    (
      {
        "image": A,
        "conversations": [
          {"role": "user", "content": "q"},
          {"role": "assistant", "content": "a"},
        ],
      },
      "conversations",
      Understanding(pictures=(A,), turns=(("q", "a"),), id="here"),
    ),
    # Of the two keys of pictures the one that has any.
    (
      {"images": [], "image": A, "conversations": _talk("q")},
      "conversations",
      Understanding(pictures=(A,), turns=(("q", "a"),), id="here"),
    ),
    (
      {"images": [A], "image": A, "question": "q", "answer": "a"},
      "questions",
      Understanding(pictures=(A,), turns=(("q", "a"),), id="here"),
    ),
    (
      {"image": A, "conversations": _talk("") + _talk("q")},
      "conversations",
      Understanding(pictures=(A,), turns=(("", "a"), ("q", "a")), id="here"),
    ),
    (
      {"image": "", "conversations": _talk("q")},
      "conversations",
      Understanding(pictures=(), turns=(("q", "a"),), id="here"),
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
    # Of one input; FineVision's with one.
    (
      {"instruction": "do", "input_image": A, "output_image": B},
      "x2i2",
      Editing(sources=(A,), instruction="do", target=B, id="here"),
    ),
    (
      {"image": A, "images": None, "texts": [_SAID]},
      "finevision",
      Understanding(pictures=(A,), turns=(("q", "a"),), id="here"),
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
      {"source": "laion", "instruction": "c", "output_image": B},
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


@pytest.mark.parametrize(
  "row, reason",
  [
    ({"image": A, "images": [B], "conversations": TALK}, "different pictures"),
    ({"image": A, "conversations": TALK + _talk(" ")}, "question 1 is empty"),
    ({"video": "v.mp4", "conversations": _talk("<video>q")}, "video is"),
    ({"videos": ["v"], "question": "q", "answer": "a"}, "videos is"),
    ({"audios": ["v"], "messages": _talk("q")}, "audios is"),
    ({"system": "be nice", "conversations": TALK, "image": A}, "the system"),
    (
      {"conversations": [{"from": "system", "value": "be nice"}, *TALK]},
      r"conversations\[0\] is a turn of the system",
    ),
    ({"images": [A], "messages": _asked(_part(image=B))}, "both in messages"),
    ({"messages": _asked({"type": "video", "video": "v"})}, "holds .*video"),
    ({"image": A, "conversations": _talk("q", "a <image>")}, "an answer marks"),
    (
      {"images": [A], "texts": [{"user": "<image1>", "assistant": "a"}]},
      "'<im",
    ),
    *(
      ({"image": A, "conversations": _talk(f"{mark}\nq")}, "a question marks")
      for mark in (
        *("<Image>", "<image1>", "<image_00>", "<|image|>", "<|image_1|>"),
        *("<ImageHere>", "<image-placeholder>", "<IMG_CONTEXT>"),
        "<video>",
        "<|vision_start|><|image_pad|><|vision_end|>",
      )
    ),
    *(
      ({"source": A, "target": B, "instruction": mark}, "instruction has the")
      for mark in ("<img><|image_1|></img> do", "<image>do")
    ),
    (
      {"input_image": A, "edited_image": B, "edit_prompt": "<|image_1|>"},
      "edit_prompt has the",
    ),
    (
      {"instruction": "do", "source_image": A, "output_image": B},
      "an edit without input_images, whose source may be source_image; name",
    ),
    (
      {
        **{"instruction": "do", "output_image": B},
        **{"input_images": [A], "input_image": B},
      },
      "input_images and input_image name different",
    ),
    *(
      ({"instruction": "do", "output_image": B, key: value}, "an edit without")
      for key, value in (("image", A), ("images", [A]), ("source", "a.PNG"))
    ),
    ({"images": [A], "image": B, "texts": [_SAID]}, "different pictures"),
    ({"image": A, "caption": "a\0 \0c\0"}, "caption has zero bytes"),
    ({"question": "q", "answer": "a\0"}, "answer has zero bytes"),
  ],
)
def test_what_would_be_learned_wrongly_is_told(row, reason: str):
  """No picture is lost and no foreign mark becomes a word without a word."""
  with pytest.raises(BadRecord, match=reason):
    _read(row)


def test_marks_are_words_where_no_picture_is():
  text = "What does <image> mean in SVG, and <video> in HTML?"
  row = {"question": "Write a tag", "answer": text}
  assert _read(row).turns == (("Write a tag", text),)


@pytest.mark.parametrize("key", rows.OF_EDITS)
def test_an_edit_is_no_drawing(key):
  """Its text says what to change: no picture is to be drawn by it."""
  row = {"image": A, "text": "make it red", key: B}
  assert rows.detect(row) is None
  assert rows.detect(row | {key: None}) == "captions"
  with pytest.raises(BadRecord, match=f"an edit, for it has {key}; name"):
    _read(row, "captions")
  given = rows.as_given(
    {k: v for k, v in row.items() if k != "image"}, "captions"
  )
  assert key not in given and rows.as_given(row, "editing") is row


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


@pytest.mark.parametrize(
  "columns, flag",
  [
    # MagicBrush, UltraEdit, InstructPix2Pix, HQ-Edit, ShareGPT-4o-Image.
    (
      ("img_id", "source_img", "mask_img", "instruction", "target_img"),
      "source=source_img,target=target_img",
    ),
    (
      ("edit_prompt", "edited_image", "mask_image", "source_image"),
      "source=source_image,instruction=edit_prompt,target=edited_image",
    ),
    (
      ("edit_prompt", "edited_image", "edited_prompt", "original_image"),
      "source=original_image,instruction=edit_prompt,target=edited_image",
    ),
    (
      ("edit", "input", "input_image", "inverse_edit", "output_image"),
      "source=input_image,instruction=edit,target=output_image",
    ),
    (
      ("input_image", "input_prompt", "output_image"),
      "source=input_image,instruction=input_prompt,target=output_image",
    ),
    (
      ("edit_prompt", "edited_image_file_name", "original_image_file_name"),
      "source=original_image_file_name,instruction=edit_prompt,"
      "target=edited_image_file_name",
    ),
    # DiffSynth-Studio's, and its opposite.
    (
      ("image", "prompt", "edit_image"),
      "source=edit_image,instruction=prompt,target=image",
    ),
    (
      ("image", "text", "edited_image"),
      "source=image,instruction=text,target=edited_image",
    ),
    (("images", "query", "response"), "question=query,answer=response"),
    (("Image", "Caption"), "image=Image,caption=Caption"),
  ],
)
def test_published_columns_are_suggested_and_then_read(columns, flag):
  """The flag that the error tells makes a row of the format."""
  assert rows.detect(dict.fromkeys(columns, "x")) is None
  assert suggested.suggestion(columns) == f"--columns {flag}"
  pairs = dict(pair.split("=") for pair in flag.split(","))
  row = part.renamed(dict.fromkeys(columns, "x"), pairs)
  assert rows.detect(row) in ("editing", "questions", "captions")


def test_no_column_is_left_out_by_what_is_suggested():
  """Alpaca's `input` belongs to its question; no flag says so."""
  assert not suggested.suggestion(["input", "instruction", "output"])
