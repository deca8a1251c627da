"""Fusion, fixed 2D positions and the timestep embedding."""

import dataclasses
import functools

import flax.linen as nn
import jax
import numpy as np
import pytest

from emma_jax.models.adapters import (
  Adapter,
  FusionConfig,
  TimeEmbedding,
  sincos_2d,
  sinusoid,
)

CONFIG = FusionConfig(
  mode="channel",
  reference_branch="gen",
  position_base=1e4,
  position_scale=1.0,
  time_channels=16,
  time_scale=1000.0,
  norm_eps=1e-6,
)
TOKEN = dataclasses.replace(CONFIG, mode="token")
GRID = (2, 3)
RNG = np.random.default_rng(0)
SEMANTIC = RNG.normal(size=(2, 6, 12)).astype(np.float32)
LATENT = RNG.normal(size=(2, 6, 4)).astype(np.float32)


class Both(nn.Module):
  """Reaches all weights: a clean and a noisy pass."""

  config: FusionConfig

  def setup(self):
    self.adapter = Adapter(self.config, 16, 12, may_be_noisy=True)

  def __call__(self, semantic, latent):
    return (
      self.adapter(semantic, latent, GRID),
      self.adapter(None, latent, GRID),
    )


@functools.cache
def params(config: FusionConfig = CONFIG) -> dict:
  made = jax.eval_shape(Both(config).init, jax.random.key(0), SEMANTIC, LATENT)
  rng = np.random.default_rng(1)
  return jax.tree.map(
    lambda x: np.float32(rng.normal(0.1, 0.3, x.shape)), nn.unbox(made)
  )


def both(config, params, semantic=SEMANTIC, latent=LATENT):
  return _both(config, params, semantic, latent)


@functools.partial(jax.jit, static_argnums=0)
def _both(config, params, semantic, latent):
  return Both(config).apply(params, semantic, latent)


def test_positions_are_rows_then_columns_of_sines_and_cosines():
  p = sincos_2d(2, 3, 8, 100.0).reshape(2, 3, 8)
  assert p.dtype == np.float32
  for y, x in np.ndindex(2, 3):
    expected = [
      np.sin(y),
      np.sin(y / 10),
      np.cos(y),
      np.cos(y / 10),
      np.sin(x),
      np.sin(x / 10),
      np.cos(x),
      np.cos(x / 10),
    ]
    np.testing.assert_allclose(p[y, x], expected, atol=1e-6)
  with pytest.raises(ValueError, match="multiple of 4"):
    sincos_2d(2, 3, 10, 100.0)


def test_a_cells_position_is_that_of_larger_pictures():
  """Positions count cells, so pictures of any shape agree on the corner."""
  small = sincos_2d(2, 3, 16, 1e4).reshape(2, 3, 16)
  large = sincos_2d(5, 4, 16, 1e4).reshape(5, 4, 16)
  np.testing.assert_array_equal(small, large[:2, :3])
  assert len(np.unique(large.reshape(20, 16).round(5), axis=0)) == 20


def test_sinusoids_tell_near_and_far_times_apart():
  run = jax.jit(sinusoid, static_argnums=(1, 2))
  x = np.asarray(run(np.float32([0.0, 0.001, 0.5, 1.0]), 16, 1000.0))
  np.testing.assert_allclose(x[0], [1] * 8 + [0] * 8)
  np.testing.assert_allclose(x[1, [0, 8]], [np.cos(1), np.sin(1)], atol=1e-5)
  gaps = np.abs(x[:, None] - x[None]).max(-1)
  assert gaps[~np.eye(4, dtype=bool)].min() > 0.1


@pytest.mark.parametrize("config, tokens", [(CONFIG, 6), (TOKEN, 12)])
def test_token_counts(config, tokens):
  """Channel fusion costs one token a cell; token fusion two, noisy or not."""
  clean, noisy = both(config, params(config))
  assert clean.shape == (2, tokens, 16) and noisy.shape == (2, 6, 16)


def test_a_token_depends_on_its_cell_alone():
  moved = SEMANTIC.copy()
  moved[0, 4] += 1
  clean, noisy = both(CONFIG, params())
  other, same = both(CONFIG, params(), moved)
  changed = np.abs(clean - other).max(-1) > 0
  np.testing.assert_array_equal(np.argwhere(changed), [[0, 4]])
  np.testing.assert_array_equal(noisy, same)  # a noisy one has no semantics


def test_token_fusion_puts_semantic_tokens_first():
  moved = LATENT.copy()
  moved[1, 2] += 1
  clean, _ = both(TOKEN, params(TOKEN))
  other, _ = both(TOKEN, params(TOKEN), SEMANTIC, moved)
  changed = np.abs(clean - other).max(-1) > 0
  np.testing.assert_array_equal(np.argwhere(changed), [[1, 6 + 2]])
  _, noisy = both(TOKEN, params(TOKEN), SEMANTIC, moved)
  np.testing.assert_allclose(other[:, 6:], noisy, atol=1e-6)


def test_the_null_vector_stands_behind_the_layer_norm():
  """A clean picture whose normalised features equal it gives the same token."""
  v = jax.tree.map(np.copy, params())
  norm = v["params"]["adapter"]["norm"]
  norm["scale"][:] = 0  # every clean picture is now the norm's bias
  v["params"]["adapter"]["null_semantic"] = norm["bias"]
  clean, noisy = both(CONFIG, v)
  np.testing.assert_allclose(clean, noisy, atol=1e-6)
  clean, noisy = both(CONFIG, params())
  assert np.abs(clean - noisy).max() > 0.1


def test_the_null_vector_starts_at_zero():
  made = jax.jit(Both(CONFIG).init)(jax.random.key(0), SEMANTIC, LATENT)
  assert not nn.unbox(made)["params"]["adapter"]["null_semantic"].any()


def test_time_is_embedded_in_the_model_width():
  module = TimeEmbedding(CONFIG, 16)
  t = np.float32([0.1, 0.9])
  init = lambda k: module.init(k, t, "float32")
  made = nn.unbox(jax.jit(init)(jax.random.key(0)))
  out = jax.jit(lambda v: module.apply(v, t, "float32"))(made)
  assert out.shape == (2, 16)
  assert np.abs(out[0] - out[1]).max() > 1e-2


@pytest.mark.parametrize(
  "change, words",
  [
    (dict(mode="sum"), "choose channel or token"),
    (dict(reference_branch="both"), "choose und or gen"),
    (dict(time_channels=7), "must be even"),
  ],
)
def test_errors_say_what_is_wrong(change, words):
  with pytest.raises(ValueError, match=words):
    dataclasses.replace(CONFIG, **change)
