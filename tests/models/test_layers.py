"""The mathematics that all models share, in the forms of all platforms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emma_jax.models import layers, partition


@pytest.mark.parametrize(
  "dtype, tolerance", [("float32", 2e-6), ("bfloat16", 1e-2)]
)
@pytest.mark.parametrize(
  "channels, by_product", [(24, True), (128, True), (136, False)]
)
def test_rms_norm_is_the_same_for_a_tpu(channels, by_product, dtype, tolerance):
  rng = np.random.default_rng(0)
  x, d = (
    jnp.asarray(10 * rng.normal(size=(2, 3, channels)), dtype) for _ in range(2)
  )
  scale = jnp.asarray(rng.normal(size=channels), jnp.float32)

  def both_ways(x, scale, d):
    norm = lambda x, scale: layers.rms_norm(x, scale, 1e-5)
    out, back = jax.vjp(norm, x, scale)
    return out, *back(d)

  want = both_ways(x, scale, d)
  with partition.compiled_for("tpu"):
    jaxpr = str(jax.make_jaxpr(lambda *x: both_ways(*x))(x, scale, d))
    got = both_ways(x, scale, d)
  assert ("dot_general" in jaxpr) == by_product
  for g, w in zip(got, want, strict=True):
    g, w = (np.asarray(y, np.float32) for y in (g, w))
    np.testing.assert_allclose(
      g, w, rtol=tolerance, atol=tolerance * np.abs(w).max()
    )


def test_the_mean_square_of_a_tpu_is_not_rounded_to_bfloat16():
  """Its products round their operands so unless told otherwise: three passes
  keep a square of bfloat16, which has twice its digits, six any float32."""

  def product(dtype):
    x, scale = jnp.ones((1, 8), dtype), jnp.ones(8)
    with partition.compiled_for("tpu"):
      return str(jax.make_jaxpr(lambda x: layers.rms_norm(x, scale, 0.0))(x))

  narrow, wide = product(jnp.bfloat16), product(jnp.float32)
  assert "Precision.HIGH" in narrow and "Precision.HIGHEST" not in narrow
  assert "Precision.HIGHEST" in wide


@pytest.mark.parametrize("platform", ["cpu", "tpu"])
def test_the_gradient_of_rms_norm_is_rounded_once(platform):
  """In bfloat16 its two parts are added in float32."""
  rng = np.random.default_rng(0)
  x, d = (jnp.asarray(rng.normal(size=(4, 64)), jnp.bfloat16) for _ in range(2))

  def gradient(x):
    norm = lambda x: layers.rms_norm(x, jnp.ones(64), 1e-5)
    return jax.vjp(norm, x)[1](d.astype(x.dtype))[0]

  with partition.compiled_for(platform):
    got = gradient(x)
  want = gradient(x.astype(jnp.float32)).astype(jnp.bfloat16)
  assert got.dtype == jnp.bfloat16
  # float32 sums may fall to the other side of a border, rarely.
  assert np.mean(np.asarray(got != want)) < 0.02


@pytest.mark.parametrize(
  "axis, gain, std",
  [(0, 1.0, 50**-0.5), (1, 0.3, 0.3 * 40**-0.5), ((0, 1), 1.0, 2000**-0.5)],
)
def test_a_first_weight_has_its_deviation(axis, gain, std):
  """Gain over the root of what is summed, though the draw is cut at two
  sigmas of the normal it comes from (uncorrected it would be 0.88 of that)."""
  shape = (50, 40, 30)
  x = np.asarray(layers.fan_in(axis, gain)(jax.random.key(0), shape))
  assert abs(x.std() / std - 1) < 0.01 and abs(x.mean() / std) < 0.01
  assert 2.2 < np.abs(x).max() / std < 2 / 0.8796 + 1e-3


def test_a_normal_weight_has_its_deviation():
  x = np.asarray(layers.normal(0.3)(jax.random.key(0), (50, 40, 30)))
  assert abs(x.std() / 0.3 - 1) < 0.01 and np.abs(x).max() > 3 * 0.3
