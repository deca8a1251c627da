"""PNGs say how they were made; grids and scales are exact."""

import io
import struct
import zlib

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


def with_chunks(path, *chunks: tuple[bytes, bytes]):
  """A PNG of one pixel with these chunks before the pixels."""
  buffer = io.BytesIO()
  solid("red").save(buffer, "PNG")
  made = buffer.getvalue()
  for kind, data in chunks:
    check = struct.pack(">I", zlib.crc32(kind + data))
    chunk = struct.pack(">I", len(data)) + kind + data + check
    made = made[:33] + chunk + made[33:]
  path.write_bytes(made)
  return path


def test_pictures_of_others_say_nothing_and_harm_nothing(tmp_path):
  """ComfyUI, A1111, bombs, damage: {} and at once."""
  bomb = zlib.compress(bytes(100_000_000))
  for chunk in (
    (b"tEXt", b'prompt\0{"3": {"class_type": "KSampler"}}'),
    (b"tEXt", b"parameters\0a red star\nSteps: 20"),
    (b"iTXt", b"prompt\0\1\0\0\0" + bomb),
    (b"zTXt", b"settings\0\0" + bomb),
    (b"zTXt", b"settings\0\0no zlib"),
    (b"iTXt", b"prompt"),
    (b"iTXt", b"settings\0\0\0\0\0\xff"),
    (b"iTXt", b"settings\0\0\0\0\0" + b"[" * 100_000),
    (b"tEXt", b"prompt\0" + bytes(20_000_000)),
  ):
    path = with_chunks(tmp_path / "a.png", chunk)
    assert pictures.settings(path) == {}, chunk[1][:40]
  path = with_chunks(tmp_path / "a.png", (b"tEXt", b"parameters\0a"))
  assert pictures.text_chunks(path) == {"parameters": "a"}
  ours = with_chunks(
    tmp_path / "b.png", (b"zTXt", b"settings\0\0" + zlib.compress(b"{}"))
  )
  content = bytearray(ours.read_bytes())
  assert pictures.settings(ours) == {"settings": {}}
  content[60] ^= 1
  ours.write_bytes(content)
  assert pictures.settings(ours) == {}
  ours.write_bytes(content[:50])
  assert pictures.settings(ours) == {}
  for kind in ("JPEG", "WEBP"):
    solid("red").save(tmp_path / "c", kind)
    assert pictures.settings(tmp_path / "c") == {}


def test_words_that_are_no_unicode_and_too_many_leave_a_picture(tmp_path):
  path = tmp_path / "a.png"
  about = {"prompt": "caf\udce9", "settings": {}}
  pictures.save_png(path, solid("red"), about)
  assert pictures.settings(path)["prompt"] == "caf\\udce9"
  about = {"prompts": ["x" * 1000] * 70_000, "settings": {"steps": 1}}
  pictures.save_png(path, solid("red"), about)
  assert pictures.settings(path) == {"settings": {"steps": 1}}
  with Image.open(path) as image:
    image.load()


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
