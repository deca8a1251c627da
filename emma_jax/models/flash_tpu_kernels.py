"""Kernels of attention for TPUs: one tile of queries x keys, forward and back.

Each computes it for all Q heads of a key head, so that K and V are read and the
mask is made once for them. Tiles of the arrays are as `flash_tpu` lays them
out; what they are given and when, `flash_tpu_grid.call` says. r, c: rows
(queries) and columns (keys) of a tile.
"""

from collections.abc import Callable

import jax
from jax.experimental import pallas as pl
import jax.numpy as jnp

from emma_jax.models import masks
from emma_jax.models.flash_tpu_grid import ID_NAMES, LANES
from emma_jax.models.flash_xla import FLOOR, MASKED


def forward_kernel(
  tiles, _, q_ids, k_ids, q, k, v, out, lse, highest, total, sums, *, scale
):
  """Online softmax over the passing keys; `highest`, `total` fill all lanes."""

  @pl.when(pl.program_id(3) == 0)
  def begin():
    highest[...] = jnp.full_like(highest, FLOOR)
    total[...] = jnp.zeros_like(total)
    sums[...] = jnp.zeros_like(sums)

  def step(masked: bool):
    seen_rc = masks.rule(_columns(q_ids), _rows(k_ids)) if masked else None

    @_per_head(lse)
    def head(g):
      s_rc = _scores(_head(q, g, k), _only(k), scale, seen_rc)
      before = highest[g]
      now = jnp.maximum(before, s_rc.max(axis=1, keepdims=True))
      p_rc = jnp.exp(s_rc - now[:, :1])
      shrink = jnp.exp(before - now)
      highest[g] = now
      total[g] = total[g] * shrink + p_rc.sum(axis=1, keepdims=True)
      more_rE = _dot(p_rc.astype(v.dtype), _only(v), (1, 0))
      sums[g] = sums[g] * shrink[:, :1] + more_rE

  _visit(tiles, step)

  @pl.when(pl.program_id(3) == pl.num_programs(3) - 1)
  def end():
    for g in range(lse.shape[2]):
      some = jnp.where(total[g] > 0, total[g], 1.0)
      _set_head(out, g, sums[g] / some[:, :1])
      row = jnp.where(total[g] > 0, highest[g] + jnp.log(some), 0.0)
      lse[0, 0, g] = row.T[0]


def query_gradient_kernel(
  tiles,
  _,
  q_ids,
  k_ids,
  q,
  k,
  v,
  dout,
  out,
  lse,
  dq,
  delta,
  lses,
  deltas,
  sums,
  *,
  scale,
):
  """dq and delta, the rows' sums of out * dout, of the staying queries.

  `lses`, `deltas`: these rows as columns.
  """

  @pl.when(pl.program_id(3) == 0)
  def begin():
    sums[...] = jnp.zeros_like(sums)
    for g in range(lse.shape[2]):
      spread = jnp.broadcast_to(lse[0, 0, g : g + 1], lses.shape[:0:-1])
      lses[g] = spread.T
      product_rE = _head(out, g, k).astype(jnp.float32) * _head(
        dout, g, k
      ).astype(jnp.float32)
      deltas[g] = jnp.broadcast_to(
        product_rE.sum(axis=1, keepdims=True), deltas.shape[1:]
      )
      delta[0, 0, g] = deltas[g].T[0]

  def step(masked: bool):
    seen_rc = masks.rule(_columns(q_ids), _rows(k_ids)) if masked else None

    @_per_head(lse)
    def head(g):
      s_rc = _scores(_head(q, g, k), _only(k), scale, seen_rc)
      p_rc = jnp.exp(s_rc - lses[g, :, :1])
      dp_rc = _dot(_head(dout, g, k), _only(v), (1, 1))
      ds_rc = p_rc * (dp_rc - deltas[g, :, :1])
      sums[g] += _dot(ds_rc.astype(k.dtype), _only(k), (1, 0))

  _visit(tiles, step)

  @pl.when(pl.program_id(3) == pl.num_programs(3) - 1)
  def end():
    for g in range(lse.shape[2]):
      _set_head(dq, g, sums[g] * scale)


