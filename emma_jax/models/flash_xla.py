"""Attention in chunks of queries: plain XLA for any platform, no S x S array.

A chunk holds its scores against all keys, at most `SCORES` a head; the backward
pass computes them again. Arrays are head-major: q (B, H, L, E), k and v
(B, K, S, E); each key head serves Q = H / K consecutive heads. r: queries of a
chunk, n: chunks.
"""

import jax
import jax.numpy as jnp
import numpy as np

from emma_jax.models import masks
from emma_jax.structs import TokenIds

# Finite, so that a row of padding gives no NaN. FLOOR is what a row's maximum
# starts from, so that exp(MASKED - maximum) is 0 also where all is masked.
MASKED, FLOOR = -1e30, -1e20
# Scores of a chunk and head: 4 MB in float32.
SCORES = 2**20


def forward(
  q_BHLE: jax.Array,
  k_BKSE: jax.Array,
  v_BKSE: jax.Array,
  query: TokenIds,
  key: TokenIds,
) -> tuple[jax.Array, jax.Array]:
  """Returns (out (B, H, L, E), float32 log-sum-exp (B, H, L)).

  Queries that see nothing give 0, and 0 for the log-sum-exp.
  """
  K, L, S = k_BKSE.shape[1], q_BHLE.shape[2], k_BKSE.shape[2]
  size = chunk_size(L, S)

  def chunk(_, part):
    (q_BKQrE,), ids = part
    s_BKQrS = _scores(q_BKQrE, k_BKSE, ids, key)
    m_BKQr1 = jnp.maximum(s_BKQrS.max(axis=-1, keepdims=True), FLOOR)
    p_BKQrS = jnp.exp(s_BKQrS - m_BKQr1)
    l_BKQr1 = p_BKQrS.sum(axis=-1, keepdims=True)
    out_BKQrE = _dot("BKQrS,BKSE->BKQrE", p_BKQrS.astype(v_BKSE.dtype), v_BKSE)
    out_BKQrE /= jnp.where(l_BKQr1 > 0, l_BKQr1, 1.0)
    lse_BKQr1 = jnp.where(l_BKQr1 > 0, m_BKQr1 + jnp.log(l_BKQr1), 0.0)
    return _, (out_BKQrE.astype(q_BHLE.dtype), lse_BKQr1)

  query, q_BHLE = _tie(query, q_BHLE)
  parts = ((_split(q_BHLE, K, size),), _split_ids(query, size))
  _, (out, lse) = jax.lax.scan(chunk, None, parts)
  return _join(out, L), _join(lse, L)[..., 0]


