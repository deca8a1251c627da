"""One picture of many: what was asked, what was shown, what came of it."""

from collections.abc import Sequence
import pathlib
import textwrap
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from emma_jax import files
from emma_jax.data.pictures.preprocess import resized

# Of a cell, in pixels; larger pictures are shrunk.
SIDE = 192
_GAP, _LINE, _LETTERS = 8, 16, 26
_FONT = 13


class Row(NamedTuple):
  """A line of the sheet; a cell is a picture, uint8 (Y, X, 3), or a text."""

  text: str
  shown: Sequence[np.ndarray]
  cells: Sequence[np.ndarray | str]


def sheet(rows: Sequence[Row], head: Sequence[str]) -> np.ndarray:
  """uint8 (Y, X, 3): a line per row, `head` above the cells.

  Texts stand left, then the pictures that were shown, then the cells.
  """
  shown = max((len(row.shown) for row in rows), default=0)
  columns = 1 + shown + len(head)
  heights = [_height(row) for row in rows]
  size = (
    columns * (SIDE + _GAP) + _GAP,
    _LINE + _GAP + sum(h + _GAP for h in heights),
  )
  image = Image.new("RGB", size, "white")
  draw = ImageDraw.Draw(image)
  left = lambda column: _GAP + column * (SIDE + _GAP)
  for i, name in enumerate(head):
    _write(draw, (left(1 + shown + i), 4), name)
  top = _LINE + _GAP
  for row, height in zip(rows, heights):
    _write(draw, (left(0), top), row.text)
    for i, cell in enumerate((*row.shown, *row.cells)):
      # Without sources the cells stand where all others' do.
      column = 1 + i + (shown - len(row.shown) if i >= len(row.shown) else 0)
      if isinstance(cell, str):
        _write(draw, (left(column), top), cell)
      else:
        image.paste(Image.fromarray(_shrunk(cell)), (left(column), top))
    top += height + _GAP
  return np.asarray(image)


def save(path: pathlib.Path, picture_YXC: np.ndarray) -> None:
  """A PNG file, whole or not at all."""
  with files.atomic_write(path) as file:
    Image.fromarray(np.ascontiguousarray(picture_YXC)).save(file, "PNG")


def _height(row: Row) -> int:
  texts = [row.text, *(c for c in row.cells if isinstance(c, str))]
  lines = max(len(_wrapped(text)) for text in texts)
  pictures = [*row.shown, *(c for c in row.cells if not isinstance(c, str))]
  return max(lines * _LINE, *(len(_shrunk(p)) for p in pictures), _LINE)


def _shrunk(picture_YXC: np.ndarray) -> np.ndarray:
  y, x, _ = picture_YXC.shape
  scale = min(1.0, SIDE / max(y, x))
  size = (max(1, round(y * scale)), max(1, round(x * scale)))
  return np.ascontiguousarray(resized(picture_YXC, size))


def _wrapped(text: str) -> list[str]:
  lines = textwrap.wrap(text, _LETTERS)[:12]
  return lines or ["-"]


def _write(draw: ImageDraw.ImageDraw, at: tuple[int, int], text: str) -> None:
  font = ImageFont.load_default(_FONT)
  for n, line in enumerate(_wrapped(text)):
    place = (at[0], at[1] + n * _LINE)
    try:
      draw.text(place, line, fill="black", font=font)
    except UnicodeError:  # Pillow without FreeType knows Latin letters alone
      plain = line.encode("latin-1", "replace").decode("latin-1")
      draw.text(place, plain, fill="black", font=font)
