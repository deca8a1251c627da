"""EMMA's attention as kernels for Hopper GPUs (Pallas, Mosaic GPU).

cuDNN takes EMMA's mask only as an array of S x S, and computes all of it,
though most is empty in a packed row. Here a block takes one tile of queries (or
keys) and loops over those tiles of the other side that `masks.tiles` finds of
use: first the ones that need no mask, then the others, whose mask is the rule
of `masks` applied to their ids.

Arrays are token-major, as the projections make and take them; tokens are padded
to whole tiles and heads to multiples of `hopper.LANES`. r, c: rows (queries)
and columns (keys) of a tile.

Compiled for the H100, and run by Pallas' interpreter, where products and the
layouts of registers are plain JAX (`hopper.Interpreted`); these kernels have
never run on a GPU.
"""

from collections.abc import Callable, Sequence
import functools
import math
from typing import Any

import jax
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu
import jax.numpy as jnp

from emma_jax.models import hopper, masks
from emma_jax.models.flash_xla import FLOOR, MASKED, delta
from emma_jax.structs import TokenIds

# (queries, keys) of a tile in the forward pass, for dq, and for dk and dv: the
# more products a step has, the fewer registers each may take.
FORWARD_TILE, QUERY_TILE, KEY_TILE = (128, 128), (128, 64), (64, 128)
UNIT = 128  # tokens are padded to multiples of it, hence to whole tiles
WIDEST = 128  # heads; the sums of wider ones do not fit the registers
ID_NAMES = ("segment", "order", "last_visible", "noise_group")


def forward(
  q_BLHE: jax.Array,
  k_BSKE: jax.Array,
  v_BSKE: jax.Array,
  query: TokenIds,
  key: TokenIds,
  interpret: Any = False,
) -> tuple[jax.Array, jax.Array]:
  """`flash_xla.forward` of token-major arrays: (out (B, L, H, E), log-sum-exp
  (B, H, L)). `interpret` (Pallas' InterpretGPUParams) runs it without a GPU,
  slowly.

  Raises:
    ValueError: arrays that are not of 16 bits, or heads that are too wide.
  """
  _check(q_BLHE)
  _, L, _, E = q_BLHE.shape
  q, k, v = map(_padded, (q_BLHE, k_BSKE, v_BSKE))
  out, lse = _call(
    _forward_kernel,
    outer="q",
    tile=FORWARD_TILE,
    query=query,
    key=key,
    inputs=(q, k, v),
    outputs=(q, _row_of(q)),
    buffers=_forward_buffers,
    products=2,
    width=E,
    interpret=interpret,
  )
  return out[:, :L, :, :E], lse[:, :, :L]


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
  interpret: Any = False,
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """`flash_xla.backward` of token-major arrays: one kernel for dq, another for
  dk and dv, to which `before`, those of other queries, are added."""
  _check(q_BLHE)
  (_, L, _, E), S = q_BLHE.shape, k_BSKE.shape[1]
  q, k, v, dout = map(_padded, (q_BLHE, k_BSKE, v_BSKE, dout_BLHE))
  delta_BHL = delta(out_BLHE, dout_BLHE).swapaxes(1, 2)
  rows = [
    jnp.pad(x, ((0, 0), (0, 0), (0, -L % UNIT))) for x in (lse_BHL, delta_BHL)
  ]
  call = functools.partial(
    _call,
    query=query,
    key=key,
    inputs=(q, k, v, dout, *rows),
    width=E,
    interpret=interpret,
  )
  (dq,) = call(
    _query_gradient_kernel,
    outer="q",
    tile=QUERY_TILE,
    outputs=(q,),
    buffers=_query_gradient_buffers,
    products=3,
  )
  dk, dv = call(
    _key_gradient_kernel,
    outer="k",
    tile=KEY_TILE,
    outputs=(k, v),
    buffers=_key_gradient_buffers,
    products=4,
  )
  of_keys = [x[:, :S, :, :E] for x in (dk, dv)]
  for i, x in enumerate(before):
    of_keys[i] += x
  dk, dv = of_keys
  return dq[:, :L, :, :E], dk, dv


# ---------------------------------------------------------------- kernels


