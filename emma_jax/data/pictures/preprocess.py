"""Pictures of any size as the model sees them, and back.

One preprocessing for training and inference; its fingerprint travels in the
checkpoint. Pictures stay uint8 on the host: the device normalises.
"""

import dataclasses
import hashlib
import json
import math
from typing import Literal

import numpy as np
from PIL import Image

from emma_jax.data.pictures import codecs, images
from emma_jax.structs import RawPicture, WithLatent


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
      if size <= 0 or size % images.GRID:
        raise ValueError(
          f"{name}={size} is not a positive multiple of {images.GRID}."
        )
    if not 1 <= self.min_tokens <= self.max_tokens:
      raise ValueError(
        f"{self.min_tokens=} and {self.max_tokens=} leave no size; "
        "1 <= min_tokens <= max_tokens is needed."
      )

  def read(self, raw: RawPicture, where: str, max_pixels: int) -> Fitted:
    """Decodes and fits; BadRecord(where, reason) as load_picture raises it."""
    if isinstance(raw, np.ndarray):
      return self(images.load_picture(raw, where))
    assert not isinstance(raw, WithLatent)  # ToSample takes it apart
    if self.codec == "fast":
      found = self._read_fast(raw, where, max_pixels)
      if found is not None:
        return found
    image = images.load_image(raw, where, max_pixels)
    y, x = image.height, image.width
    if self.codec == "pillow":  # without a copy to an array and back
      image = _resized(image, self.size(y, x)[0])
    return self._fit(np.array(image), (y, x))

  def _read_fast(
    self, raw: bytes | str, where: str, max_pixels: int
  ) -> Fitted | None:
    try:
      with images.open_image(raw, where, max_pixels) as image:
        x, y = image.size
        if (
          image.format not in ("JPEG", "MPO")
          or image.mode != "RGB"
          or images.orientation(image) != 1
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
      padded_YXC = np.full((*full, 3), images.WHITE, np.uint8)
      padded_YXC[: content[0], : content[1]] = pixels_YXC
      pixels_YXC = padded_YXC
    return Fitted(pixels_YXC, content, original)

  def size(self, y: int, x: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """(y, x) of a picture of y x x pixels after resizing, and after padding."""
    if self.native:
      content = self._native_size(y, x)
      full = [math.ceil(side / images.GRID) * images.GRID for side in content]
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
    scale = math.sqrt(limit * images.GRID * images.GRID / (y * x))
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
  return math.ceil(y / images.GRID) * math.ceil(x / images.GRID)


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
