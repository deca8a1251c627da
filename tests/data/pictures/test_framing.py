"""Framing: nothing is distorted, padded or lost that is not said."""

import dataclasses

from hypothesis import given
from hypothesis import strategies as st
import numpy as np
from PIL import Image
import pytest

from emma_jax.data.pictures import aspect_buckets, preprocess
from emma_jax.data.pictures.images import BadRecord
from tests import neutral
from tests.laws import laws

SIZES = ((64, 128), (96, 96), (128, 64))
COVER = neutral.framing(SIZES, height=96, width=96, fit="cover", max_crop=0.9)
SIDES = st.integers(20, 400)


def _ramps(y: int, x: int) -> np.ndarray:
  """Red says the row, green the column, both in shares of the picture."""
  out = np.zeros((y, x, 3), np.float64)
  out[..., 0] = (np.arange(y)[:, None] + 0.5) / y
  out[..., 1] = (np.arange(x) + 0.5) / x
  return np.rint(255 * out).astype(np.uint8)


@laws(60)
@given(SIDES, SIDES)
def test_what_covers_is_the_centre_undistorted(y, x):
  picture = _ramps(y, x)
  fitted = COVER.read(picture, "target", "", 10**6)
  height, width, _ = fitted.pixels_YXC.shape
  assert (height, width) in SIZES and fitted.whole
  scale = max(height / y, width / x)
  # Where the middle of the frame's pixels lies in the picture, in shares.
  rows = 0.5 + (np.arange(height) + 0.5 - height / 2) / scale / y
  columns = 0.5 + (np.arange(width) + 0.5 - width / 2) / scale / x
  inner = slice(4, -4)
  for channel, axis, want in ((0, 1, rows), (1, 0, columns)):
    got = fitted.pixels_YXC[..., channel].mean(axis=axis) / 255
    np.testing.assert_allclose(got[inner], want[inner], atol=2.5 / 255)
  kept = (height / scale) * (width / scale) / (y * x)
  assert abs(fitted.cropped - (1 - kept)) < 1e-9


@laws(60)
@given(SIDES, SIDES)
def test_the_bucket_is_the_one_that_loses_least(y, x):
  """Which is the nearest by aspect ratio."""
  of = lambda size: COVER.sized(*size).generation.cropped(y, x)
  mine = COVER.nearest(y, x).generation
  assert mine.cropped(y, x) <= min(map(of, SIZES)) + 1e-9


@laws(60)
@given(SIDES, SIDES, st.sampled_from(SIZES))
def test_padding_is_whole_cells_behind_the_content(y, x, size):
  fit = neutral.preprocess(
    height=size[0], width=size[1], fit="pad_cells", max_crop=0.95
  )
  placed = fit.place(y, x)
  assert all(side % 32 == 0 and side for side in placed.content)
  assert all(a <= b for a, b in zip(placed.content, placed.full))
  assert placed.content[0] == size[0] or placed.content[1] == size[1]
  black = np.zeros((y, x, 3), np.uint8)
  fitted = fit(black)
  assert (
    fitted.pixels_YXC[: placed.content[0], : placed.content[1]] == 0
  ).all()
  fitted.pixels_YXC[: placed.content[0], : placed.content[1]] = 255
  assert (fitted.pixels_YXC == 255).all()


def test_what_is_edited_is_framed_like_what_is_drawn():
  """Understanding pictures alone keep their shape."""
  assert COVER.of("target") is COVER.of("ref") is COVER.generation
  assert COVER.of("und") is COVER.understanding is not COVER.generation


@pytest.mark.parametrize("size", [(40, 50), (96, 96), (300, 290)])
def test_one_filter_resizes_every_picture(size):
  """Pillow's bicubic of the box that is kept, antialiased."""
  rng = np.random.default_rng(0)
  pixels_YXC = rng.integers(0, 256, (*size, 3), np.uint8)
  fit = neutral.preprocess(height=96, width=96, fit="cover", max_crop=0.9)
  y, x = size
  side = min(size)
  box = ((x - side) / 2, (y - side) / 2, (x + side) / 2, (y + side) / 2)
  want = Image.fromarray(pixels_YXC).resize(
    (96, 96), Image.Resampling.BICUBIC, box=box
  )
  found = neutral.read(fit, pixels_YXC).pixels_YXC
  np.testing.assert_array_equal(found, np.asarray(want))


