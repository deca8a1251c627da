"""A picture of every mode and depth that Pillow opens, and what it shows.

Put together byte by byte (tests/data/raster.py); what each shows is worked out
here in exact fractions of 255.
"""

from fractions import Fraction
import functools
import io
import struct

import numpy as np
from PIL import Image

from tests.data import raster

# (prefix, photometric, sample formats, fill order, bits, extra samples), as
# Pillow's TiffImagePlugin.OPEN_INFO has them.
TiffKey = tuple[
  bytes, int, tuple[int, ...], int, tuple[int, ...], tuple[int, ...]
]
# (photometric, sample format, bits of each sample, extra samples)
TIFF_KINDS = [
  *((p, 1, (b,), ()) for b in (1, 2, 4, 8) for p in (0, 1)),
  (1, 1, (12,), ()),
  *((p, 1, (16,), ()) for p in (0, 1)),
  (1, 1, (32,), ()),
  *((1, 2, (b,), ()) for b in (8, 16, 32)),
  *((p, 3, (32,), ()) for p in (0, 1)),
  (1, 1, (8, 8), (2,)),
  *(
    (2, 1, (8,) * (3 + len(extra)), extra)
    for extra in (
      (),
      (0,),
      (0, 0),
      (0, 0, 0),
      (1,),
      (1, 0),
      (1, 0, 0),
      (2,),
      (2, 0),
      (2, 0, 0),
      (999,),
    )
  ),
  (2, 1, (8,) * 4, ()),
  *((2, 1, (16,) * (3 + len(e)), e) for e in ((), (0,), (1,), (2,))),
  (2, 1, (16,) * 4, ()),
  *((3, 1, (b,), ()) for b in (1, 2, 4, 8)),
  *((3, 1, (8, 8), (e,)) for e in (0, 2)),
  *((5, 1, (8,) * (4 + n), (0,) * n) for n in range(3)),
  (5, 1, (16,) * 4, ()),
  (6, 1, (8,), ()),
  (6, 1, (8,) * 3, ()),
  (8, 1, (8,) * 3, ()),
]
_COLOURS = {
  0: "grey, 0 is white",
  1: "grey",
  2: "RGB",
  3: "palette",
  5: "CMYK",
  6: "YCbCr",
  8: "LAB",
}
_EXTRA = {0: "spare", 1: "premultiplied alpha", 2: "alpha", 999: "alpha (999)"}
SIGNED, FLOAT = "signed pictures", "float pictures"


def tiff_name(key: TiffKey) -> str:
  """Byte and bit order aside, which change nothing."""
  _, photometric, (kind, *_), _, bits, extra = key
  words = [_COLOURS[photometric], *(_EXTRA[e] for e in extra)]
  if photometric == 2 and len(bits) == 4 and not extra:
    words.append("a fourth sample")
  of = {1: "", 2: "signed ", 3: "float "}[kind]
  return f"TIFF: {' + '.join(words)}, {of}{bits[0]} bit"


