"""Pictures from files to uint8 arrays of the wanted size, and back.

One preprocessing for training and inference; its fingerprint travels in the
checkpoint. Pictures stay uint8 on the host: the device normalises.
"""

import dataclasses
import hashlib
import io
import json
import math

import numpy as np
from PIL import Image, ImageOps

from emma_jax.structs import RawPicture

# Sides are multiples of this: both encoders shrink 32 times.
GRID = 32
# Decompression-bomb limit: no picture with more pixels is decoded.
MAX_PIXELS = 64_000_000
WHITE = 255


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
  bit scaled (not clipped); CMYK converted; the first frame of an animation.

  >>> load_picture(np.full((1, 1), 7, np.uint8)).tolist()
  [[[7, 7, 7]]]
  """
  if isinstance(raw, np.ndarray):
    return _from_array(raw, where)
  try:
    if isinstance(raw, bytes):
      data = raw
    else:
      with open(raw, "rb") as file:
        data = file.read()
    if not data:
      raise BadRecord(where, "the picture has zero bytes")
    with Image.open(io.BytesIO(data)) as image:
      width, height = image.size
      if width * height > max_pixels:
        raise BadRecord(
            where, f"{width}x{height} exceeds {max_pixels} pixels (max_pixels)"
        )
      image.load()  # a truncated file fails here
      image = _rgb(ImageOps.exif_transpose(image), where)
      return np.array(image)
  except BadRecord:
    raise
  except Exception as e:  # Pillow's plugins raise whatever they like
    name = raw if isinstance(raw, str) else f"{len(raw)} bytes"
    reason = f"cannot read the picture ({name}): {type(e).__name__}: {e}"
    raise BadRecord(where, reason) from e


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
  return image.convert("RGB")


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

  >>> fit = Preprocess(height=64, width=96)
  >>> fitted = fit(np.zeros((100, 100, 3), np.uint8))
  >>> fitted.pixels_YXC.shape, fitted.content_size
  ((64, 96, 3), (64, 64))

  Native mode: a picture keeps its size while its count of 32x32 tokens lies in
  [min_tokens, max_tokens], else it is resized into that range; then it is
  padded to multiples of 32.

  >>> fit = Preprocess(height=64, width=96, native=True, max_tokens=16)
  >>> fit(np.zeros((33, 50, 3), np.uint8)).pixels_YXC.shape
  (64, 64, 3)
  >>> fit(np.zeros((1000, 500, 3), np.uint8)).pixels_YXC.shape
  (160, 96, 3)
  """

  height: int
  width: int
  native: bool = False
  min_tokens: int = 1
  max_tokens: int = 4096

  def __post_init__(self):
    for name in ("height", "width"):
      size = getattr(self, name)
      if size <= 0 or size % GRID:
        raise ValueError(f"{name}={size} is not a positive multiple of {GRID}.")
    if not 1 <= self.min_tokens <= self.max_tokens:
      raise ValueError(
          f"{self.min_tokens=} and {self.max_tokens=} leave no size; "
          "1 <= min_tokens <= max_tokens is needed."
      )

  def __call__(self, picture_YXC: np.ndarray) -> Fitted:
    """`picture_YXC`: uint8 RGB. One that fits already is passed through."""
    y, x, _ = picture_YXC.shape
    if self.native:
      content = self._native_size(y, x)
      full = tuple(math.ceil(side / GRID) * GRID for side in content)
    else:
      full = (self.height, self.width)
      scale = min(self.height / y, self.width / x)
      # min: rounding must not leave the frame.
      content = (
          min(max(1, round(y * scale)), self.height),
          min(max(1, round(x * scale)), self.width),
      )
    pixels_YXC = _resize(picture_YXC, content)
    if content != full:
      padded_YXC = np.full((*full, 3), WHITE, np.uint8)
      padded_YXC[: content[0], : content[1]] = pixels_YXC
      pixels_YXC = padded_YXC
    return Fitted(pixels_YXC, content, (y, x))

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
    if self.native:  # the frame plays no part
      del fields["height"], fields["width"]
    else:
      del fields["min_tokens"], fields["max_tokens"]
    text = json.dumps(fields, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def restore(fitted: Fitted, result_YXC: np.ndarray) -> np.ndarray:
  """A result of the fitted size -> a picture of exactly the original size.

  >>> fitted = Preprocess(height=32, width=32)(np.zeros((9, 7, 3), np.uint8))
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
  return np.array(image.resize(size[::-1], Image.Resampling.BICUBIC))
