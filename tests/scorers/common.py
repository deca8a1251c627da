"""Pictures and calls of the scorers' tests."""

from collections.abc import Sequence
import io
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from emma_jax.judge.base import Call


def png(pixels: np.ndarray) -> bytes:
  out = io.BytesIO()
  Image.fromarray(pixels).save(out, "PNG")
  return out.getvalue()


def plain(colour: Any = "red", height: int = 8, width: int = 8) -> np.ndarray:
  return np.array(Image.new("RGB", (width, height), colour))


def written(lines: Sequence[tuple[int, str]], side: int) -> np.ndarray:
  """A square, black on white: (pixels, text) from the top to the bottom."""
  image = Image.new("RGB", (side, side), "white")
  draw, y = ImageDraw.Draw(image), 10
  for size, text in lines:
    # Pillow's own font: what the system has does not count.
    draw.text((12, y), text, "black", ImageFont.load_default(size))
    y += round(size * 1.3) + 8
  assert y < side + 8, f"{y} pixels are written, {side} are there."
  return np.array(image)


def call(*pictures: bytes, text: str = "", **options: Any) -> Call:
  return Call(id="t/1/0/x", text=text, pictures=pictures, options=options)
