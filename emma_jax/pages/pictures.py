"""Pictures that a page holds itself."""

import base64
import dataclasses
import io

import numpy as np
from PIL import Image


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
