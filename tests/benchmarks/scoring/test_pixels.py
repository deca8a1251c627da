import math
import platform

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import PIL
from PIL import Image
import pytest
from scipy.spatial import distance

from emma_jax.benchmarks.scoring import pixels
from tests.benchmarks import golden

QUICK = settings(max_examples=60, deadline=None)
SIDE = st.integers(1, 24)


def picture(seed: int, height: int, width: int) -> np.ndarray:
  rng = np.random.default_rng(seed)
  return rng.integers(0, 256, (height, width, 3), np.uint8)


def grey(value: int, side: int = 4) -> np.ndarray:
  return np.full((side, side, 3), value, np.uint8)


def test_the_originals_numbers(shared_dir):
  found = golden.cases(shared_dir, "Emu-Edit/MagicBrush")
  assert found
  assert not golden.misses(found, pixels.SCORERS)


@pytest.mark.smoke
def test_distances_of_greys():
  assert pixels.l1([(grey(7), grey(7))]) == 0
  # 0.2 by float32 sums in PyTorch's order.
  assert pixels.l1([(grey(0), grey(51))]) == 0.19999998807907104
  assert pixels.l2([(grey(0), grey(51))]) == 0.04000000283122063
  assert pixels.l1([(grey(0), grey(255)), (grey(0), grey(0))]) == 0.5


@QUICK
@given(st.integers(0, 99), SIDE, SIDE)
def test_distances_are_symmetric_and_bounded(seed, height, width):
  a, b = picture(seed, height, width), picture(seed + 1, height, width)
  for of in (pixels.l1, pixels.l2):
    assert of([(a, b)]) == of([(b, a)])
    assert 0 <= of([(a, b)]) <= 1
    assert of([(a, a)]) == 0
  assert pixels.l2([(a, b)]) <= pixels.l1([(a, b)]) + 1e-6
  exact = np.abs(a.astype(float) - b) / 255
  assert pixels.l1([(a, b)]) == pytest.approx(exact.mean(), rel=1e-6)


@pytest.mark.parametrize(
  "bad", [np.zeros((4, 4)), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)]
)
def test_what_is_no_picture(bad):
  with pytest.raises(ValueError, match="A picture must be"):
    pixels.l1([(bad, grey(0))])


def test_no_pairs_are_an_error():
  for scorer in (pixels.l1, pixels.l2, pixels.clip_i):
    with pytest.raises(ZeroDivisionError, match="at least one pair"):
      scorer([])


# From 13 on Pillow begins with the columns where that is less work: it rounds
# otherwise. The benchmark used one from before.
EITHER_ORDER = int(PIL.__version__.split(".")[0]) >= 13


def is_pillows(source, width, height) -> bool:
  theirs = np.asarray(Image.fromarray(source).resize((width, height)))
  found = [pixels.resize(source, width, height)]
  if EITHER_ORDER:
    columns = pixels.resize(source, source.shape[1], height)
    found.append(pixels.resize(columns, width, height))
  return any(np.array_equal(x, theirs) for x in found)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 999), SIDE, SIDE, SIDE, SIDE)
def test_resizing_is_pillows(seed, height, width, new_height, new_width):
  source = picture(seed, height, width)
  assert is_pillows(source, new_width, new_height)


@pytest.mark.parametrize("new", [(512, 512), (320, 200), (640, 1000), (7, 3)])
def test_resizing_is_pillows_at_true_sizes(new):
  source = picture(3, 384, 640)
  source[:, ::7] = 255  # edges, where the kernel overshoots
  source[100:200] = 0
  assert is_pillows(source, *new)


@pytest.mark.torch
def test_sums_are_pytorchs_to_the_last_bit():
  torch = pytest.importorskip("torch", reason="needs the extra torch")
  rng = np.random.default_rng(0)
  for size in [
    0,
    1,
    3,
    5,
    7,
    8,
    31,
    48,
    100,
    192,
    500,
    768,
    3000,
    20_000,
    30_000,
  ]:
    for _ in range(5):
      values = rng.random(size).astype(np.float32)
      assert pixels._sum(values) == torch.from_numpy(values).sum().item()


