"""Pictures as a judge is sent them: their format and their size."""

import io
import math
from typing import Literal, get_args

from PIL import Image, ImageOps

Format = Literal["as_is", "png", "jpeg"]
FORMATS: tuple[str, ...] = get_args(Format)

# What servers read. MPO: JPEG of a camera with further pictures behind it.
_TYPES = {
  "PNG": "image/png",
  "JPEG": "image/jpeg",
  "MPO": "image/jpeg",
  "WEBP": "image/webp",
  "GIF": "image/gif",
}
_QUALITY = 95  # of JPEG
# Of Qwen2.5-VL pixels along a side; of GPT-4o and GPT-4.1 tokens at the most.
_TOKEN_SIDE, _TOKENS = 28, 1500


class BadPicture(ValueError):
  """A file that is no picture; says why."""


def sent(data: bytes, wanted: Format, side: int) -> tuple[str, bytes]:
  """(media type, file) to send.

  A file that has the format and the size already is sent byte by byte. Others
  are drawn anew, upright, transparent ones on white as JPEG.

  Args:
    data: the file.
    wanted: format; as_is: its own, or PNG where servers do not read that.
    side: pixels of the longest side at most; 0: as they are.

  Raises:
    BadPicture: it cannot be read.
  """
  try:
    with Image.open(io.BytesIO(data)) as image:
      name = "JPEG" if image.format == "MPO" else str(image.format)
      target = {"png": "PNG", "jpeg": "JPEG"}.get(wanted, name)
      if target not in _TYPES:
        target = "PNG"
      small = not side or max(image.size) <= side
      if small and target == name:
        return _TYPES[target], data
      return _TYPES[target], _drawn(image, target, 0 if small else side)
  except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as e:
    raise BadPicture(f"{type(e).__name__}: {e}") from e


def _drawn(image: Image.Image, target: str, side: int) -> bytes:
  clear = "A" in image.mode or "transparency" in image.info
  drawn = ImageOps.exif_transpose(image).convert("RGBA" if clear else "RGB")
  if side:
    drawn.thumbnail((side, side), Image.Resampling.LANCZOS)
  if clear and target == "JPEG":
    white = Image.new("RGBA", drawn.size, "white")
    drawn = Image.alpha_composite(white, drawn).convert("RGB")
  out = io.BytesIO()
  drawn.save(out, target, **({"quality": _QUALITY} if target != "PNG" else {}))
  return out.getvalue()


def most_tokens(data: bytes, side: int) -> int:
  """What most models take a picture for, at the most; 0 of no picture."""
  try:
    with Image.open(io.BytesIO(data)) as image:
      size = image.size
  except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
    return 0
  scale = min(1.0, side / max(size)) if side else 1.0
  width, height = (math.ceil(n * scale / _TOKEN_SIDE) for n in size)
  return max(width * height, _TOKENS)
