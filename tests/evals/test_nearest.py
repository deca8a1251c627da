"""Copies of training pictures are told from pictures that are like them."""

import numpy as np
import pytest

from emma_jax.data.records import schema
from emma_jax.evals import nearest
from emma_jax.structs import Drawing
from tests.data import made


def _pictures(count: int, seed: int = 0) -> list[np.ndarray]:
  rng = np.random.default_rng(seed)
  coarse = rng.integers(0, 256, (count, 6, 6, 3), np.uint8)
  return [np.kron(x, np.ones((16, 16, 1), np.uint8)) for x in coarse]


@pytest.fixture(scope="module")
def training(tmp_path_factory) -> dict[str, str]:
  folder = tmp_path_factory.mktemp("nearest") / "set"
  stored = [
    schema.Stored(
      record=Drawing(prompt="red", picture=made.encoded(p), id=f"{i}")
    )
    for i, p in enumerate(_pictures(12))
  ]
  made.dataset(folder, stored)
  return {"drawing": f"records:{folder}", "world": "world:drawing:train"}


@pytest.mark.smoke
def test_copies_are_counted_and_others_are_not(training):
  known, new = _pictures(12), _pictures(5, seed=1)
  blurred = [np.clip(p.astype(int) + 9, 0, 255).astype(np.uint8) for p in known]
  found = nearest.compare([known[3], blurred[5], *new], new, training)
  assert (found["copies"], found["n"], found["compared"]) == (2, 7, 12)
  assert found["own"] == pytest.approx(found["value"], rel=0.2)
  only = nearest.compare(known[:3], new, training)
  assert only["value"] == 0 and only["copies"] == 3
  assert nearest.compare(new, new, training)["copies"] == 0


def test_the_size_of_a_drawing_does_not_matter(training):
  """A drawing is compared as framing shows pictures: the centre's square."""
  wide = np.pad(_pictures(12)[3], ((0, 0), (48, 48), (0, 0)), mode="edge")
  found = nearest.compare([wide], [wide], training)
  assert found["value"] < 12 and found["copies"] == 1  # smoothed at its edges


def test_where_nothing_can_be_compared_it_says_why():
  world = {"drawing": "world:drawing:train"}
  assert "never draws a picture twice" in nearest.compare([], [], world)["why"]
  lost = {"drawing": "records:/no/such/folder"}
  assert "0 pictures" in nearest.compare([], [], lost)["why"]