def _forward_kernel(
  order,
  counts,
  q_ids,
  k_ids,
  q,
  k,
  v,
  out,
  lse,
  *,
  mine,
  others,
  full,
  free,
  loaded,
  on,
  scale,
  tile,
):
  row, head, at = map(lax.axis_index, ("row", "head", "tile"))
  group, key_head = lax.axis_index(hopper.GROUP), lax.div(head, _shared(q, k))
  whole, total = counts[row, at, 0], counts[row, at, 0] + counts[row, at, 1]

  @hopper.multiplying(group)
  def _():
    rows = pl.ds(at * tile[0] + group * hopper.HALF, hopper.HALF)
    mine_q, mine_ids, mine_lse = (x.at[group] for x in mine)
    hopper.fetch(
      loaded.at[group],
      (q.at[row, rows, head], mine_q),
      (q_ids.at[row, :, rows], mine_ids),
    )

    def step(slot, carry, masked: bool):
      m_r, l_r, sum_rE = carry
      k_cE, v_cE, seen = (x.at[slot] for x in others)
      s_rc = on.product(mine_q, k_cE, turned=True) * scale
      if masked:
        s_rc = jnp.where(
          _mask(on, mine_ids, seen, s_rc.shape, queries=0), s_rc, MASKED
        )
      now_r = jnp.maximum(m_r, s_rc.max(axis=1))
      p_rc = jnp.exp(s_rc - hopper.along(0, now_r, s_rc.shape))
      shrink_r = jnp.exp(m_r - now_r)
      sum_rE *= hopper.along(0, shrink_r, sum_rE.shape)
      return (
        now_r,
        l_r * shrink_r + p_rc.sum(axis=1),
        on.add_product(sum_rE, p_rc.astype(q.dtype), v_cE),
      )

    first = (on.vector(FLOOR), on.vector(0.0), on.zeros(q.shape[3]))
    m_r, l_r, sum_rE = hopper.visit(full, free, 0, whole, total, step, first)
    some_r = jnp.where(l_r > 0, l_r, 1.0)
    sum_rE /= hopper.along(0, some_r, sum_rE.shape)
    mine_q[...] = sum_rE.astype(q.dtype)
    mine_lse[...] = jnp.where(l_r > 0, m_r + jnp.log(some_r), 0.0)
    hopper.store(
      (mine_q, out.at[row, rows, head]), (mine_lse, lse.at[row, head, rows])
    )

  @hopper.copying(group)
  def _():
    hopper.feed(
      full,
      free,
      0,
      total,
      lambda n: order[row, at, n],
      tile[1],
      lambda at: (
        k.at[row, at, key_head],
        v.at[row, at, key_head],
        k_ids.at[row, :, at],
      ),
      others,
    )
    hopper.drain(free, total)


def _query_gradient_kernel(
  order,
  counts,
  q_ids,
  k_ids,
  q,
  k,
  v,
  dout,
  lse,
  delta,
  dq,
  *,
  mine,
  others,
  full,
  free,
  loaded,
  on,
  scale,
  tile,
):
  row, head, at = map(lax.axis_index, ("row", "head", "tile"))
  group, key_head = lax.axis_index(hopper.GROUP), lax.div(head, _shared(q, k))
  whole, total = counts[row, at, 0], counts[row, at, 0] + counts[row, at, 1]

  @hopper.multiplying(group)
  def _():
    rows = pl.ds(at * tile[0] + group * hopper.HALF, hopper.HALF)
    mine_q, mine_dout, mine_lse, mine_delta, mine_ids = (
      x.at[group] for x in mine
    )
    hopper.fetch(
      loaded.at[group],
      (q.at[row, rows, head], mine_q),
      (dout.at[row, rows, head], mine_dout),
      (lse.at[row, head, rows], mine_lse),
      (delta.at[row, head, rows], mine_delta),
      (q_ids.at[row, :, rows], mine_ids),
    )
    lse_r, delta_r = on.load(mine_lse, 0), on.load(mine_delta, 0)

    def step(slot, dq_rE, masked: bool):
      k_cE, v_cE, seen = (x.at[slot] for x in others)
      s_rc = on.product(mine_q, k_cE, turned=True) * scale
      if masked:
        s_rc = jnp.where(
          _mask(on, mine_ids, seen, s_rc.shape, queries=0), s_rc, MASKED
        )
      p_rc = jnp.exp(s_rc - hopper.along(0, lse_r, s_rc.shape))
      dp_rc = on.product(mine_dout, v_cE, turned=True)
      ds_rc = p_rc * (dp_rc - hopper.along(0, delta_r, s_rc.shape))
      return on.add_product(dq_rE, ds_rc.astype(q.dtype), k_cE)

    first = on.zeros(q.shape[3])
    dq_rE = hopper.visit(full, free, 0, whole, total, step, first)
    mine_q[...] = (dq_rE * scale).astype(q.dtype)
    hopper.store((mine_q, dq.at[row, rows, head]))

  @hopper.copying(group)
  def _():
    hopper.feed(
      full,
      free,
      0,
      total,
      lambda n: order[row, at, n],
      tile[1],
      lambda at: (
        k.at[row, at, key_head],
        v.at[row, at, key_head],
        k_ids.at[row, :, at],
      ),
      others,
    )
    hopper.drain(free, total)


