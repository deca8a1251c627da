"""Pictures in a page are the pictures."""

import base64
import io

import numpy as np
from PIL import Image

from emma_jax.pages import render
from emma_jax.pages.pictures import Picture, embedded

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
  assert shown == {
    "class": "small",
    "alt": EVIL,
    "title": EVIL,
    "src": picture.src,
  }
