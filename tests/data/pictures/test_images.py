"""Every kind of picture file has a stated outcome; sizes come back exactly."""

import io

import numpy as np
from PIL import Image
import pytest

from emma_jax.data.pictures import images
from emma_jax.data.pictures.images import (
  BadRecord,
  load_picture,
  measure_picture,
)
from emma_jax.data.pictures.preprocess import Preprocess, restore
from tests import neutral
from tests.data import hostile, made


def _encoded(image: Image.Image, kind: str = "PNG", **kw) -> bytes:
  out = io.BytesIO()
  image.save(out, kind, **kw)
  return out.getvalue()


def _noise(y: int, x: int) -> np.ndarray:
  return np.random.default_rng(0).integers(0, 256, (y, x, 3)).astype(np.uint8)


def _first_pixel(data: bytes) -> list[int]:
  return load_picture(data)[0, 0].tolist()


def _palette() -> bytes:
  image = Image.new("P", (2, 2), 1)
  image.putpalette([0, 0, 0, 10, 200, 30])
  return _encoded(image)


def _see_through_palette() -> bytes:
  image = Image.new("P", (2, 2), 1)
  image.putpalette([0, 0, 0, 10, 200, 30])
  return _encoded(image, transparency=1)


def _animation() -> bytes:
  frames = [Image.new("RGB", (2, 2), c) for c in ("red", "blue")]
  return _encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])


@pytest.mark.smoke
@pytest.mark.parametrize(
  "data, pixel",
  [
    (_encoded(Image.new("RGB", (2, 2), (1, 2, 3))), [1, 2, 3]),
    (_encoded(Image.new("1", (2, 2), 1)), [255] * 3),
    (_encoded(Image.new("L", (2, 2), 9)), [9] * 3),
    (_encoded(Image.new("LA", (2, 2), (0, 128))), [127] * 3),
    (_encoded(Image.new("RGBA", (2, 2), (255, 0, 0, 0))), [255] * 3),
    (_encoded(Image.new("RGBA", (2, 2), (255, 0, 0, 51))), [255, 204, 204]),
    (_encoded(Image.new("I;16", (2, 2), 128 * 257)), [128] * 3),
    (_palette(), [10, 200, 30]),
    (_see_through_palette(), [255] * 3),
    (_animation(), [255, 0, 0]),
  ],
)
def test_modes(data: bytes, pixel: list[int]):
  assert _first_pixel(data) == pixel


def test_sixteen_bits_are_rounded_to_eight():
  """65535 is 255: a step is 257, and half a step above a value is the next."""
  wide = np.array([[0, 128, 129, 385, 386, 65406, 65407, 65535]], np.uint16)
  data = _encoded(Image.fromarray(wide))
  assert load_picture(data)[0, :, 0].tolist() == [0, 0, 1, 1, 2, 254, 255, 255]


@pytest.mark.parametrize("size", [(1, 101), (101, 1)])
def test_a_line_is_no_picture_whichever_way_it_lies(size):
  thin = _encoded(Image.new("RGB", size))
  with pytest.raises(BadRecord, match="is thinner than 1:100"):
    load_picture(thin)
  just = tuple(min(n, 100) for n in size)
  assert load_picture(_encoded(Image.new("RGB", just))).shape[:2] == just[::-1]


def test_cmyk_jpeg():
  data = _encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG")
  assert np.abs(np.array(_first_pixel(data)) - [254, 0, 0]).max() <= 4


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", made.UPRIGHT)
def test_exif_orientations_are_those_of_the_standard(orientation, kind):
  """Pixels set by hand; the header alone tells the same size."""
  data, want = made.oriented(orientation, kind), made.UPRIGHT[orientation]
  pixels = load_picture(data)
  assert made.letters(pixels, 32) == want
  assert pixels.shape == (32 * len(want), 32 * len(want[0]), 3)
  assert measure_picture(data) == pixels.shape[:2]
  fitted = neutral.read(neutral.preprocess(height=96, width=96), data)
  y, x = fitted.content_size
  assert made.letters(fitted.pixels_YXC[:y, :x], 32) == want


@pytest.mark.parametrize("orientation", [0, 9, 255])
def test_an_orientation_that_is_none_turns_nothing(orientation):
  assert (
    made.letters(load_picture(made.oriented(orientation, "PNG")), 32)
    == made.UPRIGHT[1]
  )


def test_arrays_and_paths(tmp_path):
  picture_YXC = _noise(3, 5)
  assert load_picture(picture_YXC) is picture_YXC
  path = tmp_path / "a.png"
  path.write_bytes(_encoded(Image.fromarray(picture_YXC)))
  np.testing.assert_array_equal(load_picture(str(path)), picture_YXC)
  see_through = np.dstack([picture_YXC, np.zeros((3, 5), np.uint8)])
  assert load_picture(see_through).min() == 255


