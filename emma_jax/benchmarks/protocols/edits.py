"""What the sets of edits share: the request, pictures for judges, replies.

The originals show the judge pictures after the text; lmms-eval's GEdit-Bench
before.
"""

from collections.abc import Sequence
import io
from typing import Any, Literal

from PIL import Image, ImageOps

from emma_jax.benchmarks.items import BadItem, Item, is_page
from emma_jax.benchmarks.suite import Case, Made, NoReply, Request

_ORIENTATION = 0x0112  # of EXIF


def plain(item: Item) -> Request:
  """The instruction as the set has it, and the picture to edit."""
  return Request(text=item.question, pictures=item.pictures[:1])


# ---------------------------------------------------------------- pictures


def decode(data: bytes, where: str) -> Image.Image:
  """A picture's file as RGB, turned as its EXIF orientation says.

  Args:
    data: the file.
    where: it is from, for messages.

  Raises:
    BadItem: no picture that Pillow can read.
  """
  try:
    with Image.open(io.BytesIO(data)) as picture:
      return ImageOps.exif_transpose(picture).convert("RGB")
  except (
    OSError,
    SyntaxError,
    ValueError,
    Image.DecompressionBombError,
  ) as error:
    raise BadItem(
      f"{where}: no picture that can be read ({error}). Download or draw it "
      "again."
    ) from error


def encode(picture: Image.Image, kind: Literal["JPEG", "PNG"]) -> bytes:
  """A picture's file with Pillow's own settings: JPEG of quality 75."""
  buffer = io.BytesIO()
  picture.save(buffer, kind)
  return buffer.getvalue()


def upright(data: bytes, where: str) -> bytes:
  """The file itself where it is an upright RGB JPEG or PNG, else a PNG of it.

  What a judge is sent where an original sends files as they are.

  Raises:
    BadItem: no picture that Pillow can read.
  """
  decoded = decode(data, where)
  with Image.open(io.BytesIO(data)) as picture:
    turned = picture.getexif().get(_ORIENTATION, 1) != 1
    as_it_is = picture.format in ("JPEG", "PNG") and picture.mode == "RGB"
  return data if as_it_is and not turned else encode(decoded, "PNG")


def both(case: Case, made: Made) -> list[tuple[bytes, str]]:
  """(file, where it is from) of the source and of what was made of it."""
  source = case.item.pictures[0]
  return [(source.bytes(), source.where), edited(case, made)]


def edited(case: Case, made: Made) -> tuple[bytes, str]:
  """(file, where it is from) of what was made."""
  repeat = made.prediction.repeat
  where = f"{case.set_name}, edit {case.item.id!r}, repeat {repeat}"
  return made.picture(), where


# ----------------------------------------------------------------- replies


def ask(
  case: Case,
  made: Made,
  part: str,
  text: str,
  pictures: Sequence[bytes],
  **settings: Any,
) -> str:
  """What the judge says of an edit.

  Args:
    case, made: it is about.
    part, text, pictures, settings: see `Case.ask`.

  Raises:
    NoReply: there is none, or a page of HTML in its place: numbers of its
      style sheet must not be read as marks.
  """
  repeat = made.prediction.repeat
  settings = {"text_first": True} | settings
  reply = case.ask(part, text, pictures, repeat=repeat, **settings)
  if is_page(reply.text.encode("utf-8", "replace")):
    raise NoReply("unparsable", f"a page of HTML: {reply.text[:80]!r}")
  return reply.text
