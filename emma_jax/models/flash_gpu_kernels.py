"""Kernels of attention for Hopper GPUs: one tile, forward and back.

Each takes a tile of one side over those of the other that are of use, and goes
with the buffers that a block of it needs. What it is given, and in what order,
`flash_gpu_grid.call` says; of what it is made, `hopper`.
r, c: rows (queries) and columns (keys) of a tile.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu
import jax.numpy as jnp

from emma_jax.models import hopper, masks
from emma_jax.models.flash_gpu_grid import ID_NAMES, Block
from emma_jax.models.flash_xla import FLOOR, MASKED


def forward_kernel(
  order, counts, q_ids, k_ids, q, k, v, out, lse, *, block: Block
):
  """Online softmax of a tile of queries over the keys."""
  row, head, at, group = _place()
  key_head = lax.div(head, _shared(q, k))
  whole, total = _of_use(counts, row, at)
  on = block.on

  @hopper.multiplying(group)
  def _():
    rows = _half(at, group, block.tile[0])
    mine_q, mine_ids, mine_lse = (x.at[group] for x in block.mine)
    hopper.fetch(
      block.loaded.at[group],
      (q.at[row, rows, head], mine_q),
      (q_ids.at[row, :, rows], mine_ids),
    )

    def step(slot, carry, masked: bool):
      m_r, l_r, sum_rE = carry
      k_cE, v_cE, seen = (x.at[slot] for x in block.others)
      ids = (mine_ids, seen) if masked else None
      s_rc = _scores(block, mine_q, k_cE, ids, queries=0)
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
    m_r, l_r, sum_rE = hopper.visit(
      block.full, block.free, 0, whole, total, step, first
    )
    some_r = jnp.where(l_r > 0, l_r, 1.0)
    sum_rE /= hopper.along(0, some_r, sum_rE.shape)
    mine_q[...] = sum_rE.astype(q.dtype)
    mine_lse[...] = jnp.where(l_r > 0, m_r + jnp.log(some_r), 0.0)
    hopper.store(
      (mine_q, out.at[row, rows, head]), (mine_lse, lse.at[row, head, rows])
    )

  @hopper.copying(group)
  def _():
    _feed_keys(block, order, (k, v, k_ids), (row, at, key_head), total)


def query_gradient_kernel(
  order, counts, q_ids, k_ids, q, k, v, dout, lse, delta, dq, *, block: Block
):
  """dq of a tile of queries."""
  row, head, at, group = _place()
  key_head = lax.div(head, _shared(q, k))
  whole, total = _of_use(counts, row, at)
  on = block.on

  @hopper.multiplying(group)
  def _():
    rows = _half(at, group, block.tile[0])
    mine_q, mine_dout, mine_lse, mine_delta, mine_ids = (
      x.at[group] for x in block.mine
    )
    hopper.fetch(
      block.loaded.at[group],
      (q.at[row, rows, head], mine_q),
      (dout.at[row, rows, head], mine_dout),
      (lse.at[row, head, rows], mine_lse),
      (delta.at[row, head, rows], mine_delta),
      (q_ids.at[row, :, rows], mine_ids),
    )
    lse_r, delta_r = on.load(mine_lse, 0), on.load(mine_delta, 0)

    def step(slot, dq_rE, masked: bool):
      k_cE, v_cE, seen = (x.at[slot] for x in block.others)
      ids = (mine_ids, seen) if masked else None
      s_rc = _scores(block, mine_q, k_cE, ids, queries=0)
      p_rc = jnp.exp(s_rc - hopper.along(0, lse_r, s_rc.shape))
      dp_rc = on.product(mine_dout, v_cE, turned=True)
      ds_rc = p_rc * (dp_rc - hopper.along(0, delta_r, s_rc.shape))
      return on.add_product(dq_rE, ds_rc.astype(q.dtype), k_cE)

    dq_rE = hopper.visit(
      block.full, block.free, 0, whole, total, step, on.zeros(q.shape[3])
    )
    mine_q[...] = (dq_rE * block.scale).astype(q.dtype)
    hopper.store((mine_q, dq.at[row, rows, head]))

  @hopper.copying(group)
  def _():
    _feed_keys(block, order, (k, v, k_ids), (row, at, key_head), total)


def key_gradient_kernel(
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
  block: Block,
):
  """dk and dv of a tile of keys, of all query heads of their head; scores are
  keys x queries."""
  row, key_head, at, group = _place()
  shared = _shared(q, k)
  whole, total = _of_use(counts, row, at)
  on = block.on

  @hopper.multiplying(group)
  def _():
    columns = _half(at, group, block.tile[1])
    mine_k, mine_v, mine_ids = (x.at[group] for x in block.mine)
    hopper.fetch(
      block.loaded.at[group],
      (k.at[row, columns, key_head], mine_k),
      (v.at[row, columns, key_head], mine_v),
      (k_ids.at[row, :, columns], mine_ids),
    )

    def step(slot, carry, masked: bool):
      dk_cE, dv_cE = carry
      q_rE, dout_rE, lse_r, delta_r, seen_by = (
        x.at[slot] for x in block.others
      )
      ids = (seen_by, mine_ids) if masked else None
      s_cr = _scores(block, mine_k, q_rE, ids, queries=1)
      p_cr = jnp.exp(s_cr - hopper.along(1, on.load(lse_r, 1), s_cr.shape))
      dv_cE = on.add_product(dv_cE, p_cr.astype(q.dtype), dout_rE)
      dp_cr = on.product(mine_v, dout_rE, turned=True)
      ds_cr = p_cr * (dp_cr - hopper.along(1, on.load(delta_r, 1), s_cr.shape))
      return on.add_product(dk_cE, ds_cr.astype(q.dtype), q_rE), dv_cE

    def head(g, carry):
      return hopper.visit(
        block.full, block.free, g * total, whole, total, step, carry
      )

    zeros = on.zeros(k.shape[3])
    dk_cE, dv_cE = lax.fori_loop(0, shared, head, (zeros, zeros))
    mine_k[...] = (dk_cE * block.scale).astype(k.dtype)
    mine_v[...] = dv_cE.astype(v.dtype)
    hopper.store(
      (mine_k, dk.at[row, columns, key_head]),
      (mine_v, dv.at[row, columns, key_head]),
    )

  @hopper.copying(group)
  def _():
    queries = (q, dout, lse, delta, q_ids)
    _feed_queries(block, order, queries, (row, at, key_head), total, shared)


def _place() -> Iterator:
  """Row, head, tile of the outer side, warpgroup: of what runs."""
  return map(lax.axis_index, ("row", "head", "tile", hopper.GROUP))


def _of_use(counts, row, at):
  """How many tiles of the other side need no mask, and how many are of use."""
  return counts[row, at, 0], counts[row, at, 0] + counts[row, at, 1]


def _half(at, group, size: int):
  """The tokens of tile `at` that are a warpgroup's."""
  return pl.ds(at * size + group * hopper.HALF, hopper.HALF)


