"""Pictures in and out: files and PIL images to pixels, floats to PIL images."""

import math
from pathlib import Path

from PIL import Image, ImageOps
import torch

GRID = 32  # pixels per token and side


def to_image(picture_YXC) -> Image.Image:
  """An 8-bit RGB picture of floats (Y, X, 3) in [0, 1]."""
  x = (picture_YXC * 255).round().to("cpu", torch.uint8)
  return Image.frombytes("RGB", x.shape[1::-1], bytes(x.flatten().tolist()))


def fit(picture, data: dict):
  """uint8 pixels as in training, resized to fit and padded at right and
  bottom; (width, height) without padding, and of the picture itself. data: that
  section of the config."""
  if isinstance(picture, (str, Path)):
    picture = ImageOps.exif_transpose(Image.open(picture))
  elif not isinstance(picture, Image.Image):
    picture = Image.fromarray(picture)
  if picture.mode[0] in "IF":
    raise ValueError(f"Mode {picture.mode}: save the picture with 8 bits.")
  white = Image.new("RGBA", picture.size, "white")  # behind alpha
  rgba = Image.alpha_composite(white, picture.convert("RGBA"))
  picture = rgba.convert("RGB")
  full = (data["width"], data["height"])
  scale = min(most / n for n, most in zip(picture.size, full))
  if data["native"]:
    scale, full = 1, tuple(GRID * math.ceil(n / GRID) for n in picture.size)
    tokens = math.prod(full) // GRID**2
    if not data["min_tokens"] <= tokens <= data["max_tokens"]:
      raise ValueError(f"{picture.size} pixels: resize the picture first.")
  content = tuple(
    min(max(1, round(n * scale)), most) for n, most in zip(picture.size, full)
  )
  canvas = Image.new("RGB", full, "white")
  canvas.paste(picture.resize(content, Image.Resampling.BICUBIC))
  pixels = torch.frombuffer(bytearray(canvas.tobytes()), dtype=torch.uint8)
  return pixels.view(*full[::-1], 3), content, picture.size
