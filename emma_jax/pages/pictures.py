"""Pictures that a page holds itself."""

import base64
import dataclasses
import io

import numpy as np
from PIL import Image, ImageOps


@dataclasses.dataclass(frozen=True)
class Picture:
  """What `pictures.html.j2` shows; `alt` appears under the mouse too."""

  src: str
  alt: str = ""
  classes: str = ""


def embedded(picture_YXC: np.ndarray) -> str:
  """The address of a uint8 picture that is its own content, as PNG."""
  buffer = io.BytesIO()
  image = Image.fromarray(np.ascontiguousarray(picture_YXC))
  image.save(buffer, format="PNG", optimize=True)
  data = base64.b64encode(buffer.getvalue()).decode()
  return f"data:image/png;base64,{data}"


def thumbnail(data: bytes, side: int) -> str:
  """The address of a picture file, shrunk to `side` pixels, as JPEG.

  Args:
    data: of a file of any format; of several frames the first is shown.
    side: of the result at most; smaller pictures stay as they are.

  Raises:
    ValueError: it is no picture, or too large a one to be opened safely.
  """
  buffer = io.BytesIO()
  try:
    with Image.open(io.BytesIO(data)) as image:
      image.draft("RGB", (2 * side, 2 * side))  # decodes JPEG at that size
      shown = ImageOps.exif_transpose(image).convert("RGBA")
      shown.thumbnail((side, side))
      white = Image.new("RGBA", shown.size, "white")
      white.alpha_composite(shown)
      white.convert("RGB").save(buffer, "JPEG", quality=82, optimize=True)
  except Exception as error:  # of damaged files Pillow raises many kinds
    raise ValueError(f"no picture that can be shown: {error}") from error
  content = base64.b64encode(buffer.getvalue()).decode()
  return f"data:image/jpeg;base64,{content}"
