"""Samples of every kind and depth that Pillow opens, by values on paper.

The files are put together byte by byte (tests/data/raster.py) and what they
show is worked out here in exact fractions.
"""

from fractions import Fraction
import io
import struct

import numpy as np
from PIL import Image, TiffImagePlugin
import pytest

from emma_jax.data.pictures import images, modes
from emma_jax.data.pictures.images import BadRecord
from tests.data import made, mode_cases, raster

# (prefix, photometric, sample formats, fill order, bits, extra samples)
KEYS = sorted(TiffImagePlugin.OPEN_INFO)
# Raw modes that Pillow's own table names and its decoder lacks.
_LACKING = ("L;IR", "P;1R", "P;2R", "P;4R")


def _name(key) -> str:
  prefix, *_, fill, _, _ = key
  return f"{mode_cases.tiff_name(key)}, {prefix.decode()}, fill {fill}"


@pytest.mark.parametrize("compressed", [False, True], ids=["raw", "zip"])
@pytest.mark.parametrize("key", KEYS, ids=_name)
def test_every_kind_of_tiff(key, compressed: bool):
  """Of each kind that Pillow opens: right within a level, or refused."""
  data = mode_cases.tiff(key, compressed)
  kinds, raw = key[2], TiffImagePlugin.OPEN_INFO[key][1]
  refused = {2: "signed pictures", 3: "float pictures"}.get(kinds[0])
  if raw in _LACKING and not compressed:
    refused = "cannot read"
  if refused:
    with pytest.raises(BadRecord, match=refused):
      images.load_picture(data)
    return
  try:
    found = images.load_picture(data)
  except BadRecord as error:  # libtiff may lack a kind: refused, never wrong
    assert compressed and "cannot read" in error.reason
    return
  assert images.measure_picture(data) == found.shape[:2] == (1, 4)
  if key[1] == 8:
    # LAB: a and b are 0 at the first pixel alone.
    assert found[0, 0].max() <= 2
    return
  for pixel, samples in zip(
    found[0], mode_cases.tiff_pixels(key[4], key[5])[0]
  ):
    want = mode_cases.tiff_shows(key, [int(v) for v in samples])
    near = max(abs(int(p) - w) for p, w in zip(pixel, want))
    assert near <= 1.5, (pixel.tolist(), [float(w) for w in want])


def test_lab():
  """Lightness alone: 0, the middle (sRGB 119) and the largest."""
  samples = np.array([[[0, 0, 0], [128, 0, 0], [255, 0, 0]]])
  found = images.load_picture(raster.tiff(samples, 8, 8))
  assert (
    np.abs(found[0].astype(int) - [[0] * 3, [119] * 3, [255] * 3]).max() < 4
  )


