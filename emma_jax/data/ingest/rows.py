"""Rows of public data sets (dicts) to records: one function per format.

Keys as published; emma_jax/data/README.md has an example of each:

  conversations  LLaVA, LLaVA-OneVision, this project: `conversations`, and
                 `image` or `images`, which may be absent
  finevision     FineVision: `images`, `texts` of {user, assistant}
  captions       `image`, and `caption` or another of CAPTIONS
  editing        this project: `source` (or a list of them), `instruction`,
                 `target`
  omniedit       OmniEdit: `src_img`, `edited_prompt_list`, `edited_img`
  x2i2           X2I2: `instruction`, `input_images`, `output_image`; without
                 input it is a drawing, with several an edit of several
  questions      `question`, `answer`, and `image` or none
  pix2pix        InstructPix2Pix: `input_image`, `edit_prompt`, `edited_image`

`id`, `stem` and `weight` are optional everywhere. As in Hugging Face's
imagefolder, `file_name` stands for `image`, `file_names` for `images`, and
`X_file_name` for X.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import difflib
from typing import Any

from emma_jax.data.pictures.images import BadRecord
from emma_jax.data.records import schema
from emma_jax.structs import Drawing, Editing, RawPicture, Record, Understanding

# The first of these that a row has is its caption.
CAPTIONS = ("caption", "text", "prompt", "txt")
# Parts of the names that others give to our columns.
_SOUNDS = {
  "image": ("image", "img", "picture", "photo", "file", "path", "jpg", "png"),
  "caption": ("caption", "desc", "title", "label", "alt", "text", "prompt"),
}
_HUMAN, _MODEL = ("human", "user"), ("gpt", "assistant")

Row = Mapping[str, Any]
# (value of a row, its key, where) -> picture; BadRecord where there is none.
Resolve = Callable[[Any, str, str], RawPicture]


@dataclasses.dataclass(frozen=True)
class Format:
  """Keys that give it away, the task it is for, and how a row is read."""

  keys: tuple[str, ...]
  task: str  # of structs.TASKS
  read: Callable[[Row, str, Resolve], Record]


def detect(row: Row) -> str | None:
  """The format whose keys a row has; None where it is none.

  >>> detect({"image": "a.png", "prompt": "a cat"})
  'captions'
  """
  row = with_file_names(row)
  return next((name for name in FORMATS if _has(row, name)), None)


def _has(row: Row, form: str) -> bool:
  return all(key in row for key in FORMATS[form].keys) and (
    form != "captions" or any(key in row for key in CAPTIONS)
  )


def form_of(row: Row, form: str) -> tuple[Row, str]:
  """A row of a set whose rows are mostly of `form`, and what it is itself.

  One that lacks keys of `form`, or has nothing there, may be of another: then
  it comes without its empty columns, which are those of the others.

  >>> row = {"image": "a.png", "text": "", "question": "what?", "answer": "a"}
  >>> form_of(row, "captions")[1]
  'questions'
  """
  full = with_file_names(row)
  full = {k: v for k, v in full.items() if not _is_empty(v)}
  if _has(full, form):
    return row, form
  other = detect(full)
  return (row, form) if other is None else (full, other)


def _is_empty(value: Any) -> bool:
  return value is None or (isinstance(value, str) and not value.strip())


def read(row: Row, form: str, where: str, resolve: Resolve) -> Record:
  """A row as a record; BadRecord(where, reason) where it is none."""
  row = with_file_names(row)
  try:
    record = FORMATS[form].read(row, where, resolve)
  except KeyError as e:
    raise BadRecord(
      where, f"key {e} is missing; the line has {sorted(map(str, row))}"
    ) from e
  except (AttributeError, TypeError) as e:
    raise BadRecord(where, f"a row of wrong types: {e}") from e
  name = row.get("id", row.get("omni_edit_id"))
  name = where if name in (None, "") else str(name)
  return dataclasses.replace(record, id=name)


def with_file_names(row: Row) -> Row:
  """The row with imagefolder's names of files under the keys they stand for.

  >>> with_file_names({"file_name": "a.png", "target_file_name": "b.png"})
  {'image': 'a.png', 'target': 'b.png'}
  >>> with_file_names({"file_name": "a.png", "image": "b.png"})["image"]
  'b.png'
  """
  if not any(str(key).endswith(("file_name", "file_names")) for key in row):
    return row
  out: dict[str, Any] = {}
  for key, value in row.items():
    name = str(key)
    for end, alone in (("file_name", "image"), ("file_names", "images")):
      short = name.removesuffix(end).rstrip("_") or alone
      if name.endswith(end) and short not in row:
        name = short
    out[name] = value
  return out


def suggestion(columns: Sequence[str]) -> str:
  """A --columns for columns whose names sound like ours; "" where none do.

  >>> suggestion(["photo_path", "description"])
  '--columns image=photo_path,caption=description'
  """
  found: dict[str, str] = {}
  for ours, words in _SOUNDS.items():
    like = [c for c in columns if any(w in c.lower() for w in words)]
    like += difflib.get_close_matches(ours, columns, 1, 0.7)
    fresh = [c for c in like if c not in found.values()]
    if ours not in columns and fresh:
      found[ours] = fresh[0]
  has = set(found) | set(columns)
  if not found or not has >= {"image", "caption"}:
    return ""
  return "--columns " + ",".join(f"{k}={v}" for k, v in found.items())


def stem_of(row: Row, where: str) -> int:
  """The code of `stem`, one of `schema.STEM_VALUES`; or BadRecord."""
  return schema.stem_code(row.get("stem"), where)


def _conversations(row: Row, where: str, resolve: Resolve) -> Understanding:
  images = row["images"] if row.get("images") is not None else row.get("image")
  values = [] if images is None else images
  values = list(values) if isinstance(values, (list, tuple)) else [values]
  turns = _listed(row["conversations"])
  if not isinstance(turns, list) or not turns or len(turns) % 2:
    raise BadRecord(where, "conversations are not pairs of turns")
  texts = []
  for i, turn in enumerate(turns):
    speakers = _MODEL if i % 2 else _HUMAN
    if not isinstance(turn, dict) or turn.get("from") not in speakers:
      raise BadRecord(where, f"conversations[{i}] is not from {speakers[0]}")
    texts.append(_text(turn, "value", where))
  return Understanding(
    pictures=tuple(resolve(v, "image", where) for v in values),
    turns=tuple(zip(texts[::2], texts[1::2])),
    stem=stem_of(row, where),
  )


def _finevision(row: Row, where: str, resolve: Resolve) -> Understanding:
  turns, values = _listed(row["texts"]), row["images"] or []
  if not isinstance(turns, list) or not turns:
    raise BadRecord(where, "texts is not a list of turns")
  if not isinstance(values, list):
    raise BadRecord(where, f"images is a {type(values).__name__}, not a list")
  for turn in turns:
    if not isinstance(turn, dict):
      raise BadRecord(where, f"texts holds {turn!r}, not user and assistant")
  return Understanding(
    pictures=tuple(resolve(v, "images", where) for v in values),
    turns=tuple(
      (_text(turn, "user", where), _text(turn, "assistant", where))
      for turn in turns
    ),
    stem=stem_of(row, where),
  )


def _captions(row: Row, where: str, resolve: Resolve) -> Drawing:
  key = next((key for key in CAPTIONS if key in row), "caption")
  prompt = _text(row, key, where)
  return Drawing(prompt=prompt, picture=resolve(row["image"], "image", where))


def _editing(row: Row, where: str, resolve: Resolve) -> Editing:
  sources = row["source"]
  sources = list(sources) if isinstance(sources, (list, tuple)) else [sources]
  if not sources:
    raise BadRecord(
      where, "source is empty; without one it is a drawing: image and caption"
    )
  return Editing(
    sources=tuple(resolve(value, "source", where) for value in sources),
    instruction=_text(row, "instruction", where),
    target=resolve(row["target"], "target", where),
  )


def _questions(row: Row, where: str, resolve: Resolve) -> Understanding:
  images = row["images"] if row.get("images") is not None else row.get("image")
  values = [] if images in (None, "") else images
  values = list(values) if isinstance(values, (list, tuple)) else [values]
  return Understanding(
    pictures=tuple(resolve(v, "image", where) for v in values),
    turns=((_text(row, "question", where), _text(row, "answer", where)),),
    stem=stem_of(row, where),
  )


def _pix2pix(row: Row, where: str, resolve: Resolve) -> Editing:
  return Editing(
    sources=(resolve(row["input_image"], "input_image", where),),
    instruction=_text(row, "edit_prompt", where),
    target=resolve(row["edited_image"], "edited_image", where),
  )


def _omniedit(row: Row, where: str, resolve: Resolve) -> Editing:
  prompts = row["edited_prompt_list"]
  prompts = [prompts] if isinstance(prompts, str) else prompts
  if not isinstance(prompts, list) or not prompts:
    raise BadRecord(where, "edited_prompt_list holds no instruction")
  # Paraphrases of one edit, of which the last is the most detailed.
  return Editing(
    sources=(resolve(row["src_img"], "src_img", where),),
    instruction=_text(
      {"edited_prompt_list": prompts[-1]}, "edited_prompt_list", where
    ),
    target=resolve(row["edited_img"], "edited_img", where),
  )


def _x2i2(row: Row, where: str, resolve: Resolve) -> Record:
  given = row.get("input_images") or []
  given = list(given) if isinstance(given, (list, tuple)) else [given]
  instruction = _text(row, "instruction", where)
  output = row["output_image"]
  if isinstance(output, list) and len(output) == 1:
    output = output[0]
  target = resolve(output, "output_image", where)
  if not given:
    return Drawing(prompt=instruction, picture=target)
  sources = tuple(resolve(value, "input_images", where) for value in given)
  return Editing(sources=sources, instruction=instruction, target=target)


def _listed(value: Any) -> Any:
  """TensorFlow Datasets give a list of dicts as a dict of lists."""
  if isinstance(value, dict) and value:
    columns = [v for v in value.values() if isinstance(v, list)]
    if len(columns) == len(value) and len(set(map(len, columns))) == 1:
      return [dict(zip(value, cells)) for cells in zip(*columns)]
  return value


def _text(row: Row, key: str, where: str) -> str:
  if not isinstance(row[key], str):
    raise BadRecord(where, f"{key} is {row[key]!r}, not a text")
  return row[key]


# More special ones first: an X2I2 row would be no caption, but might get one.
FORMATS = {
  "conversations": Format(("conversations",), "understanding", _conversations),
  "finevision": Format(("images", "texts"), "understanding", _finevision),
  "omniedit": Format(
    ("src_img", "edited_img", "edited_prompt_list"), "editing", _omniedit
  ),
  "x2i2": Format(("instruction", "output_image"), "editing", _x2i2),
  "editing": Format(("source", "instruction", "target"), "editing", _editing),
  "pix2pix": Format(
    ("input_image", "edit_prompt", "edited_image"), "editing", _pix2pix
  ),
  "questions": Format(("question", "answer"), "understanding", _questions),
  "captions": Format(("image",), "drawing", _captions),
}
