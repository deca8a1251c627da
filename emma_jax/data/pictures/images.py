"""Pictures from files, of any kind and mode, to upright uint8 arrays.

`preprocess` makes them the size that the model sees.
"""

import functools
import io
import re
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageFile

from emma_jax import files
from emma_jax.data.pictures import budget, modes, stand_ins
from emma_jax.data.pictures.bad_record import MAX_BYTES as MAX_BYTES
from emma_jax.data.pictures.bad_record import BadRecord as BadRecord
from emma_jax.data.pictures.modes import WHITE as WHITE
from emma_jax.structs import RawPicture, WithLatent

# Sides are multiples of this: both encoders shrink 32 times.
GRID = 32
# Decompression-bomb limit: no picture with more pixels is decoded.
MAX_PIXELS = 64_000_000
# Bytes that a pixel takes while it is decoded, as Pillow holds it.
_PIXEL = 4
# A side that is more times longer than the other: a line, not a picture. What
# the model would see of it is a few pixels high or wide.
MAX_ASPECT = 100
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


def load_picture(
  raw: RawPicture, where: str = "", max_pixels: int = MAX_PIXELS
) -> np.ndarray:
  """Decodes to RGB uint8 (Y, X, 3); raises BadRecord(where, reason).

  Upright by EXIF; what is transparent, or no frame covers, is white; grey
  repeated; of samples of any depth the largest value is white (see `modes`);
  CMYK converted; the first frame of an animation. The content decides which
  format it is (one of FORMATS), never a file's name.

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
    with (
      open_image(raw, where, max_pixels) as image,
      budget.holding(_PIXEL * image.width * image.height),
    ):
      samples = modes.declare(image, where)
      low = None
      if samples.low:
        with open_image(raw, where, max_pixels) as again:
          modes.use_raw(again, samples.low)
          again.load()
          low = again
      image.load()  # a truncated file fails here
      # TIFF has turned by now, and says so.
      return _upright(modes.to_rgb(image, samples, low), orientation(image))
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
      modes.declare(image, where)
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
  instead = stand_ins.told(_head(raw))
  if instead:
    return BadRecord(
      where, f"cannot read the picture ({name}): it is {instead}"
    )
  # Pillow names the buffer by its address, which differs every time.
  text = re.sub(r" ?<_io\.BytesIO object at 0x\w+>", "", str(error))
  return BadRecord(
    where, f"cannot read the picture ({name}): {type(error).__name__}: {text}"
  )


def _head(raw: bytes | str) -> bytes:
  if isinstance(raw, bytes):
    return raw[: files.HEAD]
  try:
    with open(raw, "rb") as file:
      return file.read(files.HEAD)
  except OSError:  # which is the error that is told
    return b""


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


def _upright(image: Image.Image, orientation: int) -> Image.Image:
  turn = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
  }.get(orientation)
  return image if turn is None else image.transpose(turn)


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
    return np.array(modes.to_rgb(Image.fromarray(raw), modes.Samples()))
  return raw
