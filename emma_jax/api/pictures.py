"""Pictures that say how they were made, larger ones, and many as one.

A PNG holds text chunks (iTXt, UTF-8): `prompt` (or `instruction`, `prompts` of
a grid), `seed`, `checkpoint`, and `settings`, JSON of all the rest.
"""

from collections.abc import Mapping, Sequence
import json
import os
from typing import Any

from PIL import Image, PngImagePlugin

from emma_jax import files
from emma_jax.sampling.context import SampleError

# Chunks of ours, in the order in which they are written and shown.
KEYS = (
  *("prompt", "instruction", "prompts", "seed", "seeds"),
  *("checkpoint", "settings"),
)
_GAP = 2  # pixels between the pictures of a grid
# Of a picture that is made larger or put together, as in `images`.
_MOST_PIXELS = 64_000_000


def scaled(picture: Image.Image, times: int) -> Image.Image:
  """Each pixel `times` x `times` large; SampleError for less than 1."""
  if times < 1:
    raise SampleError(f"A scale of {times} must be 1 or more.")
  if times == 1:
    return picture
  _check_size(picture.width * times, picture.height * times)
  size = (picture.width * times, picture.height * times)
  return picture.resize(size, Image.Resampling.NEAREST)


def grid(pictures: Sequence[Image.Image], columns: int) -> Image.Image:
  """All pictures in rows of `columns`, each in a cell of the largest.

  Raises:
    SampleError: none, or so many that they are too large together.
  """
  if not pictures or columns < 1:
    raise SampleError(
      f"A grid of {len(pictures)} in {columns} columns is none."
    )
  width = max(p.width for p in pictures)
  height = max(p.height for p in pictures)
  columns = min(columns, len(pictures))
  rows = -(-len(pictures) // columns)
  size = (columns * (width + _GAP) - _GAP, rows * (height + _GAP) - _GAP)
  _check_size(*size)
  out = Image.new("RGB", size, "silver")  # many pictures are white outside
  for i, picture in enumerate(pictures):
    row, column = divmod(i, columns)
    out.paste(picture, (column * (width + _GAP), row * (height + _GAP)))
  return out


def _check_size(width: int, height: int) -> None:
  if width * height > _MOST_PIXELS:
    raise SampleError(
      f"A picture of {height}x{width} has more than {_MOST_PIXELS} pixels; "
      "take a smaller scale, or fewer of them."
    )


def save_png(
  path: str | os.PathLike, picture: Image.Image, about: Mapping[str, Any]
) -> None:
  """A PNG with its text chunks, whole or not at all.

  `about`: of `KEYS`; what is no text becomes JSON.
  """
  info = PngImagePlugin.PngInfo()
  for key in KEYS:
    if key in about:
      value = about[key]
      text = value if isinstance(value, str) else json.dumps(value)
      info.add_itxt(key, text)
  with files.atomic_write(path) as file:
    picture.save(file, "PNG", pnginfo=info)


def settings(path: str | os.PathLike) -> dict[str, Any]:
  """What `save_png` wrote beside the pixels; {} for a picture of others.

  Raises:
    OSError: it is no picture, or not there.
  """
  with Image.open(path, formats=["PNG", "JPEG", "WEBP"]) as image:
    image.load()  # chunks may follow the pixels
    found = dict(getattr(image, "text", {}))
  out = {}
  for key in KEYS:
    if key not in found:
      continue
    out[key] = str(found[key])
    if key in ("seed", "seeds", "prompts", "settings"):
      try:
        out[key] = json.loads(found[key])
      except ValueError:
        continue
  return out
