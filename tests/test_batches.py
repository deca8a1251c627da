"""A batch on machines: rows, micro-batches, and what is rescaled."""

import math

import pytest

from emma_jax import batches


@pytest.mark.smoke
@pytest.mark.parametrize(
  "rows, shards, most, found",
  [
    (256, 64, 8, (256, 1)),
    (256, 64, 3, (256, 2)),  # the fewest that come close
    (100, 8, 4, (96, 3)),
    (3, 8, 4, (8, 1)),  # a row each, at least
    (1.4, 1, 1, (1, 1)),
  ],
)
def test_rows_are_the_closest_that_split(rows, shards, most, found):
  assert batches.fit(rows, shards, most) == found


def test_a_rate_is_the_recipes_where_the_batch_is_close():
  assert batches.rate_factor(1.09) == batches.rate_factor(0.91) == 1
  assert batches.rate_factor(4.0) == 2
  assert batches.rate_factor(0.25) == 0.5


def test_an_average_forgets_half_in_as_many_samples():
  """However many a step has."""
  for step in (64, 1000, 4096):
    decay = batches.decay(step, half_life=1e6)
    assert decay ** (1e6 / step) == pytest.approx(0.5)
    assert batches.half_life_steps(decay) * step == pytest.approx(1e6)
  assert batches.half_life_steps(0.0) == batches.half_life_steps(1.0) == 0
  assert math.isfinite(batches.half_life_steps(0.9999999))
