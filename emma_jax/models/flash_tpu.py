"""EMMA's attention as TPU kernels (Pallas), the mask made from ids inside them.

Splash attention, the kernel that comes with jax, knows causal order, segments
and a last key per query. Three things of `masks.allow` escape it: tokens do not
lie in reading order, noisy versions of one target share their places in it, and
a noisy picture stays hidden from what follows. Here the mask of a tile is the
rule itself, applied to the ids of its queries and keys; whatever the ids, it is
exact. `masks.tiles` tells which tiles need no mask and which no work at all.

`flash_tpu_kernels` computes a tile, `flash_tpu_grid` goes over all of them.
Matmuls take operands of the arrays' dtype and sum in float32.

Arrays are token-major, as the projections make and take them. Heads of whole
lanes stay so: a tile of q is (r, Q * E) of (B, L, H * E), and nothing is ever
transposed. Others (SigLIP2's of 72) go head-major, q as (B, K, Q, L, E).
r, c: rows (queries), columns (keys) of a tile.
"""

import functools

import jax
import jax.numpy as jnp

from emma_jax.models import flash_tpu_kernels as kernels
from emma_jax.models.flash_tpu_grid import LANES, call, padded_length, tile
from emma_jax.structs import TokenIds


def forward(
  q_BLHE: jax.Array,
  k_BSKE: jax.Array,
  v_BSKE: jax.Array,
  query: TokenIds,
  key: TokenIds,
  interpret: bool = False,
) -> tuple[jax.Array, jax.Array]:
  """`flash_xla.forward` of token-major arrays: (out (B, L, H, E), log-sum-exp
  (B, H, L)). `interpret` runs it without a TPU, slowly."""
  B, L, H, E = q_BLHE.shape
  K = k_BSKE.shape[2]
  q, k, v = _queries(q_BLHE, K), _keys(k_BSKE), _keys(v_BSKE)
  Q, r = H // K, tile(L)
  out, lse = call(
    functools.partial(kernels.forward_kernel, scale=E**-0.5),
    outer="q",
    query=query,
    key=key,
    heads=(K, Q, E),
    inputs=(("q", q), ("k", k), ("k", v)),
    outputs=(("q", _like(q)), ("row", _row(B, K, Q, L))),
    scratch=((Q, r, LANES), (Q, r, LANES), (Q, r, E)),
    interpret=interpret,
  )
  return _from_queries(out, q_BLHE), lse.reshape(B, H, -1)[:, :, :L]


def backward(
  q_BLHE: jax.Array,
  k_BSKE: jax.Array,
  v_BSKE: jax.Array,
  query: TokenIds,
  key: TokenIds,
  out_BLHE: jax.Array,
  lse_BHL: jax.Array,
  dout_BLHE: jax.Array,
  *before: jax.Array,
  interpret: bool = False,
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """`flash_xla.backward` of token-major arrays: one kernel for dq and what the
  softmax's gradient subtracts from a row, another for dk and dv, to which it
  adds `before`, those of other queries."""
  (B, L, H, E), (S, K) = q_BLHE.shape, k_BSKE.shape[1:3]
  scale = E**-0.5
  q, k, v = _queries(q_BLHE, K), _keys(k_BSKE), _keys(v_BSKE)
  dout, out = _queries(dout_BLHE, K), _queries(out_BLHE, K)
  Q, r, c = H // K, tile(L), tile(S)
  row = _row(B, K, Q, L)
  lse = jnp.pad(lse_BHL, ((0, 0), (0, 0), (0, padded_length(L) - L)))
  lse = lse.reshape(row.shape)
  run = functools.partial(
    call, query=query, key=key, heads=(K, Q, E), interpret=interpret
  )
  given = (("q", q), ("k", k), ("k", v), ("q", dout))
  dq, delta = run(
    functools.partial(kernels.query_gradient_kernel, scale=scale),
    outer="q",
    inputs=(*given, ("q", out), ("row", lse)),
    outputs=(("q", _like(q)), ("row", row)),
    scratch=((Q, r, LANES), (Q, r, LANES), (Q, r, E)),
  )
  dk, dv = run(
    functools.partial(kernels.key_gradient_kernel, scale=scale),
    outer="k",
    inputs=(
      *given,
      ("row", lse),
      ("row", delta),
      *(("k", _keys(x)) for x in before),
    ),
    outputs=(("k", _like(k)), ("k", _like(v))),
    scratch=((c, E), (c, E)),
  )
  return (
    _from_queries(dq, q_BLHE),
    _from_keys(dk, k_BSKE),
    _from_keys(dv, v_BSKE),
  )


# ---------------------------------------------------------------- layouts


def _queries(x_BLHE: jax.Array, key_heads: int) -> jax.Array:
  """(B, L, H * E), or (B, K, Q, L, E) of heads that do not fill their lanes;
  L padded to whole tiles. Memory and registers pad such heads anyway."""
  x = _padded(x_BLHE)
  B, L, H, E = x.shape
  if E % LANES == 0:
    return x.reshape(B, L, H * E)
  return x.swapaxes(1, 2).reshape(B, key_heads, H // key_heads, L, E)


def _from_queries(x: jax.Array, like_BLHE: jax.Array) -> jax.Array:
  """Undoes `_queries`."""
  B, L, H, E = like_BLHE.shape
  if E % LANES:
    x = x.reshape(B, H, -1, E).swapaxes(1, 2)
  return x[:, :L].reshape(B, L, H, E)


def _keys(x_BSKE: jax.Array) -> jax.Array:
  """(B, S, K * E), or (B, K, S, E), see `_queries`."""
  x = _padded(x_BSKE)
  B, S, K, E = x.shape
  return x.swapaxes(1, 2) if E % LANES else x.reshape(B, S, K * E)


def _from_keys(x: jax.Array, like_BSKE: jax.Array) -> jax.Array:
  """Undoes `_keys`."""
  if like_BSKE.shape[-1] % LANES:
    x = x.swapaxes(1, 2)
  return x[:, : like_BSKE.shape[1]].reshape(like_BSKE.shape)


def _padded(x_BLHE: jax.Array) -> jax.Array:
  L = x_BLHE.shape[1]
  return jnp.pad(x_BLHE, ((0, 0), (0, padded_length(L) - L), (0, 0), (0, 0)))


def _row(B: int, K: int, Q: int, L: int) -> jax.ShapeDtypeStruct:
  return jax.ShapeDtypeStruct((B, K, Q, padded_length(L)), jnp.float32)


def _like(x: jax.Array) -> jax.ShapeDtypeStruct:
  return jax.ShapeDtypeStruct(x.shape, x.dtype)