def _scores(block: Block, a, b, ids: tuple[Any, Any] | None, queries: int):
  """a @ b.T, scaled and, if given ids of (queries, keys), masked; the queries
  are its axis `queries`."""
  s = block.on.product(a, b, turned=True) * block.scale
  if ids is None:
    return s
  return jnp.where(_mask(block.on, ids, s.shape, queries), s, MASKED)


def _mask(on, ids: tuple[Any, Any], shape, queries: int):
  """The rule of `masks` for a tile of scores; see `_scores`."""
  query, key = ids

  def along(ref, axis: int) -> masks.RuleIds:
    vectors = {
      name: hopper.along(axis, on.load(ref.at[i], axis), shape)
      for i, name in enumerate(ID_NAMES)
    }
    return masks.RuleIds(**vectors)

  return masks.rule(along(query, queries), along(key, 1 - queries))


def _shared(q, k) -> int:
  """Query heads of a key head."""
  return q.shape[2] // k.shape[2]


def _feed_keys(block: Block, order, keys: tuple, place: tuple, total) -> None:
  """Brings the keys of use to a tile of queries.

  Args:
    keys: arrays of keys, values, ids.
    place: row, tile of queries, head of keys.
  """
  (k, v, k_ids), (row, at, key_head) = keys, place
  hopper.feed(
    block.full,
    block.free,
    0,
    total,
    lambda n: order[row, at, n],
    block.tile[1],
    lambda at: (
      k.at[row, at, key_head],
      v.at[row, at, key_head],
      k_ids.at[row, :, at],
    ),
    block.others,
  )
  hopper.drain(block.free, total)


def _feed_queries(
  block: Block, order, queries: tuple, place: tuple, total, shared: int
) -> None:
  """Brings the queries of use to a tile of keys, one head after the other.

  Args:
    queries: arrays of queries, output's gradients, log-sum-exps, deltas, ids.
    place: row, tile of keys, head of keys, which `shared` of queries share.
  """
  (q, dout, lse, delta, q_ids), (row, at, key_head) = queries, place

  @pl.loop(0, shared)
  def _(g):
    head = key_head * shared + g
    hopper.feed(
      block.full,
      block.free,
      g * total,
      total,
      lambda n: order[row, at, n],
      block.tile[0],
      lambda at: (
        q.at[row, at, head],
        dout.at[row, at, head],
        lse.at[row, head, at],
        delta.at[row, head, at],
        q_ids.at[row, :, at],
      ),
      block.others,
    )

  hopper.drain(block.free, shared * total)


# ------------------------------------------------------------- their memory


def _id_tiles(count: int, size: int) -> Any:
  return plgpu.SMEM((count, len(ID_NAMES), size), jnp.int32)


def forward_buffers(tile, width: int, dtype) -> tuple[Sequence, Sequence, int]:
  """(what a warpgroup keeps, what is streamed, copies of the former)."""
  mine = [
    hopper.tiles(2, hopper.HALF, width, dtype),
    _id_tiles(2, hopper.HALF),
    hopper.vectors(2, hopper.HALF),
  ]
  return mine, _streamed_keys(tile, width, dtype), 2


def query_gradient_buffers(tile, width: int, dtype):
  """As `forward_buffers`."""
  mine = [
    *[hopper.tiles(2, hopper.HALF, width, dtype)] * 2,
    *[hopper.vectors(2, hopper.HALF)] * 2,
    _id_tiles(2, hopper.HALF),
  ]
  return mine, _streamed_keys(tile, width, dtype), len(mine)


def key_gradient_buffers(tile, width: int, dtype):
  """As `forward_buffers`."""
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