@pytest.mark.torch
def test_cosines_are_pytorchs_to_the_last_bit():
  torch = pytest.importorskip("torch", reason="needs the extra torch")
  rng = np.random.default_rng(3)
  widths = [4, 8, 12, 16, 20, 64, 384, 512, 768]
  if platform.machine() == "x86_64":  # see `_squares`
    widths += [1, 2, 3, 5, 7, 9, 15, 31]
  for width in widths:
    for _ in range(20):
      a, b = rng.normal(size=(2, width)).astype(np.float32)
      rows = (torch.from_numpy(x)[None] for x in (a, b))
      wanted = torch.nn.functional.cosine_similarity(*rows).item()
      assert pixels._cosine(a, b) == wanted


@pytest.mark.torch
def test_features_and_pictures_score_as_pytorch_says():
  torch = pytest.importorskip("torch", reason="needs the extra torch")
  rng = np.random.default_rng(1)
  cosine = torch.nn.functional.cosine_similarity
  for width in (3, 64, 512, 768):
    features = rng.normal(size=(4, width)).astype(np.float32)
    a, b, c, d = map(torch.from_numpy, features)
    ours = pixels.clip_similarities(*features)
    wanted = {
      "sim_0": cosine(a, c, dim=0),
      "clip_out_sim_1": cosine(b, d, dim=0),
      "clip_dir": cosine(b - a, d - c, dim=0),
      "clip_img": cosine(a, b, dim=0),
    }
    for name, value in wanted.items():
      assert ours[name] == pytest.approx(value.item(), abs=1e-6)
  for seed in range(5):
    x, y = (
      torch.from_numpy(picture(s, 20, 30).astype(np.float32) / 255)
      .permute(2, 0, 1)
      .contiguous()
      for s in (seed, seed + 1)
    )
    pair = [(picture(seed, 20, 30), picture(seed + 1, 20, 30))]
    assert pixels.l1(pair) == torch.nn.L1Loss()(x, y).item()
    assert pixels.l2(pair) == torch.nn.MSELoss()(x, y).item()


def test_cosines_are_scipys():
  rng = np.random.default_rng(2)
  for width in (3, 384, 512):
    a, b = rng.normal(size=(2, width)).astype(np.float32)
    assert pixels.clip_i([(a, b)]) == float(1 - distance.cosine(a, b))
    assert pixels.clip_i([(a, a)]) == float(1 - distance.cosine(a, a))


FEATURE = st.lists(st.floats(-9, 9, width=32), min_size=3, max_size=3).filter(
  lambda x: np.linalg.norm(x) > 1e-3
)


@QUICK
@given(FEATURE, FEATURE, st.sampled_from([0.25, 2.0, 64.0]))
def test_cosines_are_bounded_symmetric_and_without_scale(a, b, scale):
  value = pixels.clip_i([(a, b)])
  assert -1 <= value <= 1
  assert pixels.clip_i([(b, a)]) == pytest.approx(value, abs=1e-6)
  scaled = [scale * x for x in a]
  assert pixels.clip_i([(scaled, b)]) == pytest.approx(value, abs=1e-6)
  assert pixels.clip_i([(a, a)]) == pytest.approx(1, abs=1e-6)


def test_a_feature_that_is_zero():
  assert math.isnan(pixels.clip_i([([0, 0, 0], [1, 0, 0])]))
  # The other original divides by 1e-8 instead.
  same = pixels.clip_similarities([1, 0], [1, 0], [0, 1], [1, 0])
  assert same["clip_dir"] == 0
  assert same["clip_img"] == 1


def test_directions():
  there = pixels.clip_similarities([1, 0], [0, 1], [1, 0], [0, 1])
  assert there["clip_dir"] == pytest.approx(1, abs=1e-6)
  back = pixels.clip_similarities([1, 0], [0, 1], [0, 1], [1, 0])
  assert back["clip_dir"] == -0.9999999403953552
