"""Casts round; what else they could do is an error or counted."""

import jax.numpy as jnp
import numpy as np
import pytest

from emma_jax.convert import casting

BF16 = jnp.dtype("bfloat16")
RNG = np.random.default_rng(0)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_value_anywhere_is_found(dtype: str, value: float, monkeypatch):
  monkeypatch.setattr(casting, "_CHUNK", 7)
  x = RNG.normal(size=(5, 6)).astype(jnp.dtype(dtype))
  assert casting.is_finite(x)
  for place in ((0, 0), (2, 4), (4, 5)):
    bad = x.copy()
    bad[place] = value
    assert casting.not_finite(bad) == (1, place[0] * 6 + place[1])
    assert not casting.is_finite(bad) and not casting.is_finite(bad.T)
    words = rf"w: 1 of 30 .* is {value} at \[{place[0]}, {place[1]}\]; get it"
    with pytest.raises(casting.BadValues, match=words):
      casting.check_finite("w", bad, "get it again")


@pytest.mark.parametrize("dtype", ["int8", "uint64", "bool"])
def test_whole_numbers_are_finite(dtype: str):
  assert casting.is_finite(np.ones(3, dtype))
  assert not casting.is_floating(jnp.dtype(dtype))


def test_numbers_at_the_edge_of_bfloat16_are_finite():
  most = jnp.finfo(BF16).max
  assert casting.is_finite(np.array([most, -most, 0, -0.0], BF16))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_a_cast_rounds_as_numpy_does(dtype: str):
  x = RNG.normal(size=(40, 50))
  out, zeros = casting.cast("w", x, dtype, "r")
  assert out.dtype == jnp.dtype(dtype) and not zeros
  np.testing.assert_array_equal(out, x.astype(jnp.dtype(dtype)))
  assert casting.cast("w", out, dtype, "r")[0] is out


@pytest.mark.parametrize(
  "value, dtype", [(1e39, "float32"), (65520.0, "float16"), (3.4e38, BF16)]
)
def test_what_is_too_large_is_an_error(value: float, dtype):
  x = np.array([1.0, -value])
  with pytest.raises(casting.BadValues, match=r"w: .* cannot hold -.*; widen"):
    casting.cast("w", x, dtype, "widen")


def test_small_values_are_counted():
  """Half of float16's smallest number and less becomes 0."""
  x = RNG.normal(size=1000).astype(np.float32)
  x[::10], x[1], x[2] = 1e-9, 0.0, 6e-8
  out, zeros = casting.cast("w", x, "float16", "r")
  assert zeros == 100 and np.count_nonzero(out == 0) == 101 and out[2] > 0


@pytest.mark.parametrize("scale", [1e-9, 3e-7, 1e-38])
def test_an_array_that_would_be_lost_is_an_error(scale: float):
  """All 0, or rounded by far more than float16 rounds."""
  x = (RNG.normal(size=1000) * scale).astype(np.float32)
  with pytest.raises(casting.BadValues, match="w: float16 would change it by"):
    casting.cast("w", x, "float16", "r")
  np.testing.assert_array_equal(casting.cast("w", x, BF16, "r")[1], 0)
