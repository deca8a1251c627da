"""Samples of every kind and depth to RGB of 8 bits.

What a sample means stands in the header: its bits, whether 0 is black or
white, which value is transparent. Some of it is gone once Pillow has decoded
the picture, so it is read before. The largest value of the declared bits is
white, whatever values occur. Rows go through a few at a time: beside the
picture and its result, nothing of their size is held.
"""

from collections.abc import Iterator
import dataclasses
import struct
import sys
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageFile

from emma_jax.data.pictures.bad_record import BadRecord

WHITE = 255
# Pixels that are computed at a time.
_STRIP = 2**18
_ALPHA = ("RGBA", "LA", "PA", "La", "RGBa")
_YCBCR, _SIGNED, _FLOAT = 6, 2, 3  # TIFF's numbers
_Box = tuple[int, int, int, int]  # left, top, right, bottom


@dataclasses.dataclass(frozen=True, kw_only=True)
class Samples:
  """What a header declares.

  Args:
    bits: of a sample.
    inverted: 0 is white; False where Pillow turns it round itself.
    clear: values of the samples that are transparent together.
    covered: what the first frame draws of the canvas; None: all.
    low: the raw mode that reads the lower halves of colours of 16 bits; "".
    pairs: grey and alpha of 16 bits each are read as the bytes of RGBA.
  """

  bits: int = 8
  inverted: bool = False
  clear: tuple[int, ...] | None = None
  covered: _Box | None = None
  low: str = ""
  pairs: bool = False


def declare(image: ImageFile.ImageFile, where: str) -> Samples:
  """Reads the header of a picture that is not decoded yet.

  Raises BadRecord for samples without a defined range or order.
  """
  if image.mode == "F":
    raise BadRecord(where, "float pictures have no defined range")
  if image.format == "TIFF":
    return _declare_tiff(image, where)
  if image.format == "PNG":
    return _declare_png(image)
  if image.format == "GIF":
    return Samples(covered=_tiles(image)[0][1])
  if image.format == "WEBP":
    return Samples(covered=_first_frame(image))
  # 16 bits; of JPEG 2000 and PPM, Pillow scales other depths to that.
  return Samples(bits=16 if image.mode.startswith("I") else 8)


def use_raw(image: ImageFile.ImageFile, raw: str, mode: str = "") -> None:
  """Lets a picture that is not decoded yet be read by another raw mode."""
  tiles = []
  for codec, box, offset, args in _tiles(image):
    new = raw if isinstance(args, str) else (raw, *args[1:])
    tiles.append(ImageFile._Tile(codec, box, offset, new))
  image.tile = tiles
  image._mode = mode or image.mode


def to_rgb(
  image: Image.Image, samples: Samples, low: Image.Image | None = None
) -> Image.Image:
  """A decoded picture as RGB; what is transparent shows white.

  `low`: the same picture read by `samples.low`.
  """
  if samples.bits > 8 and image.mode.startswith("I"):
    image = _grey(image, samples)
  elif samples.pairs:
    image = _pairs(image)
  elif low is not None:
    image = _rounded(image, low, samples)
    low.close()  # its memory is needed
  elif samples.clear is not None:
    clear = samples.clear
    if image.mode == "1":  # Pillow passes the clear value over
      image = image.convert("L")
    image.info["transparency"] = clear[0] if len(clear) == 1 else clear
  image = _over_white(image)
  if samples.covered not in (None, (0, 0, *image.size)):
    canvas = Image.new("RGB", image.size, (WHITE,) * 3)
    canvas.paste(image.crop(samples.covered), samples.covered)
    return canvas
  return image


# ---------------------------------------------------------------- headers


def _tiles(image: ImageFile.ImageFile) -> list[Any]:
  """What is to be decoded: codec, box, offset and arguments of each."""
  return list(image.tile)


def _raw_mode(image: ImageFile.ImageFile) -> str:
  args = _tiles(image)[0][3]
  return args if isinstance(args, str) else args[0]


def _lower_half(raw: str) -> str:
  """The raw mode that takes the other byte of each sample; "" for others.

  >>> _lower_half("RGB;16B"), _lower_half("RGB")
  ('RGB;16L', '')
  """
  base, _, order = raw.partition(";16")
  if base not in ("RGB", "RGBX", "RGBA", "CMYK") or not order:
    return ""
  native = "L" if sys.byteorder == "little" else "B"
  return f"{base};16{'L' if (order.replace('N', native)) == 'B' else 'B'}"


def _declare_tiff(image: Any, where: str) -> Samples:
  tags = image.tag_v2
  photometric = tags.get(ExifTags.Base.PhotometricInterpretation, 0)
  raw_data = tags.get(ExifTags.Base.Compression, 1) == 1
  bits = tags.get(ExifTags.Base.BitsPerSample, (1,))[0]
  kinds = tags.get(ExifTags.Base.SampleFormat, (1,))
  if _FLOAT in kinds:
    raise BadRecord(where, "float pictures have no defined range")
  if _SIGNED in kinds:
    raise BadRecord(
      where,
      f"signed pictures, here of {bits} bit, have no defined range; save it "
      "with unsigned samples",
    )
  planes = tags.get(ExifTags.Base.PlanarConfiguration, 1) == 2
  several = tags.get(ExifTags.Base.SamplesPerPixel, 1) > 1
  ycbcr = photometric == _YCBCR and image.mode == "RGB"
  if raw_data and (
    (planes and several and bits > 8)
    or (ycbcr and (planes or tags.get(530, (2, 2)) != (1, 1)))
  ):
    # Pillow gives such pixels, and they are wrong.
    raise BadRecord(
      where,
      f"an uncompressed TIFF of {bits} bit with separate planes or with colour "
      "at half the size is not read; save it compressed, or as PNG",
    )
  if raw_data and ycbcr:
    use_raw(image, "YCbCr", "YCbCr")
  return Samples(
    bits=bits,
    inverted=photometric == 0 and image.mode.startswith("I"),
    low=_lower_half(_raw_mode(image)),
  )


