"""Photographs of the package scikit-image (extra `photos`)."""

import numpy as np
from PIL import Image
import pytest


def portrait() -> np.ndarray:
  """uint8 (Y, X, 3): one face, before a flag and a shuttle."""
  return _data().astronaut()


def nobody() -> dict[str, np.ndarray]:
  """Without any face."""
  data = _data()
  return {"cat": data.chelsea(), "coffee": data.coffee()}


def stranger(number: int, size: int = 260) -> np.ndarray:
  """A face of 25x25 pixels, grey, enlarged and framed."""
  face = np.uint8(np.clip(_data().lfw_subset()[number] * 255, 0, 255))
  inner = size * 140 // 260
  enlarged = Image.fromarray(face).resize((inner, inner)).convert("RGB")
  frame = Image.new("RGB", (size, size), "grey")
  frame.paste(enlarged, ((size - inner) // 2, (size - inner) // 2))
  return np.array(frame)


def resized(pixels: np.ndarray, factor: float) -> np.ndarray:
  size = [round(side * factor) for side in pixels.shape[1::-1]]
  return np.array(
    Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS)
  )


def _data():
  return pytest.importorskip("skimage.data")
