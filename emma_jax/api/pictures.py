"""Pictures that say how they were made, larger ones, and many as one.

A PNG holds text chunks (iTXt, UTF-8): `prompt` (or `instruction`, `prompts` of
a grid), `seed`, `checkpoint`, and `settings`, JSON of all the rest.
"""

from collections.abc import Mapping, Sequence
import contextlib
import json
import os
import struct
from typing import Any
import zlib

from PIL import Image, PngImagePlugin

from emma_jax import files
from emma_jax.sampling.context import SampleError

# Chunks of ours, in the order in which they are written and shown.
KEYS = (
  *("prompt", "instruction", "prompts", "seed", "seeds"),
  *("checkpoint", "settings"),
)
_GAP = 2  # pixels between the pictures of a grid
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
# Bytes of a text chunk. Pillow opens no PNG with more than 64 MB of them.
_MOST_TEXT = 2**24
# Of a picture that is made larger or put together, as in `images`.
_MOST_PIXELS = 64_000_000


def scaled(picture: Image.Image, times: int) -> Image.Image:
  """Each pixel `times` x `times` large; SampleError for less than 1."""
  check_scale(picture.height, picture.width, times)
  if times == 1:
    return picture
  size = (picture.width * times, picture.height * times)
  return picture.resize(size, Image.Resampling.NEAREST)


def check_scale(height: int, width: int, times: int) -> None:
  """Raises SampleError where `scaled` would."""
  if times < 1:
    raise SampleError(f"A scale of {times} must be 1 or more.")
  if times > 1:
    _check_size(width * times, height * times)


def grid_size(
  sizes: Sequence[tuple[int, int]], columns: int
) -> tuple[int, int]:
  """(height, width) of a `grid` of pictures of these; SampleError as there."""
  if not sizes or columns < 1:
    raise SampleError(f"A grid of {len(sizes)} in {columns} columns is none.")
  height, width = (max(side) for side in zip(*sizes))
  columns = min(columns, len(sizes))
  rows = -(-len(sizes) // columns)
  size = rows * (height + _GAP) - _GAP, columns * (width + _GAP) - _GAP
  _check_size(size[1], size[0])
  return size


def grid(pictures: Sequence[Image.Image], columns: int) -> Image.Image:
  """All pictures in rows of `columns`, each in a cell of the largest.

  Raises:
    SampleError: none, or so many that they are too large together.
  """
  height, width = grid_size([(p.height, p.width) for p in pictures], columns)
  # Many pictures are white outside.
  out = Image.new("RGB", (width, height), "silver")
  columns = min(columns, len(pictures))
  width = max(p.width for p in pictures)
  height = max(p.height for p in pictures)
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
      # Halves of characters, as of words that are no UTF-8, become escapes.
      data = text.encode("utf-8", "backslashreplace")
      if len(data) <= _MOST_TEXT:  # else nobody would open the picture
        info.add_itxt(key, data.decode())
  with files.atomic_write(path) as file:
    picture.save(file, "PNG", pnginfo=info)


def settings(path: str | os.PathLike) -> dict[str, Any]:
  """What `save_png` wrote beside the pixels; {} for a picture of others.

  Others use the same words: ComfyUI's `prompt` is a graph. Only a picture that
  has `settings`, an object, is ours. No pixel is decoded.

  Raises:
    OSError: it is no picture, or not there.
  """
  found = text_chunks(path)
  out: dict[str, Any] = {}
  for key in KEYS:
    if key not in found:
      continue
    out[key] = found[key]
    if key in ("seed", "seeds", "prompts", "settings"):
      with contextlib.suppress(ValueError, RecursionError):
        out[key] = json.loads(found[key])
  return out if isinstance(out.get("settings"), dict) else {}


def text_chunks(path: str | os.PathLike) -> dict[str, str]:
  """Keyword -> text of a PNG's text chunks; {} for a JPEG or WebP.

  Whatever is damaged, or longer than any that is written here, is passed over.

  Raises:
    OSError: it is no picture, or not there.
  """
  out: dict[str, str] = {}
  with open(path, "rb") as file:
    begin = file.read(12)
    if begin.startswith(b"\xff\xd8\xff") or begin[8:] == b"WEBP":
      return out
    if not begin.startswith(_SIGNATURE):
      raise OSError("it is no PNG, JPEG or WebP")
    file.seek(len(_SIGNATURE))
    while len(head := file.read(8)) == 8:
      length, kind = struct.unpack(">I4s", head)
      if kind == b"IEND":
        break
      if kind not in _TEXTS or length > _MOST_TEXT:
        file.seek(length + 4, os.SEEK_CUR)
        continue
      data, check = file.read(length), file.read(4)
      if check == struct.pack(">I", zlib.crc32(kind + data)):
        out |= _text(kind, data)
  return out


def _text(kind: bytes, data: bytes) -> dict[str, str]:
  """Of one chunk; {} for one that is not as the standard wants it."""
  key, _, rest = data.partition(b"\0")
  compressed = kind == b"zTXt"
  if kind == b"iTXt":
    compressed = rest[:1] == b"\1"
    _, _, rest = rest[2:].partition(b"\0")  # the language
    _, _, rest = rest.partition(b"\0")  # the keyword in it
  elif compressed:
    rest = rest[1:]
  try:
    if compressed:
      rest = zlib.decompressobj().decompress(rest, _MOST_TEXT)
    coding = "utf-8" if kind == b"iTXt" else "latin-1"
    return {key.decode("latin-1"): rest.decode(coding)}
  except (zlib.error, ValueError):
    return {}