def _declare_png(image: ImageFile.ImageFile) -> Samples:
  raw = _raw_mode(image)
  bits = {"1": 1, "L;2": 2, "L;4": 4}.get(raw, 16 if ";16" in raw else 8)
  clear = None
  given = image.info.get("transparency")
  if image.mode not in ("P", *_ALPHA) and given is not None:
    # The low bits count (PNG, 11.3.1.1); grey of few bits is spread to 0..255.
    whole = 2**bits - 1
    scale = WHITE // whole if bits < 8 else 1
    values = given if isinstance(given, tuple) else (given,)
    clear = tuple((value & whole) * scale for value in values)
  if raw == "LA;16B":
    use_raw(image, "RGBA", "RGBA")
    return Samples(bits=16, pairs=True)
  return Samples(bits=bits, clear=clear, low=_lower_half(raw))


def _first_frame(image: ImageFile.ImageFile) -> _Box | None:
  """Where an animated WebP draws first; Pillow has black around it."""
  assert image.fp is not None  # it is open
  image.fp.seek(0)
  data = image.fp.read()
  at = 12  # behind RIFF's own header
  while at + 24 <= len(data):
    name, size = struct.unpack_from("<4sI", data, at)
    if name == b"ANMF":
      place = data[at + 8 : at + 20]
      left, top, x, y = (
        int.from_bytes(place[i : i + 3], "little") for i in range(0, 12, 3)
      )
      return 2 * left, 2 * top, 2 * left + x + 1, 2 * top + y + 1
    at += 8 + size + size % 2
  return None


# ----------------------------------------------------------------- pixels


def _strips(image: Image.Image) -> Iterator[_Box]:
  rows = max(1, _STRIP // image.width)
  for top in range(0, image.height, rows):
    yield 0, top, image.width, min(top + rows, image.height)


def _to_eight(wide: np.ndarray, bits: int) -> np.ndarray:
  """Rounded, so that the largest value of these bits is 255."""
  whole = 2**bits - 1
  return ((wide.astype(np.int64) * WHITE + whole // 2) // whole).astype(
    np.uint8
  )


def _grey(image: Image.Image, samples: Samples) -> Image.Image:
  """More than 8 bits, of one sample."""
  out = Image.new("L", image.size)
  for box in _strips(image):
    wide_YX = np.asarray(image.crop(box))
    if samples.bits == 32:
      wide_YX = wide_YX.view(np.uint32)  # Pillow has no unsigned mode
    grey_YX = _to_eight(wide_YX, samples.bits)
    if samples.inverted:
      grey_YX = WHITE - grey_YX
    if samples.clear is not None:
      grey_YX[wide_YX == samples.clear[0]] = WHITE
    out.paste(Image.fromarray(grey_YX), box)
  return out


def _pairs(image: Image.Image) -> Image.Image:
  """Grey and alpha: high and low byte of each in the place of RGBA."""
  out = Image.new("LA", image.size)
  for box in _strips(image):
    bytes_YXC = np.asarray(image.crop(box)).astype(np.int64)
    wide_YXC = bytes_YXC[..., ::2] * 256 + bytes_YXC[..., 1::2]
    out.paste(Image.fromarray(_to_eight(wide_YXC, 16)), box)
  return out


def _rounded(
  image: Image.Image, low: Image.Image, samples: Samples
) -> Image.Image:
  """Colours of 16 bits, of which Pillow gives the higher halves."""
  for box in _strips(image):
    high_YXC = np.asarray(image.crop(box)).astype(np.int64)
    wide_YXC = high_YXC * 256 + np.asarray(low.crop(box))
    out_YXC = _to_eight(wide_YXC, 16)
    if samples.clear is not None:
      out_YXC[(wide_YXC == samples.clear).all(-1)] = WHITE
    # `fromarray` would take four channels for RGBA, whatever they are.
    size = out_YXC.shape[1], out_YXC.shape[0]
    image.paste(Image.frombytes(image.mode, size, out_YXC.tobytes()), box)
  image.info.pop("transparency", None)
  return image


def _over_white(image: Image.Image) -> Image.Image:
  """RGB of any mode of 8 bits; Pillow's own conversion drops alpha."""
  if image.mode not in _ALPHA and "transparency" not in image.info:
    return image if image.mode == "RGB" else image.convert("RGB")
  out = Image.new("RGB", image.size)
  for box in _strips(image):
    strip = image.crop(box)
    # Pillow knows no direct way from the premultiplied modes to "RGBA" but one.
    if strip.mode == "La":
      strip = strip.convert("LA")
    strip = strip.convert("RGBA")
    white = Image.new("RGBA", strip.size, (WHITE,) * 4)
    out.paste(Image.alpha_composite(white, strip).convert("RGB"), box)
  return out
