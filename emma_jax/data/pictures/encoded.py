"""The encoded bytes of a picture, however a row of a public set holds it."""

import io
import os
from typing import Any

import numpy as np
from PIL import Image

from emma_jax.data.pictures import images
from emma_jax.data.pictures.images import BadRecord


def encoded(value: Any, key: str, where: str, folder: str) -> bytes:
  """Bytes of a picture: given, in a file, an array, Hugging Face's struct."""
  if isinstance(value, dict) and ("bytes" in value or "path" in value):
    given = value.get("bytes")
    value = value.get("path") if given is None else given
  if isinstance(value, (bytes, bytearray, memoryview)):
    return bytes(value)
  if isinstance(value, np.ndarray):
    picture_YXC = images.load_picture(value, where)
    out = io.BytesIO()
    Image.fromarray(picture_YXC).save(out, "PNG")
    return out.getvalue()
  if not isinstance(value, str) or not value:
    raise BadRecord(where, f"{key} is {value!r:.80}, not a picture or its path")
  path = os.path.join(folder, value)
  # A pipe or a device would be read for ever.
  if "\0" in path or not os.path.isfile(path):
    raise BadRecord(where, f"{key}: no such picture {value!r}")
  with open(path, "rb") as file:
    data = file.read(images.MAX_BYTES + 1)
  if not data:
    raise BadRecord(where, f"{key}: {value!r} has zero bytes")
  return data
