"""EMMA's attention as GPU kernels (Pallas, Triton), the mask made from ids.

cuDNN takes EMMA's mask only as an array of S x S, and computes all of it,
though most is empty in a packed row. Here a program takes one tile of queries
(or keys) and loops over those tiles of the other side that `masks.tiles` finds
of use: first the ones that need no mask, then the others, whose mask is the
rule of `masks` applied to their ids.

Arrays are token-major, as the projections make and take them; tokens are padded
to whole tiles and heads to a power of two. r, c: rows (queries) and columns
(keys) of a tile.
"""

from collections.abc import Callable
import functools

import jax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plgpu
import jax.numpy as jnp

from emma_jax.models import masks
from emma_jax.models.flash_xla import FLOOR, MASKED, delta
from emma_jax.structs import Ids

# (queries, keys) of a tile: the sums of the forward pass fill the registers of
# 8 warps; each backward kernel has two operands more to hold.
FORWARD_TILE, BACKWARD_TILE = (128, 64), (64, 64)
UNIT = 128  # tokens are padded to multiples of it, hence to whole tiles
ID_NAMES = ("segment", "slot", "end", "noisy")


def forward(
    q_BLHE: jax.Array, k_BSKE: jax.Array, v_BSKE: jax.Array,
    query: Ids, key: Ids, interpret: bool = False,
) -> tuple[jax.Array, jax.Array]:
  """`flash_xla.forward` of token-major arrays: (out (B, L, H, E), log-sum-exp
  (B, H, L)). `interpret` runs it without a GPU, slowly."""
  _, L, _, E = q_BLHE.shape
  q, k, v = map(_padded, (q_BLHE, k_BSKE, v_BSKE))
  out, lse = _call(
      functools.partial(_forward_kernel, scale=E**-0.5),
      outer="q", tile=FORWARD_TILE, query=query, key=key,
      inputs=(("q", q), ("k", k), ("k", v)),
      outputs=(("q", q.dtype), ("row", jnp.float32)), interpret=interpret)
  return out[:, :L, :, :E], lse[:, :, :L]


