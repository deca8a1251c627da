"""EMMA's attention as kernels for Hopper GPUs (Pallas, Mosaic GPU).

cuDNN takes EMMA's mask only as an array of S x S, and computes all of it,
though most is empty in a packed row. Here a block takes one tile of queries (or
keys) and loops over those tiles of the other side that `masks.tiles` finds of
use: first the ones that need no mask, then the others, whose mask is the rule
of `masks` applied to their ids.

A block has three warpgroups. The last one only copies tiles from the GPU's
memory to the block's, `STAGES` ahead; the first two multiply, each for its half
of the block's tile. Two barriers a stage keep them in step: "full" says that a
tile has come, "free" that both have done with it.

Arrays are token-major, as the projections make and take them; tokens are padded
to whole tiles and heads to multiples of `LANES`. r, c: rows (queries) and
columns (keys) of a tile.

Compiled for the H100, and run by Pallas' interpreter, where products and the
layouts of registers are plain JAX (`_Interpreted`); these kernels have never
run on a GPU.
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

from emma_jax.models import masks
from emma_jax.models.flash_xla import FLOOR, MASKED, delta
from emma_jax.structs import Ids

# (queries, keys) of a tile in the forward pass, for dq, and for dk and dv: the
# more products a step has, the fewer registers each may take.
FORWARD_TILE, QUERY_TILE, KEY_TILE = (128, 128), (128, 64), (64, 128)
UNIT = 128  # tokens are padded to multiples of it, hence to whole tiles
LANES = 64  # 16-bit numbers in a row of swizzled memory
WIDEST = 128  # heads; the sums of wider ones do not fit the registers
STAGES = 2
ID_NAMES = ("segment", "slot", "end", "noisy")
_HALF = 64  # rows that one of the two warpgroups multiplies
_GROUP = "warpgroup"


def forward(
    q_BLHE: jax.Array, k_BSKE: jax.Array, v_BSKE: jax.Array,
    query: Ids, key: Ids, interpret: Any = False,
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
      _forward_kernel, outer="q", tile=FORWARD_TILE, query=query, key=key,
      inputs=(q, k, v), outputs=(q, _row_of(q)), buffers=_forward_buffers,
      products=2, width=E, interpret=interpret)
  return out[:, :L, :, :E], lse[:, :, :L]


def backward(
    q_BLHE: jax.Array, k_BSKE: jax.Array, v_BSKE: jax.Array,
    query: Ids, key: Ids,
    out_BLHE: jax.Array, lse_BHL: jax.Array, dout_BLHE: jax.Array,
    *before: jax.Array, interpret: Any = False,
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """`flash_xla.backward` of token-major arrays: one kernel for dq, another for
  dk and dv, to which `before`, those of other queries, are added."""
  _check(q_BLHE)
  (_, L, _, E), S = q_BLHE.shape, k_BSKE.shape[1]
  q, k, v, dout = map(_padded, (q_BLHE, k_BSKE, v_BSKE, dout_BLHE))
  delta_BHL = delta(out_BLHE, dout_BLHE).swapaxes(1, 2)
  rows = [jnp.pad(x, ((0, 0), (0, 0), (0, -L % UNIT)))
          for x in (lse_BHL, delta_BHL)]
  call = functools.partial(
      _call, query=query, key=key, inputs=(q, k, v, dout, *rows), width=E,
      interpret=interpret)
  dq, = call(_query_gradient_kernel, outer="q", tile=QUERY_TILE, outputs=(q,),
             buffers=_query_gradient_buffers, products=3)
  dk, dv = call(_key_gradient_kernel, outer="k", tile=KEY_TILE, outputs=(k, v),
                buffers=_key_gradient_buffers, products=4)
  of_keys = [x[:, :S, :, :E] for x in (dk, dv)]
  for i, x in enumerate(before):
    of_keys[i] += x
  return dq[:, :L, :, :E], *of_keys


# ---------------------------------------------------------------- kernels


def _forward_kernel(
    order, counts, q_ids, k_ids, q, k, v, out, lse, *,
    mine, others, full, free, loaded, on, scale, tile,
):
  row, head, at = map(lax.axis_index, ("row", "head", "tile"))
  group, key_head = lax.axis_index(_GROUP), lax.div(head, _shared(q, k))
  whole, total = counts[row, at, 0], counts[row, at, 0] + counts[row, at, 1]

  @_multiplying(group)
  def _():
    rows = pl.ds(at * tile[0] + group * _HALF, _HALF)
    mine_q, mine_ids, mine_lse = (x.at[group] for x in mine)
    _fetch(loaded.at[group], (q.at[row, rows, head], mine_q),
           (q_ids.at[row, :, rows], mine_ids))

    def step(slot, carry, masked: bool):
      m_r, l_r, sum_rE = carry
      k_cE, v_cE, seen = (x.at[slot] for x in others)
      s_rc = on.product(mine_q, k_cE, turned=True) * scale
      if masked:
        s_rc = jnp.where(
            _mask(on, mine_ids, seen, s_rc.shape, queries=0), s_rc, MASKED)
      now_r = jnp.maximum(m_r, s_rc.max(axis=1))
      p_rc = jnp.exp(s_rc - _along(0, now_r, s_rc.shape))
      shrink_r = jnp.exp(m_r - now_r)
      sum_rE *= _along(0, shrink_r, sum_rE.shape)
      return (now_r, l_r * shrink_r + p_rc.sum(axis=1),
              on.add_product(sum_rE, p_rc.astype(q.dtype), v_cE))

    first = (on.vector(FLOOR), on.vector(0.0), on.zeros(q.shape[3]))
    m_r, l_r, sum_rE = _visit(full, free, 0, whole, total, step, first)
    some_r = jnp.where(l_r > 0, l_r, 1.0)
    mine_q[...] = (sum_rE / _along(0, some_r, sum_rE.shape)).astype(q.dtype)
    mine_lse[...] = jnp.where(l_r > 0, m_r + jnp.log(some_r), 0.0)
    _store((mine_q, out.at[row, rows, head]),
           (mine_lse, lse.at[row, head, rows]))

  @_copying(group)
  def _():
    _feed(full, free, 0, total, lambda n: order[row, at, n], tile[1],
          lambda at: (k.at[row, at, key_head], v.at[row, at, key_head],
                      k_ids.at[row, :, at]), others)
    _drain(free, total)


def _query_gradient_kernel(
    order, counts, q_ids, k_ids, q, k, v, dout, lse, delta, dq, *,
    mine, others, full, free, loaded, on, scale, tile,
):
  row, head, at = map(lax.axis_index, ("row", "head", "tile"))
  group, key_head = lax.axis_index(_GROUP), lax.div(head, _shared(q, k))
  whole, total = counts[row, at, 0], counts[row, at, 0] + counts[row, at, 1]

  @_multiplying(group)
  def _():
    rows = pl.ds(at * tile[0] + group * _HALF, _HALF)
    mine_q, mine_dout, mine_lse, mine_delta, mine_ids = (
        x.at[group] for x in mine)
    _fetch(loaded.at[group], (q.at[row, rows, head], mine_q),
           (dout.at[row, rows, head], mine_dout),
           (lse.at[row, head, rows], mine_lse),
           (delta.at[row, head, rows], mine_delta),
           (q_ids.at[row, :, rows], mine_ids))
    lse_r, delta_r = on.load(mine_lse, 0), on.load(mine_delta, 0)

    def step(slot, dq_rE, masked: bool):
      k_cE, v_cE, seen = (x.at[slot] for x in others)
      s_rc = on.product(mine_q, k_cE, turned=True) * scale
      if masked:
        s_rc = jnp.where(
            _mask(on, mine_ids, seen, s_rc.shape, queries=0), s_rc, MASKED)
      p_rc = jnp.exp(s_rc - _along(0, lse_r, s_rc.shape))
      dp_rc = on.product(mine_dout, v_cE, turned=True)
      ds_rc = p_rc * (dp_rc - _along(0, delta_r, s_rc.shape))
      return on.add_product(dq_rE, ds_rc.astype(q.dtype), k_cE)

    dq_rE = _visit(full, free, 0, whole, total, step, on.zeros(q.shape[3]))
    mine_q[...] = (dq_rE * scale).astype(q.dtype)
    _store((mine_q, dq.at[row, rows, head]))

  @_copying(group)
  def _():
    _feed(full, free, 0, total, lambda n: order[row, at, n], tile[1],
          lambda at: (k.at[row, at, key_head], v.at[row, at, key_head],
                      k_ids.at[row, :, at]), others)
    _drain(free, total)


def _key_gradient_kernel(
    order, counts, q_ids, k_ids, q, k, v, dout, lse, delta, dk, dv, *,
    mine, others, full, free, loaded, on, scale, tile,
):
  """Of all query heads of a key head; scores are keys x queries."""
  row, key_head, at = map(lax.axis_index, ("row", "head", "tile"))
  group, shared = lax.axis_index(_GROUP), _shared(q, k)
  whole, total = counts[row, at, 0], counts[row, at, 0] + counts[row, at, 1]

  @_multiplying(group)
  def _():
    columns = pl.ds(at * tile[1] + group * _HALF, _HALF)
    mine_k, mine_v, mine_ids = (x.at[group] for x in mine)
    _fetch(loaded.at[group], (k.at[row, columns, key_head], mine_k),
           (v.at[row, columns, key_head], mine_v),
           (k_ids.at[row, :, columns], mine_ids))

    def step(slot, carry, masked: bool):
      dk_cE, dv_cE = carry
      q_rE, dout_rE, lse_r, delta_r, seen_by = (x.at[slot] for x in others)
      s_cr = on.product(mine_k, q_rE, turned=True) * scale
      if masked:
        s_cr = jnp.where(
            _mask(on, seen_by, mine_ids, s_cr.shape, queries=1), s_cr, MASKED)
      p_cr = jnp.exp(s_cr - _along(1, on.load(lse_r, 1), s_cr.shape))
      dv_cE = on.add_product(dv_cE, p_cr.astype(q.dtype), dout_rE)
      dp_cr = on.product(mine_v, dout_rE, turned=True)
      ds_cr = p_cr * (dp_cr - _along(1, on.load(delta_r, 1), s_cr.shape))
      return on.add_product(dk_cE, ds_cr.astype(q.dtype), q_rE), dv_cE

    def head(g, carry):
      return _visit(full, free, g * total, whole, total, step, carry)

    zeros = on.zeros(k.shape[3])
    dk_cE, dv_cE = lax.fori_loop(0, shared, head, (zeros, zeros))
    mine_k[...] = (dk_cE * scale).astype(k.dtype)
    mine_v[...] = dv_cE.astype(v.dtype)
    _store((mine_k, dk.at[row, columns, key_head]),
           (mine_v, dv.at[row, columns, key_head]))

  @_copying(group)
  def _():
    @pl.loop(0, shared)
    def _(g):
      head = key_head * shared + g
      _feed(full, free, g * total, total, lambda n: order[row, at, n], tile[0],
            lambda at: (q.at[row, at, head], dout.at[row, at, head],
                        lse.at[row, head, at], delta.at[row, head, at],
                        q_ids.at[row, :, at]), others)

    _drain(free, shared * total)


# ------------------------------------------------------------- their memory


def _tiles(count: int, size: int, width: int, dtype) -> Any:
  """Tiles that tensor cores can read, as they want them laid out."""
  return plgpu.SMEM(
      (count, size, width), dtype,
      transforms=(plgpu.TilingTransform((8, LANES)),
                  plgpu.SwizzleTransform(2 * LANES)))


def _vectors(count: int, size: int) -> Any:
  return plgpu.SMEM((count, size), jnp.float32)


def _id_tiles(count: int, size: int) -> Any:
  return plgpu.SMEM((count, len(ID_NAMES), size), jnp.int32)


def _forward_buffers(tile, width: int, dtype) -> tuple[Sequence, Sequence, int]:
  """(what a warpgroup keeps, what is streamed, copies of the former)."""
  of_keys = [_tiles(STAGES, tile[1], width, dtype)] * 2
  return ([_tiles(2, _HALF, width, dtype), _id_tiles(2, _HALF),
           _vectors(2, _HALF)],
          [*of_keys, _id_tiles(STAGES, tile[1])], 2)


def _query_gradient_buffers(tile, width: int, dtype):
  of_keys = [_tiles(STAGES, tile[1], width, dtype)] * 2
  return ([*[_tiles(2, _HALF, width, dtype)] * 2, *[_vectors(2, _HALF)] * 2,
           _id_tiles(2, _HALF)],
          [*of_keys, _id_tiles(STAGES, tile[1])], 5)


def _key_gradient_buffers(tile, width: int, dtype):
  of_queries = [*[_tiles(STAGES, tile[0], width, dtype)] * 2,
                *[_vectors(STAGES, tile[0])] * 2]
  return ([*[_tiles(2, _HALF, width, dtype)] * 2, _id_tiles(2, _HALF)],
          [*of_queries, _id_tiles(STAGES, tile[0])], 3)


# ------------------------------------------------------- parts of a kernel


def _multiplying(group) -> Callable:
  def run(body: Callable) -> None:
    @pl.when(group < 2)
    def _():
      plgpu.set_max_registers(232, action="increase")
      body()

  return run


def _copying(group) -> Callable:
  def run(body: Callable) -> None:
    @pl.when(group == 2)
    def _():
      plgpu.set_max_registers(40, action="decrease")
      body()

  return run


def _fetch(barrier, *copies) -> None:
  """Copies to the block's memory, and waits until all have come."""
  for source, place in copies:
    plgpu.copy_gmem_to_smem(source, place, barrier)
  plgpu.barrier_wait(barrier)


