"""SigLIP2: exact sizes, positions, patches, and the stacked blocks."""

import dataclasses

from flax.core import meta
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emma_jax.models import partition, resize, siglip2
from tests import neutral

TINY = neutral.siglip_config(
  width=24, mlp_width=40, num_layers=3, num_heads=2, patch_size=4, native_grid=3
)


def noise(*shape: int, seed: int = 0) -> jax.Array:
  return jax.random.normal(jax.random.key(seed), shape)


def head_size(c: siglip2.SiglipConfig) -> int:
  """Weights of the attention-pool head, which we leave out."""
  probe, attention = c.width, 4 * (c.width + 1) * c.width
  norm, mlp = 2 * c.width, 2 * c.width * c.mlp_width + c.mlp_width + c.width
  return probe + attention + norm + mlp


@pytest.mark.parametrize(
  "config, with_head",
  [
    (siglip2.SO400M_PATCH16_512, 428_772_800),
    (siglip2.SO400M_PATCH14_384, 428_225_600),
    (siglip2.SO400M_PATCH16_NAFLEX, 427_888_064),
    (siglip2.BASE_PATCH16_NAFLEX, 92_930_304),
  ],
)
def test_published_sizes_have_exact_counts(config, with_head):
  pixels = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
  params = jax.eval_shape(
    siglip2.SiglipEncoder(config).init, jax.random.key(0), pixels
  )
  ours = sum(x.size for x in jax.tree.leaves(meta.unbox(params)))
  assert ours == with_head - head_size(config)


def test_so400m_without_its_head():
  assert 428_772_800 - head_size(siglip2.SO400M_PATCH16_512) == 413_534_448


def test_scan_is_a_loop():
  model, x = siglip2.SiglipEncoder(TINY), noise(2, 12, 8, 3)
  params = meta.unbox(jax.jit(model.init)(jax.random.key(0), x))["params"]
  apply = jax.jit(model.apply, static_argnames="hidden_states")
  y, states = apply({"params": params}, x, hidden_states=True)
  block = siglip2.EncoderBlock(TINY)
  z = states[0]
  for i in range(TINY.num_layers):
    own = jax.tree.map(lambda w, i=i: w[i], params["blocks"])
    z, _ = jax.jit(block.apply)({"params": own}, z)
    np.testing.assert_allclose(states[i + 1], z, atol=2e-6)
  np.testing.assert_allclose(y, apply({"params": params}, x), atol=2e-6)


@pytest.mark.parametrize(
  "change",
  [
    dict(scan_unroll=3),
    dict(remat="full"),
    dict(remat="dots"),
    dict(remat="names:attn_out,mlp_up"),
    dict(attention="chunked"),
  ],
)
def test_unroll_and_remat_change_nothing(change):
  x = noise(1, 12, 12, 3)
  base = siglip2.SiglipEncoder(TINY)
  params = jax.jit(base.init)(jax.random.key(0), x)
  other = siglip2.SiglipEncoder(dataclasses.replace(TINY, **change))

  def gradient(model):
    loss = lambda v: jnp.sum(model.apply(v, x) ** 2)
    return jax.jit(jax.grad(loss))(params)

  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=2e-4, rtol=1e-4),
    gradient(base),
    gradient(other),
  )


def test_masked_patches_are_not_seen():
  """Valid tokens are the same whatever the masked patches hold."""
  model, x = siglip2.SiglipEncoder(TINY), noise(1, 12, 12, 3)
  params = jax.jit(model.init)(jax.random.key(0), x)
  apply = jax.jit(model.apply)
  valid = jnp.arange(9)[None] < 6  # the last row of patches is padding
  other = x.at[:, 8:].set(7.0)
  y, z = (apply(params, a, valid)[:, :6] for a in (x, other))
  np.testing.assert_array_equal(y, z)
  assert np.abs(y - apply(params, x)[:, :6]).max() > 1e-3


def test_a_patch_is_row_column_channel():
  """patches @ kernel is the convolution with that kernel (HWIO)."""
  x, kernel = noise(2, 9, 13, 3), noise(4, 4, 3, 5, seed=1)
  conv = jax.lax.conv_general_dilated(
    x, kernel, (4, 4), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
  )
  ours = siglip2.patches(x, 4) @ kernel.reshape(-1, 5)
  np.testing.assert_allclose(ours, conv, atol=1e-4)


def test_pixel_shuffle_keeps_tokens_whole_and_inverts():
  x = noise(2, 4, 6, 5)
  y = siglip2.pixel_shuffle(x)
  assert y.shape == (2, 2, 3, 20)
  np.testing.assert_array_equal(y[0, 1, 2, 10:15], x[0, 3, 4])
  np.testing.assert_array_equal(siglip2.pixel_unshuffle(y), x)


@pytest.mark.parametrize("method", resize.METHODS)
def test_positions_are_untouched_at_their_own_size(method):
  np.testing.assert_allclose(resize.METHODS[method](5, 5), np.eye(5), atol=1e-7)
  grid = noise(5, 5, 3)
  np.testing.assert_array_equal(resize.resize(grid, (5, 5), method), grid)


@pytest.mark.parametrize("method", resize.METHODS)
@pytest.mark.parametrize("sizes", [(3, 8), (8, 3), (4, 6)])
def test_resizing_keeps_constants(method, sizes):
  np.testing.assert_allclose(
    resize.METHODS[method](*sizes).sum(1), 1, atol=1e-6
  )


@pytest.mark.parametrize("sizes", [(4, 9), (9, 4), (16, 7)])
def test_bilinear_is_jax_images(sizes):
  rows = resize.bilinear_antialias(*sizes)
  theirs = jax.image.resize(
    jnp.eye(sizes[0]), (sizes[1], sizes[0]), "bilinear", antialias=True
  )
  np.testing.assert_allclose(rows, theirs, atol=1e-6)


def test_bicubic_taps():
  """Half-way between pixels: (A, 1 - A, 1 - A, A) / ... with A = -0.75."""
  taps = resize.bicubic(8, 4)[1]
  np.testing.assert_allclose(
    taps, [0, -0.09375, 0.59375, 0.59375, -0.09375, 0, 0, 0], atol=1e-7
  )


@pytest.mark.parametrize(
  "change, message",
  [
    (dict(num_heads=5), "num_heads"),
    (dict(position_resize="area"), "choose one of"),
    (dict(remat="some"), "choose none, full or dots"),
  ],
)
def test_configs_check_themselves(change, message):
  with pytest.raises(ValueError, match=message):
    dataclasses.replace(TINY, **change)


def test_a_tpus_form_of_a_bias_is_the_same():
  rng = np.random.default_rng(0)
  y, d = (rng.normal(size=(2, 5, 3, 4)).astype(np.float32) for _ in range(2))
  b = rng.normal(size=(3, 4)).astype(np.float32)

  def both_ways(y, b, d):
    out, back = jax.vjp(siglip2.plus, y, b)
    return out, *back(d)

  want = both_ways(y, b, d)
  with partition.compiled_for("tpu"):
    assert "dot_general" in str(
      jax.make_jaxpr(lambda *x: both_ways(*x))(y, b, d)
    )
    got = both_ways(y, b, d)
  for ours, theirs in zip(got, want, strict=True):
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)
