"""PNGs say how they were made; grids and scales are exact."""

import numpy as np
from PIL import Image
import pytest

from emma_jax.api import pictures
from emma_jax.sampling.context import SampleError

pytestmark = pytest.mark.smoke


def solid(colour, height=2, width=3) -> Image.Image:
  return Image.new("RGB", (width, height), colour)


def test_settings_come_back_as_they_were_written(tmp_path):
  about = {
    "prompt": '一个红色的星形 "quoted"\nand a line',
    "seed": 7,
    "checkpoint": "runs/é",
    "settings": {"steps": 3, "size": [96, 64], "guidance": 1.5},
  }
  path = tmp_path / "a.png"
  pictures.save_png(path, solid("red"), about)
  assert pictures.settings(path) == about
  with Image.open(path) as image:
    assert image.getpixel((0, 0)) == (255, 0, 0)
  first = path.read_bytes()
  pictures.save_png(path, solid("red"), about)
  assert path.read_bytes() == first  # no clock in it
  pictures.save_png(path, solid("red"), {})
  assert pictures.settings(path) == {}
  with pytest.raises(OSError):
    pictures.settings(__file__)


def test_a_grid_has_every_picture_in_its_place():
  colours = ["red", "lime", "blue"]
  made = pictures.grid([solid(c) for c in colours], 2)
  assert made.size == (2 * 3 + 2, 2 * 2 + 2)
  corners = [(0, 0), (5, 0), (0, 4)]
  assert [made.getpixel(at) for at in corners] == [
    solid(c).getpixel((0, 0)) for c in colours
  ]
  wide = pictures.grid([solid("red"), solid("red", 4, 6)], 9)
  assert wide.size == (2 * 6 + 2, 4)
  with pytest.raises(SampleError):
    pictures.grid([], 2)


def test_a_scale_repeats_pixels():
  noise = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
  made = np.asarray(pictures.scaled(Image.fromarray(noise), 3))
  assert np.array_equal(made, noise.repeat(3, 0).repeat(3, 1))
  for times in (0, 100_000):
    with pytest.raises(SampleError):
      pictures.scaled(Image.fromarray(noise), times)