def _store(*copies) -> None:
  """Copies to the GPU's memory what was written to the block's."""
  plgpu.commit_smem()
  for source, place in copies:
    plgpu.copy_smem_to_gmem(source, place)
  plgpu.wait_smem_to_gmem(0)


def _feed(
    full, free, first, total, place: Callable, size: int, sources: Callable,
    buffers,
) -> None:
  """Brings the tiles of use, the n-th of which lies at `place(n) * size`.

  `first` are the tiles that went through the stages before.
  """
  @pl.loop(0, total)
  def _(n):
    slot = lax.rem(first + n, STAGES)

    @pl.when(first + n >= STAGES)
    def _():
      plgpu.barrier_wait(free.at[slot])

    at = pl.ds(place(n) * size, size)
    for source, buffer in zip(sources(at), buffers, strict=True):
      plgpu.copy_gmem_to_smem(source, buffer.at[slot], full.at[slot])


def _drain(free, total) -> None:
  """Waits until the last of all tiles are done with."""
  @pl.loop(jnp.maximum(total - STAGES, 0), total)
  def _(n):
    plgpu.barrier_wait(free.at[lax.rem(n, STAGES)])


def _visit(full, free, first, whole, total, step: Callable, carry):
  """Folds `step` over the tiles of use, first those that need no mask."""
  def run(low, high, masked: bool, carry):
    def one(n, carry):
      slot = lax.rem(first + n, STAGES)
      plgpu.barrier_wait(full.at[slot])
      carry = step(slot, carry, masked=masked)
      # What was read as vectors, not by tensor cores, is ordered with copies to
      # the same place by this alone.
      plgpu.commit_smem()
      plgpu.barrier_arrive(free.at[slot])
      return carry

    return lax.fori_loop(low, high, one, carry)

  return run(whole, total, True, run(0, whole, False, carry))