def backward(
    q_BLHE: jax.Array, k_BSKE: jax.Array, v_BSKE: jax.Array,
    query: Ids, key: Ids,
    out_BLHE: jax.Array, lse_BHL: jax.Array, dout_BLHE: jax.Array,
    *before: jax.Array, interpret: bool = False,
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """`flash_xla.backward` of token-major arrays: one kernel for dq, another for
  dk and dv, to which `before`, those of other queries, are added."""
  (_, L, _, E), S = q_BLHE.shape, k_BSKE.shape[1]
  q, k, v, dout = map(_padded, (q_BLHE, k_BSKE, v_BSKE, dout_BLHE))
  delta_BHL = delta(out_BLHE, dout_BLHE).swapaxes(1, 2)
  rows = [jnp.pad(x, ((0, 0), (0, 0), (0, -L % UNIT)))
          for x in (lse_BHL, delta_BHL)]
  call = functools.partial(
      _call, tile=BACKWARD_TILE, query=query, key=key, interpret=interpret,
      inputs=(("q", q), ("k", k), ("k", v), ("q", dout), ("row", rows[0]),
              ("row", rows[1])))
  dq, = call(functools.partial(_query_gradient_kernel, scale=E**-0.5),
             outer="q", outputs=(("q", q.dtype),))
  dk, dv = call(functools.partial(_key_gradient_kernel, scale=E**-0.5),
                outer="k", outputs=(("k", k.dtype), ("k", v.dtype)))
  of_keys = [x[:, :S, :, :E] for x in (dk, dv)]
  for i, x in enumerate(before):
    of_keys[i] += x
  return dq[:, :L, :, :E], *of_keys


# ---------------------------------------------------------------- kernels


def _forward_kernel(
    order, counts, q_ids, k_ids, q, k, v, out, lse, *, scale, tile
):
  r, c = tile
  q_rE = q[...]
  seen_by = _columns(q_ids, pl.program_id(0), r)

  def step(place, carry, masked: bool):
    m_r, l_r, sum_rE = carry
    at = pl.ds(place * c, c)
    k_cE, v_cE = k[at, :], v[at, :]
    s_rc = plgpu.dot(q_rE, k_cE, trans_b=True) * scale
    if masked:
      s_rc = jnp.where(
          masks.rule(seen_by, _rows(k_ids, place, c)), s_rc, MASKED)
    now_r = jnp.maximum(m_r, s_rc.max(axis=1))
    p_rc = jnp.exp(s_rc - now_r[:, None])
    shrink_r = jnp.exp(m_r - now_r)
    more_rE = plgpu.dot(p_rc.astype(v_cE.dtype), v_cE)
    return (now_r, l_r * shrink_r + p_rc.sum(axis=1),
            sum_rE * shrink_r[:, None] + more_rE)

  first = (jnp.full((r,), FLOOR, jnp.float32), jnp.zeros((r,), jnp.float32),
           jnp.zeros(q_rE.shape, jnp.float32))
  m_r, l_r, sum_rE = _visit(order, counts, step, first)
  some_r = jnp.where(l_r > 0, l_r, 1.0)
  out[...] = (sum_rE / some_r[:, None]).astype(out.dtype)
  lse[...] = jnp.where(l_r > 0, m_r + jnp.log(some_r), 0.0)


def _query_gradient_kernel(
    order, counts, q_ids, k_ids, q, k, v, dout, lse, delta, dq, *, scale, tile
):
  r, c = tile
  q_rE, dout_rE, lse_r, delta_r = q[...], dout[...], lse[...], delta[...]
  seen_by = _columns(q_ids, pl.program_id(0), r)

  def step(place, dq_rE, masked: bool):
    at = pl.ds(place * c, c)
    k_cE = k[at, :]
    s_rc = plgpu.dot(q_rE, k_cE, trans_b=True) * scale
    if masked:
      s_rc = jnp.where(
          masks.rule(seen_by, _rows(k_ids, place, c)), s_rc, MASKED)
    p_rc = jnp.exp(s_rc - lse_r[:, None])
    dp_rc = plgpu.dot(dout_rE, v[at, :], trans_b=True)
    ds_rc = p_rc * (dp_rc - delta_r[:, None])
    return dq_rE + plgpu.dot(ds_rc.astype(k_cE.dtype), k_cE)

  dq_rE = _visit(order, counts, step, jnp.zeros(q_rE.shape, jnp.float32))
  dq[...] = (dq_rE * scale).astype(dq.dtype)


def _key_gradient_kernel(
    order, counts, q_ids, k_ids, q, k, v, dout, lse, delta, dk, dv,
    *, scale, tile,
):
  """Of all G query heads of a key head; scores are keys x queries."""
  r, c = tile
  k_cE, v_cE = k[...], v[...]
  seen = _columns(k_ids, pl.program_id(0), c)

  def step(place, carry, masked: bool, g):
    dk_cE, dv_cE = carry
    at = pl.ds(place * r, r)
    q_rE, dout_rE = q[at, g, :], dout[at, g, :]
    s_cr = plgpu.dot(k_cE, q_rE, trans_b=True) * scale
    if masked:
      s_cr = jnp.where(masks.rule(_rows(q_ids, place, r), seen), s_cr, MASKED)
    p_cr = jnp.exp(s_cr - lse[g, at][None, :])
    dv_cE += plgpu.dot(p_cr.astype(dout_rE.dtype), dout_rE)
    dp_cr = plgpu.dot(v_cE, dout_rE, trans_b=True)
    ds_cr = p_cr * (dp_cr - delta[g, at][None, :])
    return dk_cE + plgpu.dot(ds_cr.astype(q_rE.dtype), q_rE), dv_cE

  def head(g, carry):
    return _visit(order, counts, functools.partial(step, g=g), carry)

  zeros = jnp.zeros(k_cE.shape, jnp.float32)
  dk_cE, dv_cE = jax.lax.fori_loop(0, q.shape[1], head, (zeros, zeros))
  dk[...] = (dk_cE * scale).astype(dk.dtype)
  dv[...] = dv_cE.astype(dv.dtype)


def _visit(order, counts, step: Callable, carry):
  """Folds `step` over the tiles of use, first those that need no mask."""
  whole, some = counts[0], counts[1]
  run = lambda low, high, masked, carry: jax.lax.fori_loop(
      low, high, lambda n, x: step(order[n], x, masked=masked), carry)
  return run(whole, whole + some, True, run(0, whole, False, carry))


def _rows(ids, place, size: int) -> Ids:
  """Ids of a tile's tokens: (1, size) each."""
  return jax.tree.map(lambda x: x[None, :], _ids(ids, place, size))


def _columns(ids, place, size: int) -> Ids:
  """Ids of a tile's tokens: (size, 1) each."""
  return jax.tree.map(lambda x: x[:, None], _ids(ids, place, size))


def _ids(ids, place, size: int) -> Ids:
  at = pl.ds(place * size, size)
  vectors = {name: ids[i, at] for i, name in enumerate(ID_NAMES)}
  return Ids(**vectors, position=None)


# ---------------------------------------------------------------- the grid


def _call(
    kernel: Callable, *, outer: str, tile: tuple[int, int], query: Ids,
    key: Ids, inputs, outputs, interpret: bool,
) -> list[jax.Array]:
  """Runs a kernel on each tile of one side.

  Args:
    kernel: takes the other side's tiles in order of use, their two counts, ids
      of queries and keys, inputs, outputs.
    outer: the side, "q" or "k", of which a program takes a tile; it finds the
      other one whole.
    tile: queries and keys of a tile.
    inputs, outputs: kind and array, or dtype; "q" is (B, L, H, E), "row" is
      (B, H, L), "k" is (B, S, K, E).
  """
  B, L, H, E = inputs[0][1].shape
  S, K = inputs[1][1].shape[1:3]
  query, key = masks.pad(query, L), masks.pad(key, S)
  table = masks.tiles(query, key, *tile)
  if outer == "k":
    table = table.swapaxes(1, 2)
  counts = jnp.stack(
      [(table == x).sum(axis=2, dtype=jnp.int32)
       for x in (masks.ALL, masks.SOME)], axis=2)
  order = jnp.argsort(-table, axis=2, stable=True).astype(jnp.int32)
  shapes = {"q": (B, L, H, E), "row": (B, H, L), "k": (B, S, K, E)}
  if outer == "q":
    specs = {
        "q": pl.BlockSpec((None, tile[0], None, E),
                          lambda n, h, b: (b, n, h, 0)),
        "row": pl.BlockSpec((None, None, tile[0]), lambda n, h, b: (b, h, n)),
        "k": pl.BlockSpec((None, S, None, E),
                          lambda n, h, b: (b, 0, h // (H // K), 0)),
    }
  else:
    specs = {
        "q": pl.BlockSpec((None, L, H // K, E), lambda n, h, b: (b, 0, h, 0)),
        "row": pl.BlockSpec((None, H // K, L), lambda n, h, b: (b, h, 0)),
        "k": pl.BlockSpec((None, tile[1], None, E),
                          lambda n, h, b: (b, n, h, 0)),
    }
  ids = [pl.BlockSpec((None, len(ID_NAMES), n), lambda n, h, b: (b, 0, 0))
         for n in (L, S)]
  plan = [pl.BlockSpec((None, None, x.shape[2]), lambda n, h, b: (b, n, 0))
          for x in (order, counts)]
  return pl.pallas_call(
      functools.partial(kernel, tile=tile),
      grid=(table.shape[1], H if outer == "q" else K, B),
      in_specs=[*plan, *ids, *(specs[kind] for kind, _ in inputs)],
      out_specs=[specs[kind] for kind, _ in outputs],
      out_shape=[jax.ShapeDtypeStruct(shapes[kind], dtype)
                 for kind, dtype in outputs],
      compiler_params=plgpu.CompilerParams(num_warps=8, num_stages=2),
      interpret=interpret,
      name=kernel.func.__name__.strip("_"),
  )(order, counts, _stack(query), _stack(key), *(x for _, x in inputs))


def _stack(ids: Ids) -> jax.Array:
  return jnp.stack([getattr(ids, name) for name in ID_NAMES], axis=1)


def _padded(x_BLHE: jax.Array) -> jax.Array:
  """Whole tiles of tokens; heads of a power of two, at least 16."""
  _, L, _, E = x_BLHE.shape
  width = max(16, 1 << (E - 1).bit_length())
  return jnp.pad(x_BLHE, ((0, 0), (0, -L % UNIT), (0, 0), (0, width - E)))