def _key_gradient_kernel(
  order,
  counts,
  q_ids,
  k_ids,
  q,
  k,
  v,
  dout,
  lse,
  delta,
  dk,
  dv,
  *,
  mine,
  others,
  full,
  free,
  loaded,
  on,
  scale,
  tile,
):
  """Of all query heads of a key head; scores are keys x queries."""
  row, key_head, at = map(lax.axis_index, ("row", "head", "tile"))
  group, shared = lax.axis_index(hopper.GROUP), _shared(q, k)
  whole, total = counts[row, at, 0], counts[row, at, 0] + counts[row, at, 1]

  @hopper.multiplying(group)
  def _():
    columns = pl.ds(at * tile[1] + group * hopper.HALF, hopper.HALF)
    mine_k, mine_v, mine_ids = (x.at[group] for x in mine)
    hopper.fetch(
      loaded.at[group],
      (k.at[row, columns, key_head], mine_k),
      (v.at[row, columns, key_head], mine_v),
      (k_ids.at[row, :, columns], mine_ids),
    )

    def step(slot, carry, masked: bool):
      dk_cE, dv_cE = carry
      q_rE, dout_rE, lse_r, delta_r, seen_by = (x.at[slot] for x in others)
      s_cr = on.product(mine_k, q_rE, turned=True) * scale
      if masked:
        s_cr = jnp.where(
          _mask(on, seen_by, mine_ids, s_cr.shape, queries=1), s_cr, MASKED
        )
      p_cr = jnp.exp(s_cr - hopper.along(1, on.load(lse_r, 1), s_cr.shape))
      dv_cE = on.add_product(dv_cE, p_cr.astype(q.dtype), dout_rE)
      dp_cr = on.product(mine_v, dout_rE, turned=True)
      ds_cr = p_cr * (dp_cr - hopper.along(1, on.load(delta_r, 1), s_cr.shape))
      return on.add_product(dk_cE, ds_cr.astype(q.dtype), q_rE), dv_cE

    def head(g, carry):
      return hopper.visit(full, free, g * total, whole, total, step, carry)

    zeros = on.zeros(k.shape[3])
    dk_cE, dv_cE = lax.fori_loop(0, shared, head, (zeros, zeros))
    mine_k[...] = (dk_cE * scale).astype(k.dtype)
    mine_v[...] = dv_cE.astype(v.dtype)
    hopper.store(
      (mine_k, dk.at[row, columns, key_head]),
      (mine_v, dv.at[row, columns, key_head]),
    )

  @hopper.copying(group)
  def _():
    @pl.loop(0, shared)
    def _(g):
      head = key_head * shared + g
      hopper.feed(
        full,
        free,
        g * total,
        total,
        lambda n: order[row, at, n],
        tile[0],
        lambda at: (
          q.at[row, at, head],
          dout.at[row, at, head],
          lse.at[row, head, at],
          delta.at[row, head, at],
          q_ids.at[row, :, at],
        ),
        others,
      )

    hopper.drain(free, shared * total)


# ------------------------------------------------------------- their memory


def _id_tiles(count: int, size: int) -> Any:
  return plgpu.SMEM((count, len(ID_NAMES), size), jnp.int32)


def _forward_buffers(tile, width: int, dtype) -> tuple[Sequence, Sequence, int]:
  """(what a warpgroup keeps, what is streamed, copies of the former)."""
  mine = [
    hopper.tiles(2, hopper.HALF, width, dtype),
    _id_tiles(2, hopper.HALF),
    hopper.vectors(2, hopper.HALF),
  ]
  return mine, _streamed_keys(tile, width, dtype), 2


def _query_gradient_buffers(tile, width: int, dtype):
  mine = [
    *[hopper.tiles(2, hopper.HALF, width, dtype)] * 2,
    *[hopper.vectors(2, hopper.HALF)] * 2,
    _id_tiles(2, hopper.HALF),
  ]
  return mine, _streamed_keys(tile, width, dtype), len(mine)


def _key_gradient_buffers(tile, width: int, dtype):
  mine = [
    *[hopper.tiles(2, hopper.HALF, width, dtype)] * 2,
    _id_tiles(2, hopper.HALF),
  ]
  streamed = [
    *[hopper.tiles(hopper.STAGES, tile[0], width, dtype)] * 2,
    *[hopper.vectors(hopper.STAGES, tile[0])] * 2,
    _id_tiles(hopper.STAGES, tile[0]),
  ]
  return mine, streamed, len(mine)


def _streamed_keys(tile, width: int, dtype) -> Sequence:
  return [
    *[hopper.tiles(hopper.STAGES, tile[1], width, dtype)] * 2,
    _id_tiles(hopper.STAGES, tile[1]),
  ]


