"""What people give: one thing or a list, pictures of any kind.

A list is a request for each of its entries; what is no list counts for all of
them. Several pictures of one request are a tuple (or a list within a list).
"""

from collections.abc import Iterable, Mapping, Sequence, Set
import io
import itertools
import os
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from emma_jax.data.pictures.bad_record import MAX_BYTES, BadRecord
from emma_jax.sampling.context import SampleError
from emma_jax.structs import RawPicture, WithLatent

# Modes of Pillow that PNG holds, samples of any depth and what is transparent.
_PNG_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")
# Other modes, to one that PNG holds and that keeps what is transparent.
_TO_PNG = {"La": "LA", "RGBa": "RGBA", "PA": "RGBA"}
# Of a list: an iterator may have no end.
_MOST = 1_000_000
_BYTES = (bytes, bytearray, memoryview)


def is_picture(value: Any) -> bool:
  """Whether it is one picture, whatever of."""
  if _is_array(value):
    return len(value.shape) in (2, 3)
  kinds = (Image.Image, str, os.PathLike, *_BYTES, WithLatent)
  return isinstance(value, kinds) or _is_file(value)


def _is_array(value: Any) -> bool:
  """Of NumPy, or what can become one: of JAX, torch, pandas."""
  has = all(hasattr(value, x) for x in ("__array__", "shape", "dtype"))
  return has and not isinstance(value, np.generic)


def _is_file(value: Any) -> bool:
  return callable(getattr(value, "read", None))


def picture(value: Any, name: str = "picture") -> RawPicture:
  """One picture as the model takes it; SampleError for what is none.

  A Pillow image counts as its file would: upright by EXIF, white where it is
  transparent.
  """
  if not is_picture(value):
    raise SampleError(
      f"{name} is {_short(value)}; give a PIL image, a uint8 array (rows, "
      "columns, 3), a file, its name or its bytes."
    )
  if isinstance(value, Image.Image):
    return _of_pillow(value, name)
  if _is_array(value):
    return _of_array(value, name)
  if isinstance(value, _BYTES):
    return bytes(value)
  if _is_file(value):
    return _of_file(value, name)
  if isinstance(value, os.PathLike):
    value = os.fspath(value)
  path = os.path.expanduser(value) if isinstance(value, str) else value
  if isinstance(path, str) and not os.path.isfile(path):
    raise SampleError(f"{name} {value[:200]!r}: there is no such file.")
  return path


def kept(raw: RawPicture) -> RawPicture:
  """The same picture, also once its file or array has become another."""
  if isinstance(raw, np.ndarray):
    return raw.copy()
  if isinstance(raw, str):
    with open(raw, "rb") as file:
      return file.read(MAX_BYTES + 1)
  return raw


def _of_array(value: Any, name: str) -> np.ndarray:
  try:
    array = np.asarray(value)
  except Exception as error:  # torch: of a GPU, or with a gradient
    raise SampleError(
      f"{name} is a {type(value).__name__} that is no NumPy array: {error}"
    ) from error
  shape = array.shape
  if array.dtype != np.uint8:
    raise SampleError(
      f"{name} is an array of {array.dtype}; give uint8, 0 is black and 255 is "
      'white: of x from 0 to 1, (255 * x).round().astype("uint8").'
    )
  if 0 in shape or (len(shape) == 3 and shape[-1] not in (1, 3, 4)):
    last = ""
    if len(shape) == 3 and shape[0] in (1, 3, 4):
      last = ": x.transpose(1, 2, 0) of NumPy, x.permute(1, 2, 0) of torch"
    raise SampleError(
      f"{name} is an array of shape {shape}; give (rows, columns, 3){last}."
    )
  return array


def _of_file(file: Any, name: str) -> bytes:
  """All of it, wherever it was left."""
  if getattr(file, "seekable", lambda: False)():
    file.seek(0)
  found = file.read(MAX_BYTES + 1)
  if not isinstance(found, bytes):
    raise SampleError(f'{name} is a file of text; open it with "rb".')
  return found


def _of_pillow(image: Image.Image, name: str) -> RawPicture:
  if image.mode == "F":
    raise SampleError(
      f"{name} is a picture of floats, which say not what is white; give 8 "
      "bits: of values from 0 to 1, Image.fromarray((255 * np.asarray(x))"
      '.round().astype("uint8")).'
    )
  try:
    image.load()
    upright = _upright(image)
    if upright.mode == "RGB" and "transparency" not in upright.info:
      return np.array(upright)
    kind = "TIFF" if upright.mode == "CMYK" else "PNG"
    if upright.mode.startswith("I"):  # some 16 bits in another order, or in 32
      wide = np.clip(np.asarray(upright), 0, 2**16 - 1).astype(np.uint16)
      upright, info = Image.fromarray(wide), upright.info
      upright.info |= info
    elif upright.mode not in (*_PNG_MODES, "CMYK"):
      upright = upright.convert(_TO_PNG.get(upright.mode, "RGB"))
    out = io.BytesIO()
    upright.save(out, kind)
    return out.getvalue()
  except Exception as error:  # Pillow's plugins raise whatever they like
    raise BadRecord(
      name, f"cannot read the picture: {type(error).__name__}: {error}"
    ) from error


def _upright(image: Image.Image) -> Image.Image:
  try:
    return ImageOps.exif_transpose(image)
  except Exception:  # a broken block must not cost a sound picture
    return image


def is_many(value: Any) -> bool:
  """Whether it is a list of requests: a list, or an array of pictures."""
  if _is_array(value):
    return len(value.shape) == 4
  # A dict's keys, or a set's order, are no list that anybody meant.
  one: tuple = (str, *_BYTES, os.PathLike, Image.Image, tuple, WithLatent)
  one = (*one, Mapping, Set)
  return (
    isinstance(value, Iterable)
    and not isinstance(value, one)
    and not _is_file(value)
  )


def _entries(value: Any, name: str) -> list[Any]:
  """Of what is a list; SampleError for one without an end."""
  found = list(itertools.islice(value, _MOST + 1))
  if len(found) > _MOST:
    raise SampleError(f"More than {_MOST} {name}s; give them in parts.")
  return found


def _is_row(value: Any) -> bool:
  """Whether it is a list of what is no picture: also a tuple, or an array."""
  if _is_array(value):
    return len(value.shape) == 1
  return isinstance(value, tuple) or is_many(value)


def seeds(value: Any) -> list[Any] | None:
  """Those of a list of them; None for one seed."""
  if not _is_row(value):
    return None
  found = np.asarray(value) if _is_array(value) else value
  return _entries(found, "seed")


def texts(value: Any, name: str) -> tuple[list[str], bool]:
  """(the texts, whether there are many); SampleError for anything else."""
  many = _is_row(value)
  found = _entries(value, name) if many else [value]
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
  found = _entries(value, name) if many else [value]
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