def _mask(on, query, key, shape, queries: int):
  """The rule of `masks` for a tile of scores, whose axis `queries` they are."""
  def ids(ref, axis: int) -> Ids:
    vectors = {name: _along(axis, on.load(ref.at[i], axis), shape)
               for i, name in enumerate(ID_NAMES)}
    return Ids(**vectors, position=None)

  return masks.rule(ids(query, queries), ids(key, 1 - queries))


def _along(axis: int, x, shape):
  """A vector along one axis of a matrix, the same along the other."""
  return lax.broadcast_in_dim(x, shape, (axis,))


def _shared(q, k) -> int:
  """Query heads of a key head."""
  return q.shape[2] // k.shape[2]


class _Hopper:
  """Products of tensor cores, and registers as these lay them out."""

  @staticmethod
  def product(a, b, turned: bool = False):
    """a @ b of tiles, or a @ b.T, float32."""
    b = b.transpose((1, 0)) if turned else b

    def run(sums):
      plgpu.wgmma(sums, a, b)
      return sums[...]

    return pl.run_scoped(
        run, plgpu.ACC((a.shape[0], b.shape[1]), jnp.float32))

  @staticmethod
  def add_product(sums, a, b):
    """sums + a @ b."""
    def run(ref):
      plgpu.wgmma(ref, a, b)

    return pl.run_state(run)(plgpu.ACC.init(sums))

  @staticmethod
  def load(ref, axis: int):
    """A vector along `axis` of a matrix."""
    return plgpu.layout_cast(ref[...], plgpu.Layout.WGMMA.reduce(1 - axis))

  @staticmethod
  def vector(value: float):
    return plgpu.layout_cast(jnp.full((_HALF,), value, jnp.float32),
                             plgpu.Layout.WGMMA.reduce(1))

  @staticmethod
  def zeros(width: int):
    return plgpu.layout_cast(jnp.zeros((_HALF, width), jnp.float32),
                             plgpu.Layout.WGMMA)


