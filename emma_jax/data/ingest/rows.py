"""Rows of public data sets (dicts) to records: one function per format.

Keys as published; emma_jax/data/README.md has an example of each:

  conversations  LLaVA, LLaVA-OneVision, this project: `conversations`, and
                 `image` or `images`, which may be absent
  messages       OpenAI, LLaMA-Factory, Hugging Face: `messages` of {role,
                 content}, and pictures as above or within a content's parts
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

from collections.abc import Callable, Mapping
import dataclasses
from typing import Any

from emma_jax.data.ingest import conversation, suffixes
from emma_jax.data.pictures.images import BadRecord
from emma_jax.data.records import schema
from emma_jax.structs import Drawing, Editing, RawPicture, Record, Understanding

# The first of these that a row has is its caption.
CAPTIONS = ("caption", "text", "prompt", "txt")

# Pictures of edits in sets that name a text as drawings do.
OF_EDITS = (
  *("source_image", "source_img", "src_img", "input_image", "original_image"),
  *("target_image", "target_img", "output_image", "edited_image", "edited_img"),
  "edit_image",
)

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
    form != "captions"
    or (any(key in row for key in CAPTIONS) and not pictures_of_edits(row))
  )


def pictures_of_edits(row: Row) -> list[str]:
  """Keys by which others name the pictures of an edit, beside ours.

  A row that has them is no drawing, whatever else it has: its text says what to
  change.

  >>> pictures_of_edits({"image": "a", "prompt": "red", "edit_image": "b"})
  ['edit_image']
  """
  return [key for key in OF_EDITS if not _is_empty(row.get(key))]


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


def as_given(row: Row, form: str) -> Row:
  """A row of the format that was asked for, whatever else it might be.

  >>> as_given({"image": "a", "text": "red", "edit_image": "b"}, "captions")
  {'image': 'a', 'text': 'red'}
  """
  if form != "captions":
    return row
  return {k: v for k, v in with_file_names(row).items() if k not in OF_EDITS}


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


def stem_of(row: Row, where: str) -> int:
  """The code of `stem`, one of `schema.STEM_VALUES`; or BadRecord."""
  return schema.stem_code(row.get("stem"), where)


def _conversations(row: Row, where: str, resolve: Resolve) -> Understanding:
  key = "conversations" if "conversations" in row else "messages"
  texts, within = conversation.texts(row[key], key, where)
  values = conversation.pictures(row, where)
  if values and within:
    raise BadRecord(
      where, f"pictures both in {key} and in the column of pictures; keep one"
    )
  return _understanding(row, where, resolve, values or within, texts)


def _finevision(row: Row, where: str, resolve: Resolve) -> Understanding:
  turns, values = conversation.listed(row["texts"]), row["images"]
  if not isinstance(turns, list) or not turns:
    raise BadRecord(where, "texts is not a list of turns")
  if not isinstance(values, (list, type(None))):
    raise BadRecord(where, f"images is a {type(values).__name__}, not a list")
  for turn in turns:
    if not isinstance(turn, dict):
      raise BadRecord(where, f"texts holds {turn!r}, not user and assistant")
  texts = [
    conversation.text(turn, key, where)
    for turn in turns
    for key in ("user", "assistant")
  ]
  given = conversation.pictures(row, where)
  return _understanding(row, where, resolve, given, texts)


def _understanding(
  row: Row, where: str, resolve: Resolve, values: list[Any], texts: list[str]
) -> Understanding:
  """Of pictures, and of questions and answers in turn."""
  conversation.check_turns(row, values, texts, where)
  key = "images" if row.get("images") is not None else "image"
  return Understanding(
    pictures=tuple(resolve(value, key, where) for value in values),
    turns=tuple(zip(texts[::2], texts[1::2])),
    stem=stem_of(row, where),
  )


def _captions(row: Row, where: str, resolve: Resolve) -> Drawing:
  others = pictures_of_edits(row)
  if others:
    raise BadRecord(
      where, f"an edit, for it has {others[0]}; name its pictures by --columns"
    )
  key = next((key for key in CAPTIONS if key in row), "caption")
  prompt = conversation.text(row, key, where)
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
    instruction=conversation.instruction(row, "instruction", where),
    target=resolve(row["target"], "target", where),
  )


def _questions(row: Row, where: str, resolve: Resolve) -> Understanding:
  texts = [conversation.text(row, key, where) for key in ("question", "answer")]
  return _understanding(
    row, where, resolve, conversation.pictures(row, where), texts
  )


def _pix2pix(row: Row, where: str, resolve: Resolve) -> Editing:
  return Editing(
    sources=(resolve(row["input_image"], "input_image", where),),
    instruction=conversation.instruction(row, "edit_prompt", where),
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
    instruction=conversation.instruction(
      {"edited_prompt_list": prompts[-1]}, "edited_prompt_list", where
    ),
    target=resolve(row["edited_img"], "edited_img", where),
  )


def _x2i2(row: Row, where: str, resolve: Resolve) -> Record:
  given = conversation.pictures(row, where, ("input_images", "input_image"))
  instruction = conversation.instruction(row, "instruction", where)
  output = row["output_image"]
  if isinstance(output, list) and len(output) == 1:
    output = output[0]
  target = resolve(output, "output_image", where)
  others = [k for k in pictures_of_edits(row) if k != "output_image"]
  others += [k for k in ("image", "images", "source") if _is_picture(row, k)]
  if not given and others:
    raise BadRecord(
      where,
      f"an edit without input_images, whose source may be {others[0]}; name it "
      f"by --columns input_images={others[0]}",
    )
  if not given:
    return Drawing(prompt=instruction, picture=target)
  sources = tuple(resolve(value, "input_images", where) for value in given)
  return Editing(sources=sources, instruction=instruction, target=target)


def _is_picture(row: Row, key: str) -> bool:
  """Whether a value names a picture: `source` may be where a row is from."""
  value = row.get(key)
  if isinstance(value, str):
    return suffixes.is_picture(value)
  return value is not None and not (isinstance(value, list) and not value)


# More special ones first: an X2I2 row would be no caption, but might get one.
FORMATS = {
  "conversations": Format(("conversations",), "understanding", _conversations),
  "messages": Format(("messages",), "understanding", _conversations),
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
