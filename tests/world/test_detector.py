"""The detector against the renderer: truth, noise, blur, shifts, rubble."""

import numpy as np
import pytest

from emma_jax.world import draws
from emma_jax.world.detector import read
from emma_jax.world.render import render
from emma_jax.world.scene import CANVASES, HELD_OUT, RGB, UNKNOWN, Scene

SCENES = [draws.scene(draws.stream("detector", "test", i)) for i in range(500)]


def share(change, scenes=SCENES[:200]) -> float:
  """Exact scenes read from changed renders."""
  return np.mean([read(change(render(scene))) == scene for scene in scenes])


def noisy(picture, sigma: float):
  noise = np.random.default_rng(picture.sum()).normal(0, sigma, picture.shape)
  return np.clip(picture + noise, 0, 255).astype(np.uint8)


def blurred(picture, sigma: float):
  """Separable Gaussian blur with repeated edges."""
  taps = np.arange(-6, 7)
  kernel = np.exp(-(taps**2) / (2 * sigma**2))
  kernel /= kernel.sum()
  out = picture.astype(np.float32)
  for axis in (0, 1):
    padded = np.pad(
      out, [(6, 6) if a == axis else (0, 0) for a in range(3)], mode="edge"
    )
    out = sum(
      weight * np.take(padded, range(6 + tap, 102 + tap), axis)
      for weight, tap in zip(kernel, taps)
    )
  return out.astype(np.uint8)


def test_reads_ground_truth():
  assert share(lambda picture: picture, SCENES) >= 0.99


@pytest.mark.parametrize("canvas", [*CANVASES, (64, 64), (101, 150)])
def test_reads_every_canvas(canvas):
  """Also odd sizes: what is no whole cell is a margin."""
  stream = lambda i: draws.stream(f"detector {canvas}", "test", i)
  scenes = [draws.scene(stream(i), canvas=canvas) for i in range(150)]
  assert {scene.canvas for scene in scenes} == {canvas}
  cells = {thing.cell for scene in scenes for thing in scene.things}
  assert len(cells) == (canvas[0] // 32) * (canvas[1] // 32)
  assert share(lambda picture: picture, scenes) >= 0.99
  assert share(lambda picture: noisy(picture, 16), scenes) >= 0.98


def test_reads_held_out_pairs_and_the_empty_scene():
  for index in range(40):
    pair = HELD_OUT[index % 4]
    scene = draws.with_pair(draws.stream("detector", "pairs", index), pair)
    assert read(render(scene)) == scene
  assert read(render(Scene((), "cyan"))) == Scene((), "cyan")


@pytest.mark.parametrize("sigma", [8, 24])
def test_reads_through_noise(sigma):
  assert share(lambda picture: noisy(picture, sigma)) >= 0.99


def test_reads_through_blur_and_noise():
  assert share(lambda picture: noisy(blurred(picture, 1.5), 8)) >= 0.98


def test_reads_through_a_shift_and_a_tint():
  assert share(lambda picture: np.roll(picture, 1, 0)) >= 0.95
  assert share(lambda picture: (picture * 0.93 + 5).astype(np.uint8)) >= 0.98


def test_specks_are_ignored():
  def specked(picture):
    picture[14:18, 45:50] = 0
    return picture

  scenes = [scene for scene in SCENES if (0, 1) in scene.free]
  assert share(specked, scenes) >= 0.99


def test_rubble_is_unknown():
  picture = render(Scene((), "white"))
  picture[32:64, 32:64] = RGB["red"]  # a whole cell is no shape
  (thing,) = read(picture).things
  assert (thing.shape, thing.colour) == (UNKNOWN, "red")
  picture = render(SCENES[0])
  assert read(np.zeros_like(picture)).background == UNKNOWN
  noise = np.random.default_rng(0).integers(0, 256, picture.shape)
  assert all(t.shape == UNKNOWN for t in read(noise.astype(np.uint8)).things)


def test_what_is_no_canvas_is_refused():
  with pytest.raises(ValueError, match="40x96 .* at least 64 pixels"):
    read(np.zeros((40, 96, 3), np.uint8))
  with pytest.raises(ValueError, match="not RGB"):
    read(np.zeros((96, 96, 4), np.uint8))