class _Interpreted:
  """The same in plain JAX: Pallas' interpreter lacks some of it."""

  @staticmethod
  def product(a, b, turned: bool = False):
    b = b[...].T if turned else b[...]
    return jnp.dot(a[...], b, preferred_element_type=jnp.float32)

  @classmethod
  def add_product(cls, sums, a, b):
    return sums + cls.product(a, b)

  @staticmethod
  def load(ref, axis: int):
    del axis
    return ref[...]

  @staticmethod
  def vector(value: float):
    return jnp.full((_HALF,), value, jnp.float32)

  @staticmethod
  def zeros(width: int):
    return jnp.zeros((_HALF, width), jnp.float32)


# ---------------------------------------------------------------- the grid


def _call(
    kernel: Callable, *, outer: str, tile: tuple[int, int], query: Ids,
    key: Ids, inputs, outputs, buffers: Callable, products: int, width: int,
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
      [(table == x).sum(axis=2, dtype=jnp.int32)
       for x in (masks.ALL, masks.SOME)], axis=2)
  order = jnp.argsort(-table, axis=2, stable=True).astype(jnp.int32)
  mine, others, copies = buffers(tile, E, inputs[0].dtype)
  scores = B * H * L * S
  name = kernel.__name__.strip("_")

  def body(*refs):
    def run(mine, others, full, free, loaded):
      kernel(*refs, mine=mine, others=others, full=full, free=free,
             loaded=loaded, on=_Interpreted if interpret else _Hopper,
             scale=width**-0.5, tile=tile)

    pl.run_scoped(
        run, mine, others,
        plgpu.Barrier(num_arrivals=len(others), num_barriers=STAGES),
        plgpu.Barrier(num_arrivals=2, num_barriers=STAGES),
        plgpu.Barrier(num_arrivals=copies, num_barriers=2),
        collective_axes=_GROUP)

  body.__name__ = name
  return pl.kernel(
      body, out_type=[jax.ShapeDtypeStruct(x.shape, x.dtype) for x in outputs],
      mesh=plgpu.Mesh(
          grid=(H if outer == "q" else K, table.shape[1], B),
          grid_names=("head", "tile", "row"),
          num_threads=3, thread_name=_GROUP),
      compiler_params=plgpu.CompilerParams(approx_math=True),
      cost_estimate=pl.CostEstimate(
          flops=2 * products * scores * width, transcendentals=scores,
          bytes_accessed=sum(
              math.prod(x.shape) * x.dtype.itemsize
              for x in (*inputs, *outputs))),
      interpret=interpret, name=name,
  )(order, counts, _stack(query), _stack(key), *inputs)


def _stack(ids: Ids) -> jax.Array:
  return jnp.stack([getattr(ids, name) for name in ID_NAMES], axis=1)


def _row_of(q_BLHE: jax.Array) -> jax.ShapeDtypeStruct:
  B, L, H, _ = q_BLHE.shape
  return jax.ShapeDtypeStruct((B, H, L), jnp.float32)


def _padded(x_BLHE: jax.Array) -> jax.Array:
  """Whole tiles of tokens, and whole rows of swizzled memory."""
  _, L, _, E = x_BLHE.shape
  return jnp.pad(
      x_BLHE, ((0, 0), (0, -L % UNIT), (0, 0), (0, -E % LANES)))


def takes(dtype: Any, width: int) -> bool:
  """Whether there are kernels for heads of this dtype and width."""
  return jnp.dtype(dtype) in (jnp.bfloat16, jnp.float16) and width <= WIDEST


def _check(q_BLHE: jax.Array) -> None:
  if not takes(q_BLHE.dtype, q_BLHE.shape[-1]):
    raise ValueError(
        f"No GPU kernel for {q_BLHE.dtype} heads of {q_BLHE.shape[-1]}: they "
        f"take 16 bits and widths up to {WIDEST}. Use attention='chunked'.")
