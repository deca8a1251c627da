"""Pictures in a page are the pictures."""

import base64
import io

import numpy as np
from PIL import Image
import pytest

from emma_jax.pages import render
from emma_jax.pages.pictures import Picture, embedded, thumbnail

from . import reading

EVIL = '"><script>alert(1)</script>'


def test_a_picture_comes_back_from_its_address():
  pixels = np.arange(90, dtype=np.uint8).reshape(5, 6, 3)[:, ::2]
  kind, _, data = embedded(pixels).partition(",")
  assert kind == "data:image/png;base64"
  image = Image.open(io.BytesIO(base64.b64decode(data)))
  np.testing.assert_array_equal(np.asarray(image), pixels)


def test_an_address_is_shown_as_it_is_and_words_stay_words():
  picture = Picture(embedded(np.zeros((3, 2, 3), np.uint8)), EVIL, "small")
  macros = render.environment().get_template("pictures.html.j2").module
  ((tag, shown),) = reading.check(str(macros.img(picture))).tags
  assert tag == "img"
  assert shown == {"class": "small", "alt": EVIL, "src": picture.src}


def file(pixels: np.ndarray, kind: str, **options) -> bytes:
  out = io.BytesIO()
  Image.fromarray(pixels).save(out, kind, **options)
  return out.getvalue()


def opened(address: str) -> Image.Image:
  kind, _, data = address.partition(",")
  assert kind == "data:image/jpeg;base64"
  return Image.open(io.BytesIO(base64.b64decode(data)))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF"])
def test_a_thumbnail_is_the_picture_and_no_larger_than_asked(kind):
  pixels = np.zeros((300, 600, 3), np.uint8)
  pixels[:, 300:] = 240
  image = opened(thumbnail(file(pixels, kind), 64))
  assert image.size == (64, 32)
  grey = np.asarray(image.convert("L"), np.int32)
  assert grey[:, :28].max() < 12 and abs(grey[:, 36:] - 240).max() < 12
  small = opened(thumbnail(file(pixels[:10, :20], kind), 64))
  assert small.size == (20, 10)


def test_what_is_transparent_is_white():
  pixels = np.zeros((16, 16, 4), np.uint8)
  image = opened(thumbnail(file(pixels, "PNG"), 64))
  assert np.asarray(image).min() > 250


def test_a_thumbnail_stands_upright():
  exif = Image.Exif()
  exif[0x0112] = 6  # turned
  data = file(np.zeros((10, 30, 3), np.uint8), "JPEG", exif=exif)
  assert opened(thumbnail(data, 64)).size == (10, 30)


@pytest.mark.parametrize("data", [b"", b"GIF89a", b"<svg onload=x>"])
def test_what_is_no_picture_is_refused(data):
  with pytest.raises(ValueError, match="no picture that can be shown"):
    thumbnail(data, 64)
