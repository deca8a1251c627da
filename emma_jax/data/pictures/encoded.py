"""The encoded bytes of a picture, however a row of a public set holds it."""

import functools
import io
import os
import re
from typing import Any
import unicodedata

import numpy as np
from PIL import Image

from emma_jax.data.pictures import images
from emma_jax.data.pictures.images import BadRecord

# What stands where a path is expected, and what to do about it.
_ADDRESS = re.compile(r"(https?|ftp|s3|gs|hf)://", re.IGNORECASE)
_BASE64 = re.compile(r"(data:image/|[A-Za-z0-9+/=\s]{300})")
_LONGEST = 200  # characters of a value that a message has


class Outside(BadRecord):
  """A path that leaves the folder of its set."""


def png(picture_YXC: np.ndarray) -> bytes:
  """A PNG file of a uint8 picture."""
  out = io.BytesIO()
  Image.fromarray(picture_YXC).save(out, "PNG")
  return out.getvalue()


def encoded(
  value: Any,
  key: str,
  where: str,
  folder: str,
  allow_outside: bool = False,
  most: int = images.MAX_BYTES,
) -> bytes:
  """Bytes of a picture: given, in a file, an array, Hugging Face's struct.

  Args:
    value: of a row.
    key, where: of the value, for messages.
    folder: of the set: relative paths begin there, and none may leave it.
    allow_outside: paths may leave it.
    most: larger pictures are not read.

  Raises BadRecord; Outside for a path that is not allowed.
  """
  if isinstance(value, dict) and ("bytes" in value or "path" in value):
    given = value.get("bytes")
    value = value.get("path") if given is None else given
  if isinstance(value, Image.Image):
    raise BadRecord(
      where,
      f"{key} is a picture that is decoded already; give the bytes of its file "
      f"(Hugging Face: cast_column({key!r}, Image(decode=False)))",
    )
  if isinstance(value, np.ndarray):
    value = png(images.load_picture(value, where))
  if isinstance(value, (bytes, bytearray, memoryview)):
    _check_size(len(value), key, where, most)
    return bytes(value)
  if not isinstance(value, str) or not value:
    raise BadRecord(where, f"{key} is {value!r:.80}, not a picture or its path")
  path = path_of(value, key, where, folder, allow_outside)
  _check_size(os.path.getsize(path), key, where, most)
  with open(path, "rb") as file:
    data = file.read(most + 1)
  if not data:
    raise BadRecord(where, f"{key}: {value!r} has zero bytes")
  return data


def path_of(
  value: Any, key: str, where: str, folder: str, allow_outside: bool
) -> str:
  """The file that a row names; BadRecord, or Outside, where it may not."""
  if not isinstance(value, str) or not value:
    raise BadRecord(where, f"{key} is {value!r:.80}, not a path")
  path = os.path.join(folder, value)
  if not os.path.isfile(path):
    path = _written_otherwise(folder, value) or path
  # A pipe or a device would be read for ever.
  if "\0" in path or not os.path.isfile(path):
    raise BadRecord(where, missing(key, value))
  if not allow_outside:
    real, inside = os.path.realpath(path), _real_folder(folder)
    if os.path.commonpath([real, inside]) != inside:
      raise Outside(
        where,
        f"{key}: {value!r} is outside of {folder} and is not read; allow it "
        "by --allow-outside (of a source: jsonl-outside:PATH), or name the "
        "folder by --images",
      )
  return path


def _written_otherwise(folder: str, value: str) -> str | None:
  """The file that Windows or a Mac has meant: with backslashes, with letters
  and their accents apart or as one."""
  for name in (value, value.replace("\\", "/")):
    for form in ("NFC", "NFD"):
      path = os.path.join(folder, unicodedata.normalize(form, name))
      if "\0" not in path and os.path.isfile(path):
        return path
  return None


def missing(key: str, value: str) -> str:
  """Why a value of a row names no picture.

  >>> missing("image", "https://a.org/a.png")[:47]
  "image: 'https://a.org/a.png' is an address, and"
  """
  shown = repr(value[:_LONGEST]) + ("..." if len(value) > _LONGEST else "")
  if _ADDRESS.match(value):
    return (
      f"{key}: {shown} is an address, and nothing is downloaded; download the "
      "pictures and name the files, or keep their bytes in Parquet"
    )
  if _BASE64.match(value):
    return (
      f"{key} is base64 ({value[:20]}...), not a path; write the pictures to "
      "files and name them, or keep their bytes in Parquet"
    )
  return f"{key}: no such picture {shown}"


@functools.lru_cache(maxsize=64)
def _real_folder(folder: str) -> str:
  return os.path.realpath(folder)


def _check_size(size: int, key: str, where: str, most: int) -> None:
  if size > most:
    raise BadRecord(
      where,
      f"{key}: {size:,} bytes are more than the {most:,} that are read (a "
      f"record with all its pictures: {images.MAX_BYTES:,})",
    )
