"""The TPU's kernels for RMSNorm and RoPE equal the plain functions."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emma_jax.models import norm_rope, partition
from tests import tiny

EPS, THETA = 1e-6, 1e4
fused = functools.partial(norm_rope.fused, eps=EPS, theta=THETA, interpret=True)
plain = functools.partial(norm_rope.norm_rope, eps=EPS, theta=THETA)


def inputs(L: int, H: int, dtype):
  rng = np.random.default_rng(0)
  x, dout = (
    jnp.asarray(rng.normal(size=(2, L, H, 128)), dtype) for _ in range(2)
  )
  scale = jnp.asarray(rng.normal(size=128), np.float32)
  position = jnp.asarray(rng.integers(0, 5000, (2, L)), np.int32)
  return x, scale, position, dout


def both_ways(function):
  def run(x, scale, position, dout):
    out, back = jax.vjp(lambda *a: function(*a, position), x, scale)
    return out, *back(dout)

  return jax.jit(run, compiler_options=tiny.QUICK)


@pytest.mark.parametrize("L, H", [(70, 3), (256, 2)])
def test_fused_equals_plain(L, H, monkeypatch):
  """Also where the last tile is not full."""
  monkeypatch.setattr(norm_rope, "TILE", 48 * H * 128)
  args = inputs(L, H, np.float32)
  for ours, theirs in zip(
    both_ways(fused)(*args), both_ways(plain)(*args), strict=True
  ):
    scale = np.abs(theirs).max()
    np.testing.assert_allclose(ours, theirs, atol=1e-5 * scale)


def test_bfloat16_is_rounded_once():
  x, scale, position, dout = inputs(32, 2, jnp.bfloat16)
  wide = lambda a: a.astype(np.float32)
  # Cosines and sines are of the dtype of x in both.
  ours = both_ways(fused)(x, scale, position, dout)
  exact = both_ways(plain)(wide(x), scale, position, wide(dout))
  theirs = both_ways(plain)(x, scale, position, dout)
  assert ours[0].dtype == ours[1].dtype == jnp.bfloat16
  for a, b, c in zip(ours, exact, theirs, strict=True):
    error, of_plain = (
      np.abs(wide(y) - b).mean() / np.abs(b).mean() for y in (a, c)
    )
    print(f"{error:.2e}, plain {of_plain:.2e}")
    assert error < 1e-2
    assert error < 0.9 * of_plain


def test_only_tpus_and_whole_lanes_take_the_kernel():
  def traced(platform: str, width: int) -> bool:
    x, scale, position, _ = inputs(16, 2, np.float32)
    with partition.compiled_for(platform):
      # A function of its own: traces are remembered by function alone.
      return "pallas_call" in str(
        jax.make_jaxpr(lambda *a: plain(*a))(
          x[..., :width], scale[:width], position
        )
      )

  assert traced("tpu", 128)
  assert not traced("tpu", 64) and not traced("cpu", 128)