def backward(
  q_BHLE: jax.Array,
  k_BKSE: jax.Array,
  v_BKSE: jax.Array,
  query: TokenIds,
  key: TokenIds,
  out_BHLE: jax.Array,
  lse_BHL: jax.Array,
  dout_BHLE: jax.Array,
  *before: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Gradients of q, k and v, in their dtypes; sums are float32.

  before: dk and dv of other queries, to which these are added.
  """
  K, L, S = k_BKSE.shape[1], q_BHLE.shape[2], k_BKSE.shape[2]
  size = chunk_size(L, S)
  scale = np.float32(q_BHLE.shape[-1] ** -0.5)
  dtype = q_BHLE.dtype

  def chunk(sums, part):
    dk_BKSE, dv_BKSE = sums
    (q_BKQrE, dout_BKQrE, lse_BKQr1, delta_BKQr1), ids = part
    p_BKQrS = jnp.exp(_scores(q_BKQrE, k_BKSE, ids, key) - lse_BKQr1)
    dp_BKQrS = _dot("BKQrE,BKSE->BKQrS", dout_BKQrE, v_BKSE)
    ds_BKQrS = (p_BKQrS * (dp_BKQrS - delta_BKQr1) * scale).astype(dtype)
    dv_BKSE += _dot("BKQrS,BKQrE->BKSE", p_BKQrS.astype(dtype), dout_BKQrE)
    dk_BKSE += _dot("BKQrS,BKQrE->BKSE", ds_BKQrS, q_BKQrE)
    dq_BKQrE = _dot("BKQrS,BKSE->BKQrE", ds_BKQrS, k_BKSE)
    return (dk_BKSE, dv_BKSE), dq_BKQrE.astype(dtype)

  query, q_BHLE = _tie(query, q_BHLE)
  rows = (
    q_BHLE,
    dout_BHLE,
    lse_BHL[..., None],
    delta(out_BHLE, dout_BHLE)[..., None],
  )
  parts = (tuple(_split(x, K, size) for x in rows), _split_ids(query, size))
  before = before or (jnp.zeros_like(k_BKSE), jnp.zeros_like(v_BKSE))
  start = tuple(x.astype(jnp.float32) for x in before)
  (dk_BKSE, dv_BKSE), dq = jax.lax.scan(chunk, start, parts)
  return (
    _join(dq, L),
    dk_BKSE.astype(k_BKSE.dtype),
    dv_BKSE.astype(v_BKSE.dtype),
  )


def delta(out_BHLE: jax.Array, dout_BHLE: jax.Array) -> jax.Array:
  """Float32, without E: what the softmax's gradient subtracts from a row."""
  product = out_BHLE.astype(jnp.float32) * dout_BHLE.astype(jnp.float32)
  return product.sum(axis=-1)


def chunk_size(queries: int, keys: int) -> int:
  """Queries of a chunk: `SCORES` divided by the keys, in steps of 8.

  >>> chunk_size(8192, 8192), chunk_size(4096, 4096), chunk_size(9, 64)
  (128, 256, 9)
  """
  return min(queries, max(8, SCORES // keys // 8 * 8))


def _tie(ids: TokenIds, x: jax.Array) -> tuple[TokenIds, jax.Array]:
  """The same, but nothing can be computed from the ids before x is there.

  In a scan over layers the ids are constants: jax would compute what depends on
  them alone, the masks of all chunks and heads, once and for all layers.
  """
  return jax.lax.optimization_barrier((ids, x))


def _scores(q_BKQrE, k_BKSE, query: TokenIds, key: TokenIds) -> jax.Array:
  s_BKQrS = _dot("BKQrE,BKSE->BKQrS", q_BKQrE, k_BKSE)
  s_BKQrS *= np.float32(q_BKQrE.shape[-1] ** -0.5)
  mask_BrS = masks.allow(query, key)
  return jnp.where(mask_BrS[:, None, None], s_BKQrS, MASKED)


def _dot(equation: str, *operands: jax.Array) -> jax.Array:
  return jnp.einsum(equation, *operands, preferred_element_type=jnp.float32)


def _split(x_BHLE: jax.Array, key_heads: int, size: int) -> jax.Array:
  """(B, H, L, E) -> (n, B, K, Q, r, E), padded with zeros to whole chunks."""
  B, H, L, E = x_BHLE.shape
  x_BHLE = jnp.pad(x_BHLE, ((0, 0), (0, 0), (0, -L % size), (0, 0)))
  x = x_BHLE.reshape(B, key_heads, H // key_heads, -1, size, E)
  return jnp.moveaxis(x, 3, 0)


def _split_ids(ids: TokenIds, size: int) -> TokenIds:
  length = ids.segment.shape[1]
  padded = masks.pad(ids, length + -length % size)
  return jax.tree.map(
    lambda x: jnp.moveaxis(x.reshape(x.shape[0], -1, size), 1, 0), padded
  )


def _join(x_nBKQrE: jax.Array, length: int) -> jax.Array:
  """Undoes `_split`."""
  x_BKQnrE = jnp.moveaxis(x_nBKQrE, 0, 3)
  B, K, Q, n, r, E = x_BKQnrE.shape
  return x_BKQnrE.reshape(B, K * Q, n * r, E)[:, :, :length]