def test_pictures_of_questions_are_never_cropped():
  for y, x in ((64, 500), (33, 77), (400, 40)):
    fitted = COVER.read(np.zeros((y, x, 3), np.uint8), "und", "", 10**6)
    assert fitted.cropped == 0
    height, width = fitted.content_size
    scale = min(fitted.pixels_YXC.shape[0] / y, fitted.pixels_YXC.shape[1] / x)
    assert abs(height - y * scale) <= 0.5 and abs(width - x * scale) <= 0.5


@pytest.mark.parametrize("fit", ["cover", "pad_cells"])
@pytest.mark.parametrize("size", [(1, 300), (300, 1), (20, 400)])
def test_thin_pictures_are_refused_with_what_helps(fit, size):
  fit = neutral.preprocess(height=96, width=96, fit=fit, max_crop=0.5)
  with pytest.raises(BadRecord, match=r"would lose \d+% .*max_crop=0.5; raise"):
    neutral.read(fit, np.zeros((*size, 3), np.uint8))


def test_a_picture_that_loses_just_as_much_is_taken():
  fit = neutral.preprocess(height=96, width=96, fit="cover", max_crop=0.5)
  assert neutral.read(fit, np.zeros((96, 192, 3), np.uint8)).cropped == 0.5
  with pytest.raises(BadRecord, match="would lose"):
    neutral.read(fit, np.zeros((96, 193, 3), np.uint8))


@pytest.mark.parametrize("max_crop", [-0.1, 1.0, float("nan")])
def test_a_share_that_is_none(max_crop):
  with pytest.raises(ValueError, match="no share of a picture"):
    neutral.preprocess(height=32, width=32, fit="cover", max_crop=max_crop)


def test_a_rule_that_is_none():
  with pytest.raises(ValueError, match="choose pad or cover"):
    neutral.preprocess(height=32, width=32, fit="stretch")


def test_results_have_the_size_asked_for():
  fit = COVER.nearest(50, 70).generation
  fitted = fit(_ramps(50, 70))
  assert preprocess.restore(fitted, fitted.pixels_YXC).shape == (50, 70, 3)
  made = preprocess.restore(fitted, fitted.pixels_YXC, (11, 90))
  assert made.shape == (11, 90, 3)
  with pytest.raises(ValueError, match="does not belong"):
    preprocess.restore(fitted, fitted.pixels_YXC[:32])


def test_the_tables_have_the_same_ratios():
  small, large = aspect_buckets.TABLE_512, aspect_buckets.TABLE_1024
  assert len(small) == len(large) == 33
  for (h, w), (H, W) in zip(small, large):
    assert (2 * h, 2 * w) == (H, W) and h % 32 == w % 32 == 0


def test_fingerprints_are_those_of_before_where_nothing_changed():
  """So that older runs go on, and older latents are found."""
  old = neutral.framing(height=96, width=96)
  assert old.fingerprints() == {"preprocess": old.understanding.fingerprint()}
  native = neutral.framing(height=96, width=96, native=True)
  assert native.fingerprints() == {
    "preprocess": native.understanding.fingerprint(),
    "frame": native.generation.fingerprint(),
  }
  changes = (
    dict(buckets=SIZES[:2]),
    dict(generation=dataclasses.replace(COVER.generation, max_crop=0.1)),
    dict(understanding=native.understanding),
  )
  seen = [dataclasses.replace(COVER, **c).fingerprints() for c in changes]
  assert all(x != COVER.fingerprints() for x in seen)


def test_a_result_of_another_shape_is_its_centre():
  picture = _ramps(96, 96)
  made = preprocess.covering(picture, (40, 80))
  assert made.shape == (40, 80, 3)
  # The rows of the middle half; all columns.
  np.testing.assert_allclose(
    made[[2, -3], :, 0].mean(axis=1) / 255,
    [0.25 + 2.5 / 80, 0.75 - 2.5 / 80],
    atol=0.02,
  )
  np.testing.assert_allclose(
    made[:, [2, -3], 1].mean(axis=0) / 255, [2.5 / 80, 1 - 2.5 / 80], atol=0.02
  )
