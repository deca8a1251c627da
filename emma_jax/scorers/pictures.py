"""Pictures as scorers take them: RGB arrays, upright."""

import io

import numpy as np
from PIL import Image, ImageOps

from emma_jax.scorers.packages import BadPicture

# A picture file, or uint8 (Y, X, 3).
Picture = bytes | np.ndarray


def rgb(picture: Picture) -> np.ndarray:
  """uint8 (Y, X, 3), contiguous; upright by EXIF, transparency over white.

  Raises:
    BadPicture: it is neither a picture file nor such an array.
  """
  if isinstance(picture, np.ndarray):
    if picture.dtype != np.uint8 or picture.shape[2:] != (3,):
      raise BadPicture(
        f"An array of {picture.dtype} {picture.shape} is no picture; it takes "
        "uint8 (height, width, 3)."
      )
    return np.ascontiguousarray(picture)
  try:
    with Image.open(io.BytesIO(picture)) as file:
      image = ImageOps.exif_transpose(file)
      if image.has_transparency_data:
        front = image.convert("RGBA")
        image = Image.new("RGBA", front.size, "white")
        image.alpha_composite(front)
      return np.array(image.convert("RGB"))
  except Exception as error:  # Pillow's plugins raise whatever they like
    raise BadPicture(
      f"{len(picture)} bytes are no picture that can be read: "
      f"{type(error).__name__}: {error}"
    ) from error