@pytest.mark.parametrize(
  "raw, reason",
  [
    (b"", "zero bytes"),
    (b"no picture", "cannot read"),
    (_encoded(Image.fromarray(_noise(64, 64)))[:-900], "cannot"),
    (_encoded(Image.fromarray(_noise(64, 64)), "JPEG")[:700], "cannot"),
    ("/nowhere/a.png", "cannot read"),
    (np.zeros((2, 2, 3), np.float32), "no uint8"),
    (np.zeros((0, 2, 3), np.uint8), "no uint8"),
    (np.zeros((2, 2, 2), np.uint8), "not"),
    (_encoded(Image.new("F", (2, 2)), "TIFF"), "float"),
    (_encoded(Image.new("I", (2, 2), 1 << 20), "TIFF"), "32 bit"),
  ],
)
def test_broken_pictures(raw, reason: str):
  with pytest.raises(BadRecord, match=reason) as e:
    load_picture(raw, "set.jsonl:3")
  assert e.value.where == "set.jsonl:3"


def test_a_bomb_is_not_decoded():
  data = _encoded(Image.new("1", (3000, 3000)))
  with pytest.raises(BadRecord, match="3000x3000 exceeds 1000000 pixels"):
    load_picture(data, max_pixels=1_000_000)


def test_fixed_mode_frames():
  fit = neutral.preprocess(height=64, width=96)
  right = _noise(64, 96)
  assert fit(right).pixels_YXC is right
  fitted = fit(np.zeros((10, 10, 3), np.uint8))
  assert fitted.content_size == (64, 64)
  assert fitted.pixels_YXC[:, :64].max() == 0
  assert fitted.pixels_YXC[:, 64:].min() == images.WHITE
  assert fit(_noise(1, 500)).pixels_YXC.shape == (64, 96, 3)


@pytest.mark.parametrize(
  "size", [(33, 50), (64, 64), (1, 1), (7, 301), (500, 3)]
)
@pytest.mark.parametrize(
  "fit",
  [
    neutral.preprocess(height=64, width=96),
    neutral.preprocess(height=32, width=32, native=True, max_tokens=6),
    neutral.preprocess(
      height=32, width=32, native=True, min_tokens=4, max_tokens=9
    ),
  ],
)
def test_sizes_come_back_exactly(fit: Preprocess, size: tuple[int, int]):
  picture_YXC = np.full((*size, 3), 77, np.uint8)
  fitted = fit(picture_YXC)
  y, x, _ = fitted.pixels_YXC.shape
  assert y % 32 == x % 32 == 0
  if fit.native:
    assert fit.min_tokens <= y * x // 1024 <= fit.max_tokens
  out = restore(fitted, fitted.pixels_YXC)
  assert out.shape == picture_YXC.shape
  assert (out == 77).all()


def test_native_mode_keeps_pixels():
  fit = neutral.preprocess(height=32, width=32, native=True, max_tokens=16)
  picture_YXC = _noise(45, 70)
  fitted = fit(picture_YXC)
  assert fitted.pixels_YXC.shape == (64, 96, 3)
  np.testing.assert_array_equal(restore(fitted, fitted.pixels_YXC), picture_YXC)


def test_restore_refuses_another_size():
  fitted = neutral.preprocess(height=32, width=32)(_noise(9, 9))
  with pytest.raises(ValueError, match="does not belong"):
    restore(fitted, np.zeros((64, 32, 3), np.uint8))


def test_preprocess_checks_itself_and_has_a_fingerprint():
  with pytest.raises(ValueError, match="multiple of 32"):
    neutral.preprocess(height=33, width=32)
  with pytest.raises(ValueError, match="min_tokens"):
    neutral.preprocess(height=32, width=32, min_tokens=9, max_tokens=3)
  one = neutral.preprocess(height=32, width=64)
  assert (
    one.fingerprint() == neutral.preprocess(height=32, width=64).fingerprint()
  )
  assert (
    one.fingerprint() != neutral.preprocess(height=64, width=32).fingerprint()
  )


def test_an_unknown_codec_and_one_that_is_not_installed(monkeypatch):
  from emma_jax.data.pictures import codecs

  with pytest.raises(ValueError, match="pillow or fast"):
    neutral.preprocess(height=32, width=32, codec="magick")
  codecs.libraries.cache_clear()
  monkeypatch.setitem(__import__("sys").modules, "cv2", None)
  with pytest.raises(ValueError, match="extra `fast`"):
    neutral.preprocess(height=32, width=32, codec="fast")


@pytest.mark.parametrize("case", hostile.pictures(), ids=lambda case: case.name)
def test_reading_equals_decoding_then_fitting(case):
  """In one go nothing is copied between, and nothing else differs."""
  fit = neutral.preprocess(height=32, width=64)
  try:
    wanted = fit(load_picture(case.value, "here"))
  except BadRecord as error:
    with pytest.raises(BadRecord) as raised:
      neutral.read(fit, case.value)
    assert raised.value.reason == error.reason
    return
  found = neutral.read(fit, case.value)
  assert np.array_equal(found.pixels_YXC, wanted.pixels_YXC)
  assert found.content_size == wanted.content_size
  assert found.original_size == wanted.original_size
