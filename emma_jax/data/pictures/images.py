"""Pictures from files to uint8 arrays of the wanted size, and back.

One preprocessing for training and inference; its fingerprint travels in the
checkpoint. Pictures stay uint8 on the host: the device normalises.
"""

import dataclasses
import functools
import hashlib
import io
import json
import math
import re
from typing import Any, Literal

import numpy as np
from PIL import ExifTags, Image, ImageFile

from emma_jax.data.pictures import codecs
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
  return np.array(_load(raw, where, max_pixels))


def _load(raw: bytes | str, where: str, max_pixels: int) -> Image.Image:
  """The same as a picture of Pillow's, mode RGB."""
  try:
    with _open(raw, where, max_pixels) as image:
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
    with _open(raw, where, max_pixels) as image:
      x, y = _stored_size(image)
      return (x, y) if _orientation(image) >= 5 else (y, x)
  except BadRecord:
    raise
  except Exception as e:
    raise _unreadable(raw, where, e) from e


def _open(raw: bytes | str, where: str, max_pixels: int) -> ImageFile.ImageFile:
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


def _orientation(image: Image.Image) -> int:
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
  }.get(_orientation(image))
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


@dataclasses.dataclass(frozen=True, eq=False)
class Fitted:
  """A preprocessed picture and what `restore` needs."""

  pixels_YXC: np.ndarray
  content_size: tuple[int, int]  # (y, x) of the picture without padding
  original_size: tuple[int, int]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Preprocess:
  """Fits a picture to the size the model sees. Padding is white, right/bottom.

  Fixed mode (`native` False): every picture becomes (height, width); one of
  another size is resized as a whole (antialiased bicubic, aspect kept) until it
  fits, then padded.

  >>> fit = Preprocess(height=64, width=96, native=False, min_tokens=1,
  ...                  max_tokens=16, codec="pillow")
  >>> fitted = fit(np.zeros((100, 100, 3), np.uint8))
  >>> fitted.pixels_YXC.shape, fitted.content_size
  ((64, 96, 3), (64, 64))

  Native mode: a picture keeps its size while its count of 32x32 tokens lies in
  [min_tokens, max_tokens], else it is resized into that range; then it is
  padded to multiples of 32.

  >>> fit = dataclasses.replace(fit, native=True)
  >>> fit(np.zeros((33, 50, 3), np.uint8)).pixels_YXC.shape
  (64, 64, 3)
  >>> fit(np.zeros((1000, 500, 3), np.uint8)).pixels_YXC.shape
  (160, 96, 3)

  `codec`: "fast" reads and shrinks by other libraries, see codecs.py.
  """

  height: int
  width: int
  native: bool
  min_tokens: int
  max_tokens: int
  codec: Literal["pillow", "fast"]

  def __post_init__(self):
    if self.codec not in ("pillow", "fast"):
      raise ValueError(f"{self.codec=} is unknown; choose pillow or fast.")
    if self.codec == "fast":
      codecs.libraries()  # now, not in the middle of an epoch
    for name in ("height", "width"):
      size = getattr(self, name)
      if size <= 0 or size % GRID:
        raise ValueError(f"{name}={size} is not a positive multiple of {GRID}.")
    if not 1 <= self.min_tokens <= self.max_tokens:
      raise ValueError(
        f"{self.min_tokens=} and {self.max_tokens=} leave no size; "
        "1 <= min_tokens <= max_tokens is needed."
      )

  def read(
    self, raw: RawPicture, where: str = "", max_pixels: int = MAX_PIXELS
  ) -> Fitted:
    """Decodes and fits; BadRecord(where, reason) as load_picture raises it."""
    if isinstance(raw, np.ndarray):
      return self(load_picture(raw, where))
    assert not isinstance(raw, WithLatent)  # ToSample takes it apart
    if self.codec == "fast":
      found = self._read_fast(raw, where, max_pixels)
      if found is not None:
        return found
    image = _load(raw, where, max_pixels)
    y, x = image.height, image.width
    if self.codec == "pillow":  # without a copy to an array and back
      image = _resized(image, self.size(y, x)[0])
    return self._fit(np.array(image), (y, x))

  def _read_fast(
    self, raw: bytes | str, where: str, max_pixels: int
  ) -> Fitted | None:
    try:
      with _open(raw, where, max_pixels) as image:
        x, y = image.size
        if (
          image.format not in ("JPEG", "MPO")
          or image.mode != "RGB"
          or _orientation(image) != 1
        ):
          return None
        assert image.fp is not None  # it is open
        image.fp.seek(0)
        data = image.fp.read()
    except Exception:  # load_picture says what is wrong with it
      return None
    decoded_YXC = codecs.decode(data, lambda y, x: self.size(y, x)[0])
    if decoded_YXC is None:
      return None
    return self._fit(decoded_YXC, (y, x))

  def __call__(self, picture_YXC: np.ndarray) -> Fitted:
    """`picture_YXC`: uint8 RGB. One that fits already is passed through."""
    y, x, _ = picture_YXC.shape
    return self._fit(picture_YXC, (y, x))

  def _fit(self, picture_YXC: np.ndarray, original: tuple[int, int]) -> Fitted:
    """Of a picture that had the `original` size before it was decoded."""
    content, full = self.size(*original)
    pixels_YXC = None
    if self.codec == "fast" and picture_YXC.shape[:2] != content:
      pixels_YXC = codecs.shrink(picture_YXC, content)
    if pixels_YXC is None:
      pixels_YXC = _resize(picture_YXC, content)
    if content != full:
      padded_YXC = np.full((*full, 3), WHITE, np.uint8)
      padded_YXC[: content[0], : content[1]] = pixels_YXC
      pixels_YXC = padded_YXC
    return Fitted(pixels_YXC, content, original)

  def size(self, y: int, x: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """(y, x) of a picture of y x x pixels after resizing, and after padding."""
    if self.native:
      content = self._native_size(y, x)
      full = [math.ceil(side / GRID) * GRID for side in content]
      return content, (full[0], full[1])
    scale = min(self.height / y, self.width / x)
    # min: rounding must not leave the frame.
    content = (
      min(max(1, round(y * scale)), self.height),
      min(max(1, round(x * scale)), self.width),
    )
    return content, (self.height, self.width)

  def _native_size(self, y: int, x: int) -> tuple[int, int]:
    tokens = _tokens(y, x)
    if self.min_tokens <= tokens <= self.max_tokens:
      return y, x
    # By area first, then in small steps, since counts are rounded up.
    shrink = tokens > self.max_tokens
    limit = self.max_tokens if shrink else self.min_tokens
    scale = math.sqrt(limit * GRID * GRID / (y * x))
    for _ in range(10_000):
      size = (max(1, round(y * scale)), max(1, round(x * scale)))
      tokens = _tokens(*size)
      if self.min_tokens <= tokens <= self.max_tokens:
        return size
      scale *= 0.995 if tokens > self.max_tokens else 1.003
    raise ValueError(
      f"No size of a {y}x{x} picture has {self.min_tokens} to "
      f"{self.max_tokens} tokens; widen min_tokens..max_tokens."
    )

  def fingerprint(self) -> str:
    """A hash of all that decides what the model sees."""
    fields = {"version": 1, **dataclasses.asdict(self)}
    if self.codec == "pillow":  # as it was when there was no other
      del fields["codec"]
    if self.native:  # the frame plays no part
      del fields["height"], fields["width"]
    else:
      del fields["min_tokens"], fields["max_tokens"]
    text = json.dumps(fields, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def restore(fitted: Fitted, result_YXC: np.ndarray) -> np.ndarray:
  """A result of the fitted size -> a picture of exactly the original size.

  >>> fit = Preprocess(height=32, width=32, native=False, min_tokens=1,
  ...                  max_tokens=16, codec="pillow")
  >>> fitted = fit(np.zeros((9, 7, 3), np.uint8))
  >>> restore(fitted, fitted.pixels_YXC).shape
  (9, 7, 3)
  """
  if result_YXC.shape != fitted.pixels_YXC.shape:
    raise ValueError(
      f"A result of shape {result_YXC.shape} does not belong to a picture "
      f"fitted to {fitted.pixels_YXC.shape}."
    )
  y, x = fitted.content_size
  return _resize(result_YXC[:y, :x], fitted.original_size)


def _tokens(y: int, x: int) -> int:
  return math.ceil(y / GRID) * math.ceil(x / GRID)


def _resize(picture_YXC: np.ndarray, size: tuple[int, int]) -> np.ndarray:
  """Antialiased bicubic; the same array where the size is right already."""
  if picture_YXC.shape[:2] == tuple(size):
    return picture_YXC
  image = Image.fromarray(np.ascontiguousarray(picture_YXC))
  return np.array(_resized(image, size))


def _resized(image: Image.Image, size: tuple[int, int]) -> Image.Image:
  if image.size == tuple(size)[::-1]:
    return image
  return image.resize(size[::-1], Image.Resampling.BICUBIC)
