"""Pictures in and out: files and PIL images to pixels, floats to PIL images."""

import itertools
import math
from pathlib import Path

from PIL import Image, ImageOps
import torch

GRID = 32  # pixels per token and side


def to_image(picture_YXC) -> Image.Image:
  """An 8-bit RGB picture of floats (Y, X, 3) in [0, 1]."""
  x = (picture_YXC * 255).round().to("cpu", torch.uint8)
  return Image.frombytes("RGB", x.shape[1::-1], bytes(x.flatten().tolist()))


def fit(picture, data: dict, role: str = "und", bucket=None):
  """A picture as in training: uint8 pixels (rows, columns, 3); (width, height)
  without padding, and of the picture itself.

  data: that section of the config. role: "und" in questions, "ref" of edits.
  bucket: (rows, columns) of the frame; the nearest by shape, unless given.
  """
  picture = upright(picture)
  x, y = picture.size
  rows, columns = bucket or nearest(y, x, data)
  full, box = (columns, rows), None
  if role == "und" and data["native"]:
    content = native_size(x, y, data["min_tokens"], data["max_tokens"])
    wide, high = (GRID * math.ceil(n / GRID) for n in content)
    full = wide, high
  elif role == "und" or data["fit"] == "pad_learned":
    scale = min(rows / y, columns / x)
    content = min(max(1, round(x * scale)), columns), round(y * scale)
    content = content[0], min(max(1, content[1]), rows)
  else:
    content = drawn_size(y, x, rows, columns, data)[::-1]
    box = centre(y, x, *content[::-1])
    lost = 1 - (box[3] - box[1]) * (box[2] - box[0]) / (y * x)
    if lost > data["max_crop"]:
      raise ValueError(
        f"{picture.size} pixels would lose {lost:.0%} in {full}, more than "
        f"max_crop={data['max_crop']}: crop the picture first."
      )
  canvas = Image.new("RGB", full, "white")
  canvas.paste(picture.resize(content, Image.Resampling.BICUBIC, box=box))
  return to_pixels(canvas), content, picture.size


def upright(picture) -> Image.Image:
  """RGB of a path, a PIL image or a uint8 array, on white where it is clear."""
  if isinstance(picture, (str, Path)):
    picture = ImageOps.exif_transpose(Image.open(picture))
  elif not isinstance(picture, Image.Image):
    picture = Image.fromarray(picture)
  if picture.mode[0] in "IF":
    raise ValueError(f"Mode {picture.mode}: save the picture with 8 bits.")
  white = Image.new("RGBA", picture.size, "white")  # behind alpha
  return Image.alpha_composite(white, picture.convert("RGBA")).convert("RGB")


def to_pixels(image: Image.Image) -> torch.Tensor:
  """uint8 (rows, columns, 3)."""
  flat = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
  return flat.view(*image.size[::-1], 3)


def resized(picture_YXC, size, box=None):
  """Floats in [0, 1] at `size` (rows, columns), by way of 8 bits; the same if
  that is its size. box: left, top, right, bottom of the part that is used."""
  if tuple(picture_YXC.shape[:2]) == tuple(size):
    return picture_YXC
  image = to_image(picture_YXC).resize(
    tuple(size)[::-1], Image.Resampling.BICUBIC, box=box
  )
  return to_pixels(image).to(picture_YXC) / 255


def nearest(y: int, x: int, data: dict) -> tuple[int, int]:
  """(rows, columns) of the bucket whose shape is nearest; or the one size."""
  sizes = [tuple(size) for size in data["buckets"]]
  sizes = sorted(sizes or [(data["height"], data["width"])], key=_ratio)
  ratios = [_ratio(size) for size in sizes]
  borders = [math.sqrt(a * b) for a, b in itertools.pairwise(ratios)]
  return sizes[sum(border < y / x for border in borders)]


def _ratio(size: tuple[int, int]) -> float:
  return size[0] / size[1]


def drawn_size(y: int, x: int, rows: int, columns: int, data: dict):
  """(rows, columns) of what is drawn in a frame for a picture of y x x pixels:
  all of it, unless padding by whole tokens takes a part."""
  if data["fit"] != "pad":
    return rows, columns
  scale = min(rows / y, columns / x) / GRID
  return (
    min(max(1, round(y * scale)) * GRID, rows),
    min(max(1, round(x * scale)) * GRID, columns),
  )


def centre(y: int, x: int, height: int, width: int):
  """Left, top, right, bottom of the largest part of that shape."""
  kept_y = min(x * height / width, y)
  kept_x = min(y * width / height, x)
  top, left = (y - kept_y) / 2, (x - kept_x) / 2
  return left, top, left + kept_x, top + kept_y


def native_size(x: int, y: int, low: int, high: int) -> tuple[int, int]:
  """(width, height): its own, or resized into `low` to `high` tokens."""
  count = lambda x, y: math.ceil(x / GRID) * math.ceil(y / GRID)
  size, tokens = (x, y), count(x, y)
  limit = high if tokens > high else low
  scale = math.sqrt(limit * GRID * GRID / (y * x))
  for _ in range(10_000):
    if low <= tokens <= high:
      return size
    size = max(1, round(x * scale)), max(1, round(y * scale))
    tokens = count(*size)
    scale *= 0.995 if tokens > high else 1.003
  raise ValueError(f"{x}x{y} pixels have no size of {low} to {high} tokens.")
