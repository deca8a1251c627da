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


def fit(picture, framing: dict, role: str = "und", bucket=None):
  """A picture as in training: uint8 pixels (rows, columns, 3); (rows, columns)
  without padding, and of the picture itself.

  framing: that section of config.json. role: "und" in questions, "ref" of
  edits. bucket: (rows, columns) that the first of several pictures got.
  """
  picture = upright(picture)
  y, x = size = picture.size[::-1]
  rule = framing["understanding" if role == "und" else "generation"]
  if bucket and role == "ref":  # as large as the first
    rule = rule | {"native": False}
  content, full, box = place(y, x, rule, bucket or nearest(y, x, framing))
  lost = 1 - (box[3] - box[1]) * (box[2] - box[0]) / (y * x)
  if lost > rule["max_crop"]:
    raise ValueError(
      f"{y}x{x} pixels would lose {lost:.0%} in {full[0]}x{full[1]}, more than "
      f"max_crop={rule['max_crop']}: crop the picture first."
    )
  canvas = Image.new("RGB", full[::-1], "white")
  canvas.paste(picture.resize(content[::-1], Image.Resampling.BICUBIC, box=box))
  return to_pixels(canvas), content, size


def place(y: int, x: int, rule: dict, frame: tuple[int, int]):
  """Of y x x pixels: (rows, columns) of what is seen, the same with the padding
  at its right and below, and left, top, right, bottom of the part seen."""
  whole = (0, 0, x, y)
  if rule["native"]:
    rows, columns = native_size(y, x, rule["min_tokens"], rule["max_tokens"])
    full = GRID * math.ceil(rows / GRID), GRID * math.ceil(columns / GRID)
    return (rows, columns), full, whole
  scale = min(frame[0] / y, frame[1] / x)
  if rule["fit"] == "pad":
    rows, columns = max(1, round(y * scale)), max(1, round(x * scale))
    return (min(rows, frame[0]), min(columns, frame[1])), frame, whole
  content = frame  # covered; by "pad_cells" no more than the tokens it takes
  if rule["fit"] == "pad_cells":
    cells = scale / GRID
    rows, columns = (max(1, round(n * cells)) * GRID for n in (y, x))
    content = min(rows, frame[0]), min(columns, frame[1])
  return content, frame, centre(y, x, *content)


def drawn_size(y: int, x: int, framing: dict) -> tuple[int, int]:
  """(rows, columns) of what is drawn for a picture of y x x pixels."""
  rule = framing["generation"]
  return result_size(rule, *place(y, x, rule, nearest(y, x, framing))[:2])


def result_size(rule: dict, content, full) -> tuple[int, int]:
  """(rows, columns) of a result: padding by whole tokens is no part of it."""
  return content if rule["fit"] == "pad_cells" else full


def upright(picture) -> Image.Image:
  """RGB of a path, a PIL image or a uint8 array, on white where it is clear."""
  if isinstance(picture, (str, Path)):
    with Image.open(picture) as opened:
      picture = ImageOps.exif_transpose(opened)
  elif not isinstance(picture, Image.Image):
    picture = Image.fromarray(picture)
  if picture.mode[0] in "IF":
    raise ValueError(f"Mode {picture.mode}: save the picture with 8 bits.")
  if picture.mode == "La":  # Pillow's only way from premultiplied grey
    picture = picture.convert("LA")
  alpha = picture.mode in ("RGBA", "LA", "PA", "RGBa")
  if alpha or "transparency" in picture.info:
    white = Image.new("RGBA", picture.size, "white")
    picture = Image.alpha_composite(white, picture.convert("RGBA"))
  return picture.convert("RGB")


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


def nearest(y: int, x: int, framing: dict) -> tuple[int, int]:
  """(rows, columns) of the bucket whose shape is nearest; or the one size."""
  sizes, rule = [tuple(n) for n in framing["buckets"]], framing["generation"]
  sizes = sorted(sizes or [(rule["height"], rule["width"])], key=_ratio)
  ratios = [_ratio(size) for size in sizes]
  borders = [math.sqrt(a * b) for a, b in itertools.pairwise(ratios)]
  return sizes[sum(border < y / x for border in borders)]


def _ratio(size: tuple[int, int]) -> float:
  return size[0] / size[1]


def centre(y: int, x: int, height: int, width: int):
  """Left, top, right, bottom of the largest part of that shape."""
  kept_y = min(x * height / width, y)
  kept_x = min(y * width / height, x)
  top, left = (y - kept_y) / 2, (x - kept_x) / 2
  return left, top, left + kept_x, top + kept_y


def native_size(y: int, x: int, low: int, high: int) -> tuple[int, int]:
  """(rows, columns): its own, or resized into `low` to `high` tokens."""
  count = lambda y, x: math.ceil(x / GRID) * math.ceil(y / GRID)
  size, tokens = (y, x), count(y, x)
  limit = high if tokens > high else low
  scale = math.sqrt(limit * GRID * GRID / (y * x))
  for _ in range(10_000):
    if low <= tokens <= high:
      return size
    size = max(1, round(y * scale)), max(1, round(x * scale))
    tokens = count(*size)
    scale *= 0.995 if tokens > high else 1.003
  raise ValueError(f"{y}x{x} pixels have no size of {low} to {high} tokens.")
