"""JPEG decoding and shrinking at two to five times Pillow's speed.

Optional (extra `fast`): simplejpeg decodes, OpenCV shrinks by INTER_AREA. What
they give lies within 1/255 of Pillow's antialiased bicubic on average, so it is
another preprocessing, with a fingerprint of its own. Only sound RGB JPEG is
theirs: everything else, and whatever simplejpeg objects to, is Pillow's, so a
file is used or refused by the same rules (OpenCV's own decoder fills damage
with grey).
"""

from collections.abc import Callable
import functools
from typing import Any

import numpy as np

# A picture is decoded at most so small that it still is to be halved: the
# decoder's own scaling is coarser than INTER_AREA.
_MARGIN = 2


@functools.cache
def libraries() -> tuple[Any, Any]:
  """(simplejpeg, cv2); ValueError where they are not installed."""
  try:
    import cv2
    import simplejpeg
  except ImportError as error:
    raise ValueError(
      f"codec='fast' needs simplejpeg and OpenCV ({error}): pip install "
      "emma-jax with its extra `fast`, or set codec='pillow'."
    ) from error
  cv2.setNumThreads(1)  # the stream has threads and processes of its own
  return simplejpeg, cv2


def decode(
  data: bytes, content: Callable[[int, int], tuple[int, int]]
) -> np.ndarray | None:
  """RGB of a JPEG (Y, X, 3), perhaps scaled; None: Pillow shall try.

  content: (y, x) of a picture -> (y, x) that it will be resized to.
  """
  simplejpeg, _ = libraries()
  try:
    y, x, *_ = simplejpeg.decode_jpeg_header(data)
    wanted_y, wanted_x = content(y, x)
    # Factors between 1 and 2 cost more than they save.
    return simplejpeg.decode_jpeg(
      data,
      min_height=_MARGIN * wanted_y,
      min_width=_MARGIN * wanted_x,
      min_factor=2,
    )
  except (ValueError, RuntimeError):  # damaged, or no ordinary JPEG
    return None


def shrink(picture_YXC: np.ndarray, size: tuple[int, int]) -> np.ndarray | None:
  """Resized to (y, x); None where it would not be smaller both ways."""
  y, x, _ = picture_YXC.shape
  if size[0] > y or size[1] > x:
    return None
  _, cv2 = libraries()
  return cv2.resize(picture_YXC, size[::-1], interpolation=cv2.INTER_AREA)