def palette(bits: int) -> list[tuple[int, int, int]]:
  """Of 16 bits, as TIFF wants it: no two entries are alike in any colour."""
  count = 2**bits
  return [
    (257 * (i * 255 // (count - 1)), 65535 - 256 * i, 256 * i)
    for i in range(count)
  ]


def tiff_shows(key: TiffKey, samples: list[int]) -> list[Fraction]:
  """RGB from 0 to 255 of one pixel; LAB is not worked out."""
  _, photometric, _, _, bits, extra = key
  whole = 2 ** bits[0] - 1
  share = [Fraction(v, whole) for v in samples]
  colours = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: len(bits)}[photometric]
  # Four samples of RGB that declare no fourth are RGBA, for Pillow and others.
  extra = extra or (2,) * (len(bits) - colours)
  main, rest = share[:colours], share[colours:]
  if photometric == 0:
    rgb = [1 - main[0]] * 3
  elif photometric == 3:
    rgb = [Fraction(v, 65535) for v in palette(bits[0])[samples[0]]]
  elif photometric == 5:
    rgb = [(1 - v) * (1 - main[3]) for v in main[:3]]
  elif photometric == 6 and colours == 3:
    rgb = _of_ycbcr(*main)
  else:
    rgb = main if colours == 3 else main * 3
  for kind, alpha in zip(extra, rest):
    if kind == 1:
      rgb = [v + 1 - alpha for v in rgb]
    elif kind in (2, 999):
      rgb = [v * alpha + 1 - alpha for v in rgb]
  return [255 * v for v in rgb]


def _of_ycbcr(y: Fraction, cb: Fraction, cr: Fraction) -> list[Fraction]:
  """CCIR 601, as TIFF's default."""
  b, r = cb - Fraction(128, 255), cr - Fraction(128, 255)
  red, blue = Fraction(1402, 1000) * r, Fraction(1772, 1000) * b
  green = -Fraction(344136, 10**6) * b - Fraction(714136, 10**6) * r
  clip = lambda v: min(max(v, Fraction(0)), Fraction(1))
  return [clip(y + v) for v in (red, green, blue)]


def tiff_pixels(bits: tuple[int, ...], extra: tuple[int, ...]) -> np.ndarray:
  """Black, white, and twice values that read otherwise from either end."""
  whole, c = 2 ** bits[0] - 1, len(bits)
  one = [(whole * (3 + 2 * i) // 16 + 1) & whole for i in range(c)]
  if 1 in extra:  # what is multiplied in is no larger than its alpha
    one[:3] = sorted(min(v, one[3]) for v in (one[0], one[1], one[2] // 2))
  return np.array([[[0] * c, [whole] * c, one, one]])


def tiff(key: TiffKey, compressed: bool) -> bytes:
  """`tiff_pixels` as a file."""
  prefix, photometric, kinds, fill, bits, extra = key
  more = []
  if photometric == 3:
    more = [(320, 3, [v for c in zip(*palette(bits[0])) for v in c])]
  if photometric == 6:
    more = [(530, 3, [1, 1])]
  return raster.tiff(
    tiff_pixels(bits, extra),
    bits[0],
    photometric,
    order="<" if prefix == b"II" else ">",
    extra=extra,
    signed=kinds[0],
    fill=fill,
    compressed=compressed,
    more=more,
  )


# (name, file, words of the rejection or "", RGB of its third pixel or None)
Shown = tuple[str, bytes, str, tuple[int, int, int] | None]


def tiffs() -> list[Shown]:
  out: list[Shown] = []
  for photometric, kind, bits, extra in TIFF_KINDS:
    key = (b"II", photometric, (kind,), 1, bits, extra)
    words = {1: "", 2: SIGNED, 3: FLOAT}[kind]
    pixel = None
    if not words and photometric != 8:
      samples = [int(v) for v in tiff_pixels(bits, extra)[0, 2]]
      r, g, b = (round(v) for v in tiff_shows(key, samples))
      pixel = (r, g, b)
    out.append((tiff_name(key), tiff(key, False), words, pixel))
  return out


def pngs() -> list[Shown]:
  """Of each depth: black, white, a third and a third again."""
  out: list[Shown] = []
  clear = lambda *v: raster.chunk(b"tRNS", struct.pack(f">{len(v)}H", *v))
  white, dim = (255, 255, 255), (85, 85, 85)
  for bits in (1, 2, 4, 8, 16):
    whole = 2**bits - 1
    third = whole // 3
    values = np.array([[[0], [whole], [third], [third]]])
    grey = dim if third else (0, 0, 0)
    name = f"PNG: grey, {bits} bit"
    out.append((name, raster.png(values, bits, 0), "", grey))
    data = raster.png(values, bits, 0, clear(third))
    out.append((f"PNG: grey, one clear, {bits} bit", data, "", white))
  for bits in (8, 16):
    whole = 2**bits - 1
    third = whole // 3
    values = np.array([[[0] * 4, [whole] * 4, [third] * 4, [third] * 4]])
    rgb, pair = values[..., :3], values[..., :2]
    png = functools.partial(_png, bits)
    bit, key = f"{bits} bit", clear(third, third, third)
    out += [
      (f"PNG: RGB, {bit}", png(rgb, 2), "", dim),
      (f"PNG: RGB, one clear, {bit}", png(rgb, 2, key), "", white),
      (f"PNG: grey + alpha, {bit}", png(pair, 4), "", (198, 198, 198)),
      (f"PNG: RGB + alpha, {bit}", png(values, 6), "", (198, 198, 198)),
    ]
  table = raster.chunk(b"PLTE", bytes([200, 0, 0, 0, 100, 0]))
  for bits in (1, 2, 4, 8):
    values = np.array([[[1], [1], [0], [0]]])
    data = raster.png(values, bits, 3, table)
    out.append((f"PNG: palette, {bits} bit", data, "", (200, 0, 0)))
    some = raster.chunk(b"tRNS", bytes([51]))
    data = raster.png(values, bits, 3, table, some)
    out.append((f"PNG: palette + alpha, {bits} bit", data, "", (244, 204, 204)))
  return out


def _png(bits: int, samples: np.ndarray, colour: int, *chunks: bytes) -> bytes:
  return raster.png(samples, bits, colour, *chunks)


def others() -> list[Shown]:
  out: list[Shown] = []
  table = [(255, 0, 0), (0, 0, 255), (9, 9, 9), (8, 8, 8)]
  white = (255, 255, 255)
  out += [
    (
      "GIF whose first frame leaves some uncovered",
      raster.gif((4, 1), table, [((0, 0, 1, 1), 1)]),
      "",
      white,
    ),
    (
      "GIF: palette",
      raster.gif((4, 1), table, [((0, 0, 4, 1), 1)]),
      "",
      (0, 0, 255),
    ),
    (
      "WebP whose first frame leaves some uncovered",
      raster.webp_frame(
        _saved("RGB", (255, 0, 0), "WEBP", (2, 2)), (8, 2), (0, 0), False
      ),
      "",
      white,
    ),
  ]
  for bits in (1, 4, 8):
    values = np.array([[[0], [0], [1], [1]]])
    data = raster.bmp(values, bits, [(200, 0, 9), (0, 100, 7)])
    out.append((f"BMP: palette, {bits} bit", data, "", (0, 100, 7)))
  for bits in (24, 32):
    values = np.array([[[9, 0, 200, 0][: bits // 8]] * 4])
    data = raster.bmp(values, bits)
    out.append((f"BMP: RGB, {bits} bit a pixel", data, "", (200, 0, 9)))
  pair = struct.pack(">4H", 0, 0, 0x4000, 0x4000)
  out += [
    ("PBM (P1, P4): 1 bit", b"P4\n4 1\n\x20", "", (0, 0, 0)),
    ("PGM (P2, P5): 8 bit", b"P5\n4 1\n255\n\0\0AA", "", (65, 65, 65)),
    ("PGM (P2, P5): 16 bit", b"P5\n4 1\n65535\n" + pair, "", (64, 64, 64)),
    ("PGM whose white is 15", b"P2\n4 1\n15\n0 0 5 5", "", (85, 85, 85)),
    (
      "PPM (P3, P6): 8 bit",
      b"P6\n4 1\n255\n" + b"\7\x08\x09" * 4,
      "",
      (7, 8, 9),
    ),
    (
      "PPM (P3, P6): 16 bit",
      b"P6\n4 1\n65535\n" + struct.pack(">12H", *[257, 514, 771] * 4),
      "",
      (1, 2, 3),
    ),
    ("PFM: float", b"Pf\n4 1\n-1.0\n" + b"\0" * 16, FLOAT, None),
    ("JPEG: grey", _saved("L", 130, "JPEG"), "", (130, 130, 130)),
    ("JPEG: YCbCr", _saved("RGB", (250, 20, 130), "JPEG"), "", (250, 20, 130)),
  ]
  for mode, colour, rgb in (
    ("L", 130, (130, 130, 130)),
    ("LA", (0, 51), (204, 204, 204)),
    ("RGB", (250, 20, 130), (250, 20, 130)),
    ("RGBA", (255, 0, 0, 51), (255, 204, 204)),
    ("I;16", 0x4000, (64, 64, 64)),
  ):
    name = {"I;16": "grey, 16 bit"}.get(mode, f"{mode}, 8 bit")
    out.append(
      (f"JPEG 2000: {name}", _saved(mode, colour, "JPEG2000"), "", rgb)
    )
    if len(mode) != 1 and mode[:3] == "RGB":
      out.append((f"AVIF: {name}", _saved(mode, colour, "AVIF"), "", rgb))
      out.append((f"WebP: {name}", _saved(mode, colour, "WEBP"), "", rgb))
  return out


def _saved(mode: str, colour, kind: str, size=(32, 32)) -> bytes:
  out = io.BytesIO()
  options = {"WEBP": {"lossless": True}, "JPEG2000": {}}
  image = Image.new(mode, size, colour)
  image.save(out, kind, **options.get(kind, {"quality": 100}))
  return out.getvalue()