@pytest.mark.parametrize("bits", [12, 16, 32])
@pytest.mark.parametrize("largest", [0.01, 0.5, 1.0])
def test_the_range_is_that_of_the_bits_not_of_the_values(bits, largest):
  whole = 2**bits - 1
  top = int(whole * largest)
  values = np.array([[[0], [top // 2], [top]]])
  found = images.load_picture(raster.tiff(values, bits, 1))
  want = [round(255 * Fraction(v, whole)) for v in (0, top // 2, top)]
  assert found[0, :, 0].tolist() == want


@pytest.mark.parametrize("bits", [8, 16, 32])
@pytest.mark.parametrize("value", [3, 100])
def test_signed_samples_are_refused_whatever_their_values(bits, value):
  data = raster.tiff(np.full((1, 1, 1), value), bits, 1, signed=2)
  for read in (images.load_picture, images.measure_picture):
    with pytest.raises(BadRecord, match=f"signed pictures, here of {bits} bit"):
      read(data)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("compressed", [False, True])
def test_separate_planes(bits, compressed):
  step = (2**bits - 1) // 255
  pixels = np.array([[[10, 20, 30], [200, 100, 50]]])
  data = raster.tiff(pixels * step, bits, 2, planar=2, compressed=compressed)
  if bits == 16 and not compressed:
    with pytest.raises(BadRecord, match="separate planes"):
      images.load_picture(data)
    return
  assert images.load_picture(data).tolist() == pixels.tolist()


# ---------------------------------------------------------------------- PNG

_CLEAR = [255, 255, 255]


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_grey_png_with_a_transparent_value(bits):
  """Every value is its share of the whole; the clear one is white."""
  whole = 2**bits - 1
  values = sorted({0, 1, whole // 3, whole // 2, whole - 1, whole})
  samples = np.array([[[v] for v in values]])
  shown = [[round(255 * Fraction(v, whole))] * 3 for v in values]
  data = raster.png(samples, bits, 0)
  assert images.load_picture(data)[0].tolist() == shown
  for i, clear in enumerate(values):
    # Higher bits than a sample has do not count.
    for given in {clear, clear | (1 << bits if 1 < bits < 16 else 0)}:
      key = raster.chunk(b"tRNS", struct.pack(">H", given))
      found = images.load_picture(raster.png(samples, bits, 0, key))
      want = [*shown[:i], _CLEAR, *shown[i + 1 :]]
      assert found[0].tolist() == want


@pytest.mark.parametrize("bits", [8, 16])
def test_colours_with_a_transparent_one(bits):
  step = (2**bits - 1) // 255
  first = np.array([10, 20, 30]) * step
  near = first + [0, 0, 1]  # of 16 bits: the same in 8
  samples = np.array([[first, near, [255 * step, 0, 129 * step]]])
  key = raster.chunk(b"tRNS", struct.pack(">3H", *first))
  found = images.load_picture(raster.png(samples, bits, 2, key))
  second = [10, 20, 31 if bits == 8 else 30]
  assert found[0].tolist() == [_CLEAR, second, [255, 0, 129]]


@pytest.mark.parametrize("colour, c", [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_sixteen_bits_are_rounded_in_every_mode(colour, c):
  """A step is 257: half a step above a value is the next."""
  values = [0, 128, 129, 385, 386, 65406, 65407, 65535]
  samples = np.full((1, len(values), c), 65535)
  samples[..., : c - (colour > 3)] = np.array(values)[:, None]
  found = images.load_picture(raster.png(samples, 16, colour))
  assert found[0, :, 0].tolist() == [0, 0, 1, 1, 2, 254, 255, 255]
  assert (found == found[..., :1]).all()


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("colour", [4, 6])
def test_alpha_of_png(bits, colour):
  step = (2**bits - 1) // 255
  c = 2 if colour == 4 else 4
  samples = np.zeros((1, 3, c), np.int64)
  samples[0, :, -1] = np.array([0, 51, 255]) * step
  found = images.load_picture(raster.png(samples, bits, colour))
  assert found[0, :, 0].tolist() == [255, 204, 0]


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_palettes_of_png(bits):
  """Of each entry its own alpha; entries beyond the alphas are opaque."""
  table = [(200, 0, 0), (0, 100, 0)]
  samples = np.array([[[0], [1]]])
  chunks = [raster.chunk(b"PLTE", bytes(v for c in table for v in c))]
  data = raster.png(samples, bits, 3, *chunks)
  assert images.load_picture(data)[0].tolist() == [[200, 0, 0], [0, 100, 0]]
  chunks.append(raster.chunk(b"tRNS", bytes([51])))
  found = images.load_picture(raster.png(samples, bits, 3, *chunks))
  assert found[0].tolist() == [[244, 204, 204], [0, 100, 0]]


# ------------------------------------------------- frames and other formats


@pytest.mark.parametrize("clear", [None, 0, 1])
def test_what_no_frame_of_a_gif_covers_is_white(clear):
  """Not the palette's first entry, which here is red."""
  table = [(255, 0, 0), (0, 0, 255), (9, 9, 9), (8, 8, 8)]
  data = raster.gif((4, 3), table, [((1, 1, 2, 1), 1)], clear)
  want = np.full((3, 4, 3), 255)
  if clear != 1:
    want[1, 1:3] = [0, 0, 255]
  assert images.load_picture(data).tolist() == want.tolist()
  # A second frame that covers all is not shown; one beyond the canvas is.
  data = raster.gif((1, 1), table, [((1, 1, 2, 1), 1), ((0, 0, 4, 3), 2)])
  found = images.load_picture(data)
  assert found.shape[:2] == images.measure_picture(data) == (2, 3)
  assert found[1, 1].tolist() == [0, 0, 255] and found[0].min() == 255


@pytest.mark.parametrize("has_alpha", [False, True])
def test_what_no_frame_of_a_webp_covers_is_white(has_alpha):
  data = raster.webp_frame(
    made.picture("red", 2, 2, "WEBP"), (6, 4), (2, 2), has_alpha
  )
  found = images.load_picture(data)
  assert found.shape == (4, 6, 3) and images.measure_picture(data) == (4, 6)
  outside = np.ones((4, 6), bool)
  outside[2:4, 2:4] = False
  assert (found[outside] == 255).all()
  assert (found[~outside].astype(int) - [255, 0, 0] < 9).all()


@pytest.mark.parametrize("largest", [1, 15, 100, 255, 256, 4095, 65535])
def test_portable_greys_and_colours(largest):
  """P2 and P5, P3 and P6: the largest value is white."""
  values = [0, largest // 2, largest]
  want = [round(255 * Fraction(v, largest)) for v in values]
  kind = "B" if largest < 256 else "H"
  for number, c in ((2, 1), (3, 3), (5, 1), (6, 3)):
    several = [v for v in values for _ in range(c)]
    body = " ".join(map(str, several)).encode()
    if number > 3:
      body = struct.pack(f">{len(several)}{kind}", *several)
    data = f"P{number}\n3 1\n{largest}\n".encode() + body
    found = images.load_picture(data)[0]
    assert np.abs(found.astype(int) - np.array(want)[:, None]).max() <= 1


@pytest.mark.parametrize("data", [b"P1\n2 1\n0 1\n", b"P4\n2 1\n\x40"])
def test_portable_bits(data):
  assert images.load_picture(data)[0, :, 0].tolist() == [255, 0]


def test_portable_floats_are_refused():
  with pytest.raises(BadRecord, match="float"):
    images.load_picture(b"Pf\n1 1\n-1.0\n" + struct.pack("<f", 0.5))


@pytest.mark.parametrize("bits", [1, 4, 8, 24, 32])
def test_bitmaps(bits):
  table = [(200, 0, 9), (0, 100, 7)] if bits <= 8 else []
  if table:
    samples, want = np.array([[[0], [1]]]), [[200, 0, 9], [0, 100, 7]]
  else:  # blue, green, red, and a spare byte that is no alpha
    samples = np.array(
      [[[9, 0, 200, 7][: bits // 8], [7, 100, 0, 0][: bits // 8]]]
    )
    want = [[200, 0, 9], [0, 100, 7]]
  assert (
    images.load_picture(raster.bmp(samples, bits, table))[0].tolist() == want
  )


@pytest.mark.parametrize(
  "mode, colour, want",
  [
    ("L", 130, [130] * 3),
    ("RGB", (250, 20, 130), [250, 20, 130]),
    ("CMYK", (0, 255, 255, 0), [254, 0, 0]),
    ("YCbCr", (76, 85, 255), [255, 0, 0]),
  ],
)
def test_modes_of_jpeg(mode, colour, want):
  out = io.BytesIO()
  Image.new(mode, (16, 16), colour).save(out, "JPEG", quality=100)
  found = images.load_picture(out.getvalue())[8, 8].astype(int)
  assert np.abs(found - want).max() <= 3


@pytest.mark.parametrize("kind", ["JPEG2000", "AVIF", "WEBP"])
@pytest.mark.parametrize(
  "mode, colour, want",
  [
    ("L", 130, [130] * 3),
    ("LA", (0, 51), [204] * 3),
    ("RGB", (250, 20, 130), [250, 20, 130]),
    ("RGBA", (255, 0, 0, 51), [255, 204, 204]),
    ("I;16", 0x8040, [128] * 3),
  ],
)
def test_modes_of_formats_with_their_own_coding(kind, mode, colour, want):
  if kind not in images._formats():
    pytest.skip(f"this Pillow has no {kind}")
  if mode == "I;16" and kind != "JPEG2000":
    return  # which are made of 8 bits
  out = io.BytesIO()
  options = {} if kind == "JPEG2000" else {"quality": 100}
  try:
    Image.new(mode, (32, 32), colour).save(out, kind, **options)
  except OSError:
    return  # no such file can be made
  found = images.load_picture(out.getvalue())[16, 16].astype(int)
  assert np.abs(found - want).max() <= 4


def test_many_rows_are_those_of_few(monkeypatch):
  """The strips that bound the memory meet without a seam."""
  values = np.random.default_rng(0).integers(0, 65536, (37, 11, 4))
  files = [
    raster.png(values[..., :1], 16, 0),
    raster.png(values[..., :3], 16, 2),
    raster.png(values[..., :2], 16, 4),
    raster.png(values, 16, 6),
    raster.tiff(values[..., :1], 32, 1),
  ]
  whole = [images.load_picture(data) for data in files]
  monkeypatch.setattr(modes, "_STRIP", 30)
  for data, want in zip(files, whole):
    assert np.array_equal(images.load_picture(data), want)


# ------------------------------------------------- the header and the pixels


def _with_xmp(kind: str, orientation: int) -> bytes:
  xmp = f'<x tiff:Orientation="{orientation}"/>'.encode()
  out = io.BytesIO()
  Image.new("RGB", (8, 4)).save(out, kind, xmp=xmp)
  return out.getvalue()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_header_tells_the_size_of_the_pixels(orientation):
  """Wherever the orientation stands."""
  want = (8, 4) if orientation > 4 else (4, 8)
  several = np.arange(32).reshape(4, 8, 1)
  files = [
    raster.tiff(several, 8, 1, more=[(274, kind, [orientation])], **options)
    for kind in (3, 4)
    for options in ({}, {"order": ">"}, {"compressed": True})
  ]
  files += [
    raster.tiff(several * 257, 16, 1, more=[(274, 3, [orientation])]),
    raster.tiff(
      several.repeat(3, 2) * 257, 16, 2, more=[(274, 3, [orientation])]
    ),
    *(_with_xmp(kind, orientation) for kind in ("JPEG", "WEBP")),
    *(made.oriented(orientation, kind, 1) for kind in ("PNG", "TIFF", "JPEG")),
  ]
  for data in files:
    found = images.load_picture(data).shape[:2]
    assert images.measure_picture(data) == found
    assert found in (want, (3, 2), (2, 3))


def test_the_table_of_outcomes_has_every_mode(repo):
  """Each mode of Pillow's table of TIFF, and each depth, is named there."""
  page = (repo / "emma_jax" / "data" / "outcomes.md").read_text()
  for key in KEYS:
    assert f"| picture | {mode_cases.tiff_name(key)} |" in page
