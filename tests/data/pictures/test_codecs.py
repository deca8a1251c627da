"""The fast codec: near Pillow's pixels, and the same verdicts."""

import io

import numpy as np
from PIL import Image
import pytest

pytest.importorskip("cv2", reason="needs the extra fast")
pytest.importorskip("simplejpeg", reason="needs the extra fast")

from emma_jax.data.pictures import codecs
from emma_jax.data.pictures.images import BadRecord
from emma_jax.data.pictures.preprocess import Preprocess
from emma_jax.speed.data_rows import photo
from tests import neutral
from tests.data import hostile, made


def _photo(y: int, x: int, seed: int = 0) -> np.ndarray:
  return photo(np.random.default_rng(seed), y, x)


def _jpeg(picture: np.ndarray, **options) -> bytes:
  out = io.BytesIO()
  Image.fromarray(picture).save(out, "JPEG", **{"quality": 90} | options)
  return out.getvalue()


def _both(**more) -> tuple[Preprocess, Preprocess]:
  sizes = dict(height=256, width=256) | more
  return neutral.preprocess(**sizes), neutral.preprocess(**sizes, codec="fast")


@pytest.mark.parametrize(
  "y, x", [(300, 400), (512, 512), (700, 300), (1100, 900), (1500, 2000)]
)
@pytest.mark.parametrize(
  "options", [{}, {"progressive": True}, {"subsampling": 0, "quality": 80}]
)
def test_within_one_of_pillow(y, x, options):
  """On average over the content; padding is equal."""
  slow, fast = _both()
  data = _jpeg(_photo(y, x, y + x), **options)
  a, b = neutral.read(slow, data), neutral.read(fast, data)
  assert (a.content_size, a.original_size) == (b.content_size, b.original_size)
  assert b.original_size == (y, x)
  v, u = a.content_size
  far = np.abs(a.pixels_YXC.astype(int) - b.pixels_YXC)
  assert 0 < far[:v, :u].mean() < 1.0 and not far[v:].any()
  assert not far[:, u:].any()
  assert np.array_equal(b.pixels_YXC, neutral.read(fast, data).pixels_YXC)


@pytest.mark.parametrize(
  "data",
  [
    _jpeg(_photo(100, 120)),  # to be enlarged
    _jpeg(_photo(256, 256)),  # fits
    made.noise(400, 300),  # to be enlarged a little
  ],
)
def test_what_is_not_shrunk_is_pillows(data):
  slow, fast = _both(height=416, width=416)
  assert np.array_equal(
    neutral.read(slow, data).pixels_YXC, neutral.read(fast, data).pixels_YXC
  )


@pytest.mark.parametrize("orientation", made.UPRIGHT)
def test_exif_orientations_are_those_of_the_standard(orientation):
  """Decoded at a half or quarter, and shrunk, or neither."""
  data, want = made.oriented(orientation, "JPEG", 64), made.UPRIGHT[orientation]
  for frame, side in ((192, 64), (96, 32)):
    _, fast = _both(height=frame, width=frame)
    fitted = neutral.read(fast, data)
    y, x = fitted.content_size
    assert (y, x) == (side * len(want), side * len(want[0]))
    assert made.letters(fitted.pixels_YXC[:y, :x], side) == want


def test_arrays_and_other_formats_are_shrunk_the_same_way():
  _, fast = _both()
  photo = _photo(600, 500)
  out = io.BytesIO()
  Image.fromarray(photo).save(out, "PNG")
  assert np.array_equal(
    neutral.read(fast, out.getvalue()).pixels_YXC, fast(photo).pixels_YXC
  )


def test_native_sizes():
  slow, fast = _both(native=True, max_tokens=64)
  data = _jpeg(_photo(700, 900))
  a, b = neutral.read(slow, data), neutral.read(fast, data)
  assert a.pixels_YXC.shape == b.pixels_YXC.shape
  assert np.abs(a.pixels_YXC.astype(int) - b.pixels_YXC).mean() < 1.0


@pytest.mark.parametrize("case", hostile.pictures(), ids=lambda c: c.name)
def test_hostile_pictures_have_the_same_outcome(case):
  _, fast = _both(height=32, width=32)
  if case.outcome != hostile.USED:
    with pytest.raises(BadRecord, match=case.outcome):
      neutral.read(fast, case.value)
  else:
    slow = neutral.read(neutral.preprocess(height=32, width=32), case.value)
    got = neutral.read(fast, case.value)
    assert got.original_size == slow.original_size
    far = np.abs(got.pixels_YXC.astype(int) - slow.pixels_YXC).mean()
    assert far < 12  # noise of single pixels, which filters treat differently


def test_damage_that_pillow_passes_over_is_pillows_to_judge():
  """Some files are cut by marks in the middle; both must say the same."""
  slow, fast = _both()
  data = bytearray(_jpeg(_photo(300, 400)))
  data[len(data) // 2 : len(data) // 2 + 4] = b"\xff\xd3\xff\xd4"
  assert codecs.decode(bytes(data), lambda y, x: (y, x)) is None
  try:
    wanted = neutral.read(slow, bytes(data)).content_size
  except BadRecord:
    with pytest.raises(BadRecord):
      neutral.read(fast, bytes(data))
  else:
    assert neutral.read(fast, bytes(data)).content_size == wanted


def test_the_codec_is_in_the_fingerprint():
  slow, fast = _both()
  assert slow.fingerprint() != fast.fingerprint()
  # That of checkpoints from before there was a choice.
  assert (
    slow.fingerprint()
    == neutral.preprocess(height=256, width=256).fingerprint()
  )
