"""What people give: one thing or a list, pictures of any kind.

A list is a request for each of its entries; what is no list counts for all of
them. Several pictures of one request are a tuple (or a list within a list).
"""

from collections.abc import Iterable, Sequence
import io
import os
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from emma_jax.sampling.context import SampleError
from emma_jax.structs import RawPicture, WithLatent

# Modes of Pillow that PNG holds, samples of any depth and what is transparent.
_PNG_MODES = ("1", "L", "LA", "P", "RGBA", "I", "I;16", "I;16B", "I;16L")


def is_picture(value: Any) -> bool:
  """Whether it is one picture, whatever of."""
  if isinstance(value, np.ndarray):
    return value.ndim in (2, 3)
  kinds = (Image.Image, str, os.PathLike, bytes, WithLatent)
  return isinstance(value, kinds)


def picture(value: Any, name: str = "picture") -> RawPicture:
  """One picture as the model takes it; SampleError for what is none.

  A Pillow image counts as its file would: upright by EXIF, white where it is
  transparent.
  """
  if not is_picture(value):
    raise SampleError(
      f"{name} is {_short(value)}; give a PIL image, a uint8 array (rows, "
      "columns, 3), a file's name or its bytes."
    )
  if isinstance(value, Image.Image):
    return _of_pillow(value)
  if isinstance(value, os.PathLike):
    value = os.fspath(value)
  if isinstance(value, str) and not os.path.isfile(value):
    raise SampleError(f"{name} {value[:200]!r}: there is no such file.")
  return value


def _of_pillow(image: Image.Image) -> RawPicture:
  upright = ImageOps.exif_transpose(image)
  if upright.mode == "RGB" and "transparency" not in upright.info:
    return np.array(upright)
  kind = "TIFF" if upright.mode == "CMYK" else "PNG"
  if upright.mode not in (*_PNG_MODES, "CMYK", "RGB"):
    upright = upright.convert("RGB")
  out = io.BytesIO()
  upright.save(out, kind)
  return out.getvalue()


def is_many(value: Any) -> bool:
  """Whether it is a list of requests: a list, or an array of pictures."""
  if isinstance(value, np.ndarray):
    return value.ndim == 4
  one = (str, bytes, os.PathLike, Image.Image, tuple, WithLatent)
  return isinstance(value, Iterable) and not isinstance(value, one)


def texts(value: Any, name: str) -> tuple[list[str], bool]:
  """(the texts, whether there are many); SampleError for anything else."""
  many = isinstance(value, tuple) or is_many(value)
  found = list(value) if many else [value]
  for i, one in enumerate(found):
    if not isinstance(one, str):
      where = f"{name} {i}" if many else name
      raise SampleError(
        f"{where} is {_short(one)}; give a text, or a list of texts."
      )
  return found, many


def pictures(
  value: Any, name: str = "picture", none: bool = False
) -> tuple[list[tuple[RawPicture, ...]], bool]:
  """(each request's pictures, whether there are many requests).

  `none`: None stands for a request without a picture.
  """
  many = is_many(value)
  found = list(value) if many else [value]
  out: list[tuple[RawPicture, ...]] = []
  for i, one in enumerate(found):
    where = f"{name} {i}" if many else name
    if one is None and none:
      out.append(())
    elif isinstance(one, (tuple, list)) and all(map(is_picture, one)):
      out.append(tuple(picture(p, where) for p in one))
    else:
      out.append((picture(one, where),))
  return out, many


def equally_many(**given: tuple[Sequence[Any], bool]) -> list[list[Any]]:
  """What is no list as often as there are entries of those that are.

  Raises:
    SampleError: lists of several lengths.
  """
  lengths = {name: len(x) for name, (x, many) in given.items() if many}
  if len(set(lengths.values())) > 1:
    said = " and ".join(f"{n} {name}s" for name, n in lengths.items())
    raise SampleError(
      f"{said}: give equally many, or one of either without a list. Several "
      "pictures of one request are a tuple."
    )
  count = next(iter(lengths.values()), 1)
  return [list(x) if many else list(x) * count for x, many in given.values()]


def size(value: Any) -> tuple[int, int] | None:
  """(rows, columns) of 96, of (64, 96) or of None."""
  if value is None:
    return None
  found = (value, value) if isinstance(value, (int, np.integer)) else value
  try:
    height, width = found
    ok = all(isinstance(n, (int, np.integer)) for n in (height, width))
  except (TypeError, ValueError):
    ok = False
  if not ok or isinstance(value, (bool, str)):
    raise SampleError(
      f"size={value!r}: give (rows, columns) of pixels, or one number."
    )
  return int(height), int(width)


def _short(value: Any) -> str:
  text = repr(value)
  return text if len(text) <= 40 else f"{text[:40]}... ({type(value).__name__})"
