"""Pictures of any size as the model sees them, and back.

One preprocessing for training and inference; its fingerprint travels in the
checkpoint. Pictures stay uint8 on the host: the device normalises.
"""

import dataclasses
import hashlib
import json
import math
from typing import Any, Literal

import numpy as np
from PIL import Image

from emma_jax.data.pictures import codecs, images
from emma_jax.structs import RawPicture, WithLatent


@dataclasses.dataclass(frozen=True)
class Placement:
  """Which part of a picture the model sees, and where; sizes are (y, x).

  box: top, left, bottom and right of the part, in the picture's own pixels.
  content: pixels that the part is resized to.
  full: of the result; what is right of the content and below is white.
  """

  box: tuple[float, float, float, float]
  content: tuple[int, int]
  full: tuple[int, int]


@dataclasses.dataclass(frozen=True, eq=False)
class Fitted:
  """A preprocessed picture and what `restore` needs."""

  pixels_YXC: np.ndarray
  content_size: tuple[int, int]  # (y, x) of the picture without padding
  original_size: tuple[int, int]
  cropped: float = 0.0  # share of the picture's area that was left out

  @property
  def whole(self) -> bool:
    """Whether nothing of it is padding."""
    return self.pixels_YXC.shape[:2] == self.content_size


@dataclasses.dataclass(frozen=True, kw_only=True)
class Preprocess:
  """Makes a picture the size the model sees; resizing is antialiased bicubic.

  Fixed mode (`native` False): every picture becomes (height, width), by `fit`:

  "pad": the whole picture, aspect kept, and white at the right or below.

  >>> fit = Preprocess(height=64, width=96, native=False, min_tokens=1,
  ...                  max_tokens=16, codec="pillow", fit="pad", max_crop=0.5)
  >>> fitted = fit(np.zeros((100, 100, 3), np.uint8))
  >>> fitted.pixels_YXC.shape, fitted.content_size
  ((64, 96, 3), (64, 64))

  "cover": resized until it covers the size, then centre-cropped, as PixArt
  (arXiv 2310.00426) and SANA (2410.10629) do with pictures to be drawn.

  >>> cover = dataclasses.replace(fit, fit="cover")
  >>> cover.place(100, 150).box
  (0.0, 0.0, 100.0, 150.0)
  >>> cover.place(128, 96).box
  (32.0, 0.0, 96.0, 96.0)
  >>> cover.cropped(128, 96)
  0.5

  "pad_cells": as "pad", but the content is whole cells of 32x32 pixels, which
  the picture covers: padding then is whole tokens, which no loss counts.

  >>> dataclasses.replace(fit, fit="pad_cells").place(50, 100).content
  (64, 96)
  >>> dataclasses.replace(fit, fit="pad_cells").place(100, 100).content
  (64, 64)

  Native mode: a picture keeps its size while its count of 32x32 tokens lies in
  [min_tokens, max_tokens], else it is resized into that range; then it is
  padded to multiples of 32.

  >>> fit = dataclasses.replace(fit, native=True)
  >>> fit(np.zeros((33, 50, 3), np.uint8)).pixels_YXC.shape
  (64, 64, 3)
  >>> fit(np.zeros((1000, 500, 3), np.uint8)).pixels_YXC.shape
  (160, 96, 3)

  `codec`: "fast" reads and shrinks by other libraries, see codecs.py.
  `max_crop`: a picture that would lose a larger share of its area is refused.
  """

  height: int
  width: int
  native: bool
  min_tokens: int
  max_tokens: int
  codec: Literal["pillow", "fast"]
  fit: Literal["pad", "pad_cells", "cover"]
  max_crop: float

  def __post_init__(self):
    if self.codec not in ("pillow", "fast"):
      raise ValueError(f"{self.codec=} is unknown; choose pillow or fast.")
    if self.codec == "fast":
      codecs.libraries()  # now, not in the middle of an epoch
    if self.fit not in ("pad", "pad_cells", "cover"):
      raise ValueError(f"{self.fit=} is unknown; choose pad or cover.")
    if not 0 <= self.max_crop < 1:
      raise ValueError(
        f"max_crop={self.max_crop} is no share of a picture; choose one in "
        "[0, 1)."
      )
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
    """Decodes and fits.

    Raises:
      BadRecord: (where, reason) as `images.load_picture` raises it, or more
        than `max_crop` of the picture would be lost.
    """
    if isinstance(raw, np.ndarray):
      picture_YXC = images.load_picture(raw, where)
      return self._fit(picture_YXC, picture_YXC.shape[:2], where)
    assert not isinstance(raw, WithLatent)  # ToSample takes it apart
    if self.codec == "fast":
      found = self._read_fast(raw, where, max_pixels)
      if found is not None:
        return found
    image = images.load_image(raw, where, max_pixels)
    y, x = image.height, image.width
    if self.codec == "pillow":  # without a copy to an array and back
      placed = self._checked(y, x, where)
      return self._padded(np.array(_resized(image, placed)), placed, (y, x))
    return self._fit(np.array(image), (y, x), where)

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
    self._checked(y, x, where)
    decoded_YXC = codecs.decode(data, self._resized_whole)
    if decoded_YXC is None:
      return None
    return self._fit(decoded_YXC, (y, x), where)

  def __call__(self, picture_YXC: np.ndarray) -> Fitted:
    """`picture_YXC`: uint8 RGB. One that fits already is passed through."""
    return self._fit(picture_YXC, picture_YXC.shape[:2], "")

  def _fit(
    self, picture_YXC: np.ndarray, original: tuple[int, ...], where: str
  ) -> Fitted:
    """Of a picture that had the `original` size before it was decoded."""
    y, x = original[:2]
    placed = self._checked(y, x, where)
    here = _scaled(placed, (y, x), picture_YXC.shape[:2])
    pixels_YXC = None
    if self.codec == "fast" and picture_YXC.shape[:2] != placed.content:
      top, left, bottom, right = map(round, here.box)
      pixels_YXC = codecs.shrink(
        picture_YXC[top:bottom, left:right], placed.content
      )
    if pixels_YXC is None:
      pixels_YXC = _resize(picture_YXC, here)
    return self._padded(pixels_YXC, placed, (y, x))

  def _padded(
    self, pixels_YXC: np.ndarray, placed: Placement, original: tuple[int, int]
  ) -> Fitted:
    """With white at the right and below, where the content leaves room."""
    if placed.content != placed.full:
      padded_YXC = np.full((*placed.full, 3), images.WHITE, np.uint8)
      padded_YXC[: placed.content[0], : placed.content[1]] = pixels_YXC
      pixels_YXC = padded_YXC
    lost = float(share_outside(placed.box, *original))
    return Fitted(pixels_YXC, placed.content, original, lost)

  def place(self, y: int, x: int) -> Placement:
    """What becomes of a picture of y x x pixels."""
    whole = (0.0, 0.0, float(y), float(x))
    if self.native:
      content = self._native_size(y, x)
      full = [math.ceil(side / images.GRID) * images.GRID for side in content]
      return Placement(whole, content, (full[0], full[1]))
    full_size = (self.height, self.width)
    if self.fit == "pad":
      scale = min(self.height / y, self.width / x)
      # min: rounding must not leave the frame.
      content = (
        min(max(1, round(y * scale)), self.height),
        min(max(1, round(x * scale)), self.width),
      )
      return Placement(whole, content, full_size)
    content = full_size
    if self.fit == "pad_cells":
      cells_y, cells_x = whole_cells(y, x, *full_size)
      content = (int(cells_y) * images.GRID, int(cells_x) * images.GRID)
    return Placement(_box(y, x, content), content, full_size)

  def cropped(self, y: int, x: int) -> float:
    """The share of a picture's area that `place` leaves out."""
    return float(share_outside(self.place(y, x).box, y, x))

  def _checked(self, y: int, x: int, where: str) -> Placement:
    placed = self.place(y, x)
    lost = float(share_outside(placed.box, y, x))
    if lost > self.max_crop:
      raise images.BadRecord(
        where,
        f"a picture of {y}x{x} pixels would lose {lost:.0%} in "
        f"{self.height}x{self.width}, more than data.max_crop="
        f"{self.max_crop:g}; raise it, add a bucket of that shape, or crop it",
      )
    return placed

  def _resized_whole(self, y: int, x: int) -> tuple[int, int]:
    """(y, x) of the whole picture, its cropped parts too, when resized."""
    placed = self.place(y, x)
    top, left, bottom, right = placed.box
    return (
      math.ceil(placed.content[0] * y / (bottom - top)),
      math.ceil(placed.content[1] * x / (right - left)),
    )

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
    if self.native or self.fit == "pad":  # nothing is cropped, as it was then
      del fields["fit"], fields["max_crop"]
    if self.native:  # the frame plays no part
      del fields["height"], fields["width"]
    else:
      del fields["min_tokens"], fields["max_tokens"]
    text = json.dumps(fields, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def restore(
  fitted: Fitted, result_YXC: np.ndarray, size: tuple[int, int] | None = None
) -> np.ndarray:
  """A result of the fitted size -> a picture of exactly `size`, rows x columns.

  None: of the size that the picture had. What was cropped is not brought back:
  the result is stretched by as much, `max_crop` at most.

  >>> fit = Preprocess(height=32, width=32, native=False, min_tokens=1,
  ...                  max_tokens=16, codec="pillow", fit="pad", max_crop=0.0)
  >>> fitted = fit(np.zeros((9, 7, 3), np.uint8))
  >>> restore(fitted, fitted.pixels_YXC).shape
  (9, 7, 3)
  """
  if result_YXC.shape[:2] not in (
    fitted.pixels_YXC.shape[:2],
    fitted.content_size,
  ):
    raise ValueError(
      f"A result of shape {result_YXC.shape} does not belong to a picture "
      f"fitted to {fitted.pixels_YXC.shape}."
    )
  y, x = fitted.content_size
  return resized(result_YXC[:y, :x], size or fitted.original_size)


def resized(picture_YXC: np.ndarray, size: tuple[int, int]) -> np.ndarray:
  """Antialiased bicubic; the same array where the size is right already."""
  y, x, _ = picture_YXC.shape
  return _resize(picture_YXC, Placement((0.0, 0.0, y, x), size, size))


def covering(picture_YXC: np.ndarray, size: tuple[int, int]) -> np.ndarray:
  """The centre of a picture that has the shape of `size`, resized to it.

  >>> covering(np.zeros((96, 96, 3), np.uint8), (20, 60)).shape
  (20, 60, 3)
  """
  y, x, _ = picture_YXC.shape
  return _resize(picture_YXC, Placement(_box(y, x, size), size, size))


def centre(y: Any, x: Any, height: Any, width: Any) -> tuple[Any, ...]:
  """Top, left, bottom, right of the largest part that has another shape.

  Of pictures of y x x pixels, the shape being height : width; numbers or
  arrays of them. The picture resized to cover that size loses what is outside.
  """
  kept_y = np.minimum(x * height / width, y)
  kept_x = np.minimum(y * width / height, x)
  top, left = (y - kept_y) / 2, (x - kept_x) / 2
  return top, left, top + kept_y, left + kept_x


def share_outside(box: tuple[Any, ...], y: Any, x: Any) -> Any:
  """Of the area of pictures of y x x pixels; numbers or arrays of them."""
  top, left, bottom, right = box
  return 1 - (bottom - top) * (right - left) / (y * x)


def whole_cells(y: Any, x: Any, height: Any, width: Any) -> tuple[Any, Any]:
  """Rows and columns of 32x32 cells, at least one, nearest to what a picture
  takes that is resized to fit into height x width; numbers or arrays."""
  scale = np.minimum(height / y, width / x) / images.GRID
  return tuple(
    np.clip(np.rint(side * scale), 1, limit // images.GRID)
    for side, limit in ((y, height), (x, width))
  )


def _box(
  y: int, x: int, size: tuple[int, int]
) -> tuple[float, float, float, float]:
  top, left, bottom, right = map(float, centre(y, x, *size))
  return top, left, bottom, right


def _scaled(
  placed: Placement, original: tuple[int, int], here: tuple[int, ...]
) -> Placement:
  """For a picture that was decoded at another scale."""
  y, x = here[0] / original[0], here[1] / original[1]
  top, left, bottom, right = placed.box
  return dataclasses.replace(
    placed, box=(top * y, left * x, bottom * y, right * x)
  )


def _tokens(y: int, x: int) -> int:
  return math.ceil(y / images.GRID) * math.ceil(x / images.GRID)


def _resize(picture_YXC: np.ndarray, placed: Placement) -> np.ndarray:
  """The same array where nothing is to be done."""
  y, x, _ = picture_YXC.shape
  if placed.box == (0, 0, y, x) and (y, x) == placed.content:
    return picture_YXC
  image = Image.fromarray(np.ascontiguousarray(picture_YXC))
  return np.array(_resized(image, placed))


def _resized(image: Image.Image, placed: Placement) -> Image.Image:
  """The placed part of a picture, resized to its content's size."""
  whole = placed.box == (0, 0, image.height, image.width)
  if whole and image.size == placed.content[::-1]:
    return image
  top, left, bottom, right = placed.box
  return image.resize(
    placed.content[::-1],
    Image.Resampling.BICUBIC,
    box=None if whole else (left, top, right, bottom),
  )