def key_gradient_kernel(
  tiles, _, q_ids, k_ids, q, k, v, dout, lse, delta, *rest, scale
):
  """dk and dv of the staying keys; scores are transposed, keys x queries."""
  *before, dk, dv, dk_sum, dv_sum = rest

  @pl.when(pl.program_id(3) == 0)
  def begin():
    dk_sum[...] = jnp.zeros_like(dk_sum)
    dv_sum[...] = jnp.zeros_like(dv_sum)

  def step(masked: bool):
    seen_cr = masks.rule(_rows(q_ids), _columns(k_ids)) if masked else None

    @_per_head(lse)
    def head(g):
      q_rE, dout_rE = _head(q, g, k), _head(dout, g, k)
      s_cr = _scores(_only(k), q_rE, scale, seen_cr)
      p_cr = jnp.exp(s_cr - lse[0, 0, pl.ds(g, 1)])
      dv_sum[...] += _dot(p_cr.astype(dout.dtype), dout_rE, (1, 0))
      dp_cr = _dot(_only(v), dout_rE, (1, 1))
      ds_cr = p_cr * (dp_cr - delta[0, 0, pl.ds(g, 1)])
      dk_sum[...] += _dot(ds_cr.astype(q.dtype), q_rE, (1, 0))

  _visit(tiles, step)

  @pl.when(pl.program_id(3) == pl.num_programs(3) - 1)
  def end():
    sums = [dk_sum[...] * scale, dv_sum[...]]
    for i, ref in enumerate(before):
      sums[i] += _only(ref).astype(jnp.float32)
    for x, ref in zip(sums, (dk, dv)):
      ref[...] = x.astype(ref.dtype).reshape(ref.shape)


def _visit(tiles, step: Callable[[bool], None]) -> None:
  """Runs `step` on this tile, with a mask only where it needs one."""
  outer = pl.program_id(0) * pl.num_programs(2) + pl.program_id(2)
  kind = tiles[outer * pl.num_programs(3) + pl.program_id(3)]
  pl.when(kind == masks.SOME)(lambda: step(True))
  pl.when(kind == masks.ALL)(lambda: step(False))


def _per_head(row) -> Callable:
  """Runs a function for each of the Q heads, in a loop: straight-line code
  would take the compiler Q times as long."""
  return lambda head: jax.lax.fori_loop(
    0, row.shape[2], lambda g, _: head(g), None
  )


def _head(tile, g, k) -> jax.Array:
  """Head g of a tile of queries: (r, E), of the width of the keys' tile."""
  if len(tile.shape) == 5:
    return tile[0, 0, g]
  return tile[0, :, _lanes_of(g, k.shape[-1])]


def _set_head(tile, g: int, x_rE: jax.Array) -> None:
  x_rE = x_rE.astype(tile.dtype)
  if len(tile.shape) == 5:
    tile[0, 0, g] = x_rE
  else:
    tile[0, :, _lanes_of(g, x_rE.shape[-1])] = x_rE


def _lanes_of(g, width: int):
  return pl.ds(pl.multiple_of(g * width, LANES), width)


def _only(tile) -> jax.Array:
  """A tile of keys or values, of one head: (c, E)."""
  return tile[0] if len(tile.shape) == 3 else tile[0, 0]


def _scores(a, b, scale: float, seen):
  s = _dot(a, b, (1, 1)) * scale
  return s if seen is None else jnp.where(seen, s, MASKED)


def _dot(a, b, axes: tuple[int, int]):
  dims = (((axes[0],), (axes[1],)), ((), ()))
  return jax.lax.dot_general(a, b, dims, preferred_element_type=jnp.float32)


def _rows(ids) -> masks.RuleIds:
  """Ids of a tile's tokens along the lanes: (1, n) each."""
  rows = {name: ids[0, i : i + 1] for i, name in enumerate(ID_NAMES)}
  return masks.RuleIds(**rows)


def _columns(ids) -> masks.RuleIds:
  """The same along the sublanes: (n, 1) each."""
  x = ids[0].T
  columns = {name: x[:, i : i + 1] for i, name in enumerate(ID_NAMES)}
  return masks.RuleIds(**columns)
