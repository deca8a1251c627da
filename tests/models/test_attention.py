"""Rotary positions and masked attention against plain NumPy."""

import jax
import jax.numpy as jnp
import numpy as np

from emma_jax.models import attention, masks
from emma_jax.structs import TokenIds

THETA = 1e4
RNG = np.random.default_rng(0)
attend = attention.attend
turn = jax.jit(attention.rope, static_argnums=2)


def heads(B: int, L: int, H: int, E: int) -> np.ndarray:
  return RNG.normal(size=(B, L, H, E)).astype(np.float32)


def test_rope_is_a_rotation_of_halves_by_the_position():
  x = heads(1, 3, 1, 8)
  y = np.asarray(turn(x, np.array([[0, 1, 5]]), THETA))
  np.testing.assert_allclose(y[:, 0], x[:, 0], atol=1e-7)  # position 0
  pairs = x[0, 2, 0, :4] + 1j * x[0, 2, 0, 4:]
  angle = 5 / THETA ** (np.arange(4) / 4)
  expected = pairs * np.exp(1j * angle)
  np.testing.assert_allclose(
    y[0, 2, 0], [*expected.real, *expected.imag], atol=1e-6
  )


def test_scores_depend_on_the_distance_only():
  x, z = heads(1, 1, 1, 16), heads(1, 1, 1, 16)

  def score(a: int, b: int) -> float:
    at = lambda v, p: np.asarray(turn(v, np.array([[p]]), THETA))
    return float((at(x, a) * at(z, b)).sum())

  assert abs(score(3, 1) - score(103, 101)) < 1e-4
  assert abs(score(3, 1) - score(3, 2)) > 1e-2


def test_far_positions_survive_bfloat16():
  """bfloat16 has 8 bits: an angle of 1000 in it would be off by whole turns."""
  x = jnp.asarray(heads(1, 1, 2, 16), jnp.bfloat16)
  position = np.array([[999]])
  low = np.asarray(turn(x, position, THETA), np.float32)
  high = np.asarray(turn(x.astype(np.float32), position, THETA))
  np.testing.assert_allclose(low, high, atol=0.05)


def test_attention_equals_a_loop():
  """Key head h serves the query heads [h * G, (h + 1) * G)."""
  B, L, S, H, K, E = 2, 3, 5, 4, 2, 8
  q, k, v = heads(B, L, H, E), heads(B, S, K, E), heads(B, S, K, E)
  make = lambda n: TokenIds(*(RNG.integers(0, 2, (B, n)) for _ in range(5)))
  query, key = make(L), make(S)
  query = query.replace(last_visible=np.full((B, L), 9))  # most see something
  mask = np.asarray(masks.allow(query, key))
  out = np.asarray(jax.jit(attend)(q, k, v, query, key))
  checked = 0
  for b, i, h in np.ndindex(B, L, H):
    seen = mask[b, i]
    if not seen.any():
      continue
    score = k[b, seen, h // 2] @ q[b, i, h] / E**0.5
    p = np.exp(score - score.max())
    np.testing.assert_allclose(
      out[b, i, h], (p / p.sum()) @ v[b, seen, h // 2], atol=1e-5
    )
    checked += 1
  assert checked > 2 * H


def test_what_is_masked_has_no_influence_and_padding_stays_finite():
  q, k, v = heads(1, 2, 2, 8), heads(1, 3, 1, 8), heads(1, 3, 1, 8)
  ids = masks.causal(np.array([[1, 1, 0]]), np.array([[0, 1, 0]]))
  query = jax.tree.map(lambda x: x[:, 1:], ids)  # the second word and padding
  out = jax.jit(attend)(q, k, v, query, ids)
  k[:, 2], v[:, 2] = 1e4, -1e6
  again = jax.jit(attend)(q, k, v, query, ids)
  np.testing.assert_array_equal(out[:, 0], again[:, 0])
  assert np.isfinite(again).all()


def test_scores_and_softmax_are_float32():
  """In bfloat16 scores of 300 and 301 would be equal."""
  q = jnp.full((1, 1, 1, 16), 10.0, jnp.bfloat16)
  k = jnp.full((1, 2, 1, 16), 7.5, jnp.bfloat16).at[0, 1, 0, 0].add(0.5)
  v = jnp.array([0.0, 1.0], jnp.bfloat16).reshape(1, 2, 1, 1)
  v = jnp.broadcast_to(v, (1, 2, 1, 16))
  one = np.ones((1, 2), np.int32)
  ids = TokenIds(
    segment=one,
    order=0 * one,
    last_visible=one,
    noise_group=0 * one,
    position=one,
  )
  out = jax.jit(attend)(q, k, v, jax.tree.map(lambda x: x[:, :1], ids), ids)
  assert out.dtype == jnp.bfloat16
  expected = 1 / (1 + np.exp(-10 * 0.5 / 4))
  np.testing.assert_allclose(np.asarray(out, np.float32), expected, atol=5e-3)