def _mask(on, query, key, shape, queries: int):
  """The rule of `masks` for a tile of scores, whose axis `queries` they are."""

  def ids(ref, axis: int) -> masks.RuleIds:
    vectors = {
      name: hopper.along(axis, on.load(ref.at[i], axis), shape)
      for i, name in enumerate(ID_NAMES)
    }
    return masks.RuleIds(**vectors)

  return masks.rule(ids(query, queries), ids(key, 1 - queries))


def _shared(q, k) -> int:
  """Query heads of a key head."""
  return q.shape[2] // k.shape[2]


# ---------------------------------------------------------------- the grid


def _call(
  kernel: Callable,
  *,
  outer: str,
  tile: tuple[int, int],
  query: TokenIds,
  key: TokenIds,
  inputs,
  outputs,
  buffers: Callable,
  products: int,
  width: int,
  interpret: Any,
) -> list[jax.Array]:
  """Runs a kernel on each tile of one side.

  Args:
    kernel: takes the other side's tiles in order of use, their two counts, ids
      of queries and keys, inputs, outputs.
    outer: the side, "q" or "k", of which a block takes a tile.
    tile: queries and keys of a tile.
    inputs: queries (B, L, H, E), keys (B, S, K, E) and others, padded.
    outputs: arrays like those that it makes.
    buffers: a block's memory; see `_forward_buffers`.
    products: of matrices, for a tile of scores.
    width: of a head before it was padded.
  """
  (B, L, H, E), (_, S, K, _) = inputs[0].shape, inputs[1].shape
  query, key = masks.pad(query, L), masks.pad(key, S)
  table = masks.tiles(query, key, *tile)
  if outer == "k":
    table = table.swapaxes(1, 2)
  counts = jnp.stack(
    [
      (table == x).sum(axis=2, dtype=jnp.int32) for x in (masks.ALL, masks.SOME)
    ],
    axis=2,
  )
  order = jnp.argsort(-table, axis=2, stable=True).astype(jnp.int32)
  mine, others, copies = buffers(tile, E, inputs[0].dtype)
  on = hopper.Interpreted if interpret else hopper.TensorCores
  scores = B * H * L * S
  name = kernel.__name__.strip("_")

  def body(*refs):
    def run(mine, others, full, free, loaded):
      kernel(
        *refs,
        mine=mine,
        others=others,
        full=full,
        free=free,
        loaded=loaded,
        on=on,
        scale=width**-0.5,
        tile=tile,
      )

    pl.run_scoped(
      run,
      mine,
      others,
      plgpu.Barrier(num_arrivals=len(others), num_barriers=hopper.STAGES),
      plgpu.Barrier(num_arrivals=2, num_barriers=hopper.STAGES),
      plgpu.Barrier(num_arrivals=copies, num_barriers=2),
      collective_axes=hopper.GROUP,
    )

  body.__name__ = name
  return pl.kernel(
    body,
    out_type=[jax.ShapeDtypeStruct(x.shape, x.dtype) for x in outputs],
    mesh=plgpu.Mesh(
      grid=(H if outer == "q" else K, table.shape[1], B),
      grid_names=("head", "tile", "row"),
      num_threads=3,
      thread_name=hopper.GROUP,
    ),
    compiler_params=plgpu.CompilerParams(approx_math=True),
    cost_estimate=pl.CostEstimate(
      flops=2 * products * scores * width,
      transcendentals=scores,
      bytes_accessed=sum(
        math.prod(x.shape) * x.dtype.itemsize for x in (*inputs, *outputs)
      ),
    ),
    interpret=interpret,
    name=name,
  )(order, counts, _stack(query), _stack(key), *inputs)


def _stack(ids: TokenIds) -> jax.Array:
  return jnp.stack([getattr(ids, name) for name in ID_NAMES], axis=1)


def _row_of(q_BLHE: jax.Array) -> jax.ShapeDtypeStruct:
  B, L, H, _ = q_BLHE.shape
  return jax.ShapeDtypeStruct((B, H, L), jnp.float32)


def _padded(x_BLHE: jax.Array) -> jax.Array:
  """Whole tiles of tokens, and whole rows of swizzled memory."""
  _, L, _, E = x_BLHE.shape
  return jnp.pad(
    x_BLHE, ((0, 0), (0, -L % UNIT), (0, 0), (0, -E % hopper.LANES))
  )


def takes(dtype: Any, width: int) -> bool:
  """Whether there are kernels for heads of this dtype and width."""
  return jnp.dtype(dtype) in (jnp.bfloat16, jnp.float16) and width <= WIDEST


def _check(q_BLHE: jax.Array) -> None:
  if not takes(q_BLHE.dtype, q_BLHE.shape[-1]):
    raise ValueError(
      f"No GPU kernel for {q_BLHE.dtype} heads of {q_BLHE.shape[-1]}: they "
      f"take 16 bits and widths up to {WIDEST}. Use attention='chunked'."
    )
