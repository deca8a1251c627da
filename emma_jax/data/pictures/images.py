"""Pictures from files, of any kind and mode, to upright uint8 arrays.

`preprocess` makes them the size that the model sees.
"""

import functools
import io
import re
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageFile

from emma_jax.structs import RawPicture, WithLatent

# Sides are multiples of this: both encoders shrink 32 times.
GRID = 32
# Decompression-bomb limit: no picture with more pixels is decoded.
MAX_PIXELS = 64_000_000
# No encoded picture of more bytes is read.
MAX_BYTES = 256 * 2**20
# A side that is more times longer than the other: a line, not a picture. What
# the model would see of it is a few pixels high or wide.
MAX_ASPECT = 100
WHITE = 255
# Only these are opened. Pillow knows many more, of which some (EPS) start other
# programs and some (PSD, XCF, FITS) nobody trains on.
FORMATS = (
  "JPEG",
  "MPO",
  "PNG",
  "WEBP",
  "GIF",
  "BMP",
  "TIFF",
  "AVIF",
  "JPEG2000",
  "PPM",
)


class BadRecord(ValueError):
  """A record that cannot be used. `where`: "file:line" or an id."""

  def __init__(self, where: str, reason: str):
    super().__init__(where, reason)  # both, so that it pickles
    self.where = where
    self.reason = reason

  def __str__(self) -> str:
    return f"{self.where}: {self.reason}"


def load_picture(
  raw: RawPicture, where: str = "", max_pixels: int = MAX_PIXELS
) -> np.ndarray:
  """Decodes to RGB uint8 (Y, X, 3); raises BadRecord(where, reason).

  Upright by EXIF; alpha and transparent palettes over white; grey repeated; 16
  bit scaled (not clipped); CMYK converted; the first frame of an animation. The
  content decides which format it is (one of FORMATS), never a file's name.

  >>> load_picture(np.full((1, 1), 7, np.uint8)).tolist()
  [[[7, 7, 7]]]
  """
  if isinstance(raw, np.ndarray):
    return _from_array(raw, where)
  assert not isinstance(raw, WithLatent)  # ToSample takes it apart
  return np.array(load_image(raw, where, max_pixels))


def load_image(raw: bytes | str, where: str, max_pixels: int) -> Image.Image:
  """The same as a picture of Pillow's, mode RGB."""
  try:
    with open_image(raw, where, max_pixels) as image:
      image.load()  # a truncated file fails here
      return _rgb(_upright(image), where)
  except BadRecord:
    raise
  except Exception as e:  # Pillow's plugins raise whatever they like
    raise _unreadable(raw, where, e) from e


def measure_picture(
  raw: bytes | str, where: str = "", max_pixels: int = MAX_PIXELS
) -> tuple[int, int]:
  """(y, x) as `load_picture` will give it, from the header alone.

  Raises BadRecord as `load_picture` does, but sees no damage after the header.
  """
  try:
    with open_image(raw, where, max_pixels) as image:
      x, y = _stored_size(image)
      return (x, y) if orientation(image) >= 5 else (y, x)
  except BadRecord:
    raise
  except Exception as e:
    raise _unreadable(raw, where, e) from e


def open_image(
  raw: bytes | str, where: str, max_pixels: int
) -> ImageFile.ImageFile:
  """The header of a picture that is neither too large nor too thin."""
  if isinstance(raw, bytes):
    data = raw
  else:
    with open(raw, "rb") as file:
      data = file.read(MAX_BYTES + 1)
  if not data:
    raise BadRecord(where, "the picture has zero bytes")
  if len(data) > MAX_BYTES:
    raise BadRecord(where, f"the picture has more than {MAX_BYTES} bytes")
  image = Image.open(io.BytesIO(data), formats=_formats())
  x, y = image.size
  if x * y > max_pixels:
    raise BadRecord(where, f"{x}x{y} exceeds {max_pixels} pixels (max_pixels)")
  if max(x, y) > MAX_ASPECT * min(x, y):
    raise BadRecord(
      where, f"{x}x{y} is thinner than 1:{MAX_ASPECT} (absurd aspect ratio)"
    )
  return image


@functools.cache
def _formats() -> tuple[str, ...]:
  """FORMATS that the installed Pillow has."""
  Image.init()
  return tuple(name for name in FORMATS if name in Image.OPEN)


def _unreadable(raw: bytes | str, where: str, error: Exception) -> BadRecord:
  name = raw if isinstance(raw, str) else f"{len(raw)} bytes"
  # Pillow names the buffer by its address, which differs every time.
  text = re.sub(r" ?<_io\.BytesIO object at 0x\w+>", "", str(error))
  return BadRecord(
    where, f"cannot read the picture ({name}): {type(error).__name__}: {text}"
  )


def orientation(image: Image.Image) -> int:
  """EXIF's, 1 to 8; 1 where the EXIF block is broken or says anything else."""
  try:
    value = image.getexif().get(ExifTags.Base.Orientation, 1)
  except Exception:  # a broken block must not cost a sound picture
    return 1
  return value if value in range(1, 9) else 1


def _stored_size(image: Image.Image) -> tuple[int, int]:
  """(x, y) before it is turned upright."""
  if image.format == "TIFF":
    # Pillow turns TIFF by itself, and gives the size of what it will be.
    tiff: Any = image  # its class has the tags
    width, length = (
      tiff.tag_v2[tag]
      for tag in (ExifTags.Base.ImageWidth, ExifTags.Base.ImageLength)
    )
    return width, length
  return image.size


def _upright(image: Image.Image) -> Image.Image:
  turn = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
  }.get(orientation(image))
  if turn is None:
    return image
  info = image.info  # transparency is kept there
  image = image.transpose(turn)
  image.info = info
  return image


def _from_array(raw: np.ndarray, where: str) -> np.ndarray:
  if raw.dtype != np.uint8 or 0 in raw.shape:
    raise BadRecord(where, f"array {raw.dtype}{raw.shape} is no uint8 picture")
  if raw.ndim == 2:
    raw = raw[..., None]
  if raw.ndim != 3 or raw.shape[-1] not in (1, 3, 4):
    raise BadRecord(where, f"array of shape {raw.shape} is not (Y, X, 1|3|4)")
  if raw.shape[-1] == 1:
    return np.repeat(raw, 3, axis=-1)
  if raw.shape[-1] == 4:
    return np.array(_rgb(Image.fromarray(raw), where))
  return raw


def _rgb(image: Image.Image, where: str) -> Image.Image:
  """Any Pillow mode to RGB; Pillow's own conversion clips and drops alpha."""
  if image.mode == "F":
    raise BadRecord(where, "float pictures have no defined range")
  if image.mode.startswith("I"):
    # 16 bit grey ("I" is how some files of 16 bit open).
    wide_YX = np.asarray(image).astype(np.int64)
    if wide_YX.min() < 0 or wide_YX.max() > 65535:
      raise BadRecord(where, "32 bit pictures have no defined range")
    image = Image.fromarray(((wide_YX + 128) // 257).astype(np.uint8))
    return image.convert("RGB")
  has_alpha = image.mode in ("RGBA", "LA", "PA", "La", "RGBa")
  if has_alpha or "transparency" in image.info:
    # Pillow knows no direct way from the premultiplied modes to "RGBA" but one.
    if image.mode == "La":
      image = image.convert("LA")
    image = image.convert("RGBA")
    white = Image.new("RGBA", image.size, (WHITE, WHITE, WHITE, 255))
    image = Image.alpha_composite(white, image)
  return image if image.mode == "RGB" else image.convert("RGB")
