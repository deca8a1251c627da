"""EMMA's attention as TPU kernels (Pallas), the mask made from ids inside them.

Splash attention, the kernel that comes with jax, knows causal order, segments
and a last key per query. Three things of `masks.allow` escape it: tokens do not
lie in reading order, noisy versions of one target share their places in it, and
a noisy picture stays hidden from what follows. Here the mask of a tile is the
rule itself, applied to the ids of its queries and keys; whatever the ids, it is
exact. `masks.tiles` tells which tiles need no mask and which no work at all.

One step of the grid computes a tile of queries x keys for all G heads of a key
head, so that K and V are read and the mask is made once for them. Matmuls take
operands of the arrays' dtype and sum in float32.

Arrays are head-major as in `flash_xla`; in the kernels q is (B, K, G, L, E).
The grid is (B, K, outer tiles, inner tiles): a tile of the outer side stays
while those of the inner side pass. r, c: rows (queries), columns (keys) of one.
"""

from collections.abc import Callable
import functools

import jax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
import jax.numpy as jnp

from emma_jax.models import masks
from emma_jax.models.flash_xla import FLOOR, MASKED, delta
from emma_jax.structs import Ids

LANES = 128  # of a vector register: the least tile
SUBLANES = 8  # of a vector register: rows of the array that carries the ids
TILE = 512  # at G = 4 all of a step fits in 16 MB of VMEM
# The first rows of that array; the rest is unused.
ID_NAMES = ("segment", "slot", "end", "noisy")


def forward(
    q_BHLE: jax.Array, k_BKSE: jax.Array, v_BKSE: jax.Array,
    query: Ids, key: Ids, interpret: bool = False,
) -> tuple[jax.Array, jax.Array]:
  """As `flash_xla.forward`; `interpret` runs it without a TPU, slowly."""
  B, H, L, E = q_BHLE.shape
  q, k, v = _grouped(q_BHLE, k_BKSE), _padded(k_BKSE), _padded(v_BKSE)
  row = jax.ShapeDtypeStruct(q.shape[:4], jnp.float32)
  G, r = q.shape[2], _tile(L)
  out, lse = _call(
      functools.partial(_forward_kernel, scale=E**-0.5),
      outer="q", query=query, key=key,
      inputs=(("q", q), ("k", k), ("k", v)),
      outputs=(("q", _like(q)), ("row", row)),
      scratch=((G, r, LANES), (G, r, LANES), (G, r, q.shape[-1])),
      interpret=interpret,
  )
  return _heads(out, q_BHLE), lse.reshape(B, H, -1)[:, :, :L]


def backward(
    q_BHLE: jax.Array, k_BKSE: jax.Array, v_BKSE: jax.Array,
    query: Ids, key: Ids,
    out_BHLE: jax.Array, lse_BHL: jax.Array, dout_BHLE: jax.Array,
    interpret: bool = False,
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """As `flash_xla.backward`: one kernel for dq, another for dk and dv."""
  scale = q_BHLE.shape[-1] ** -0.5
  q, k, v = _grouped(q_BHLE, k_BKSE), _padded(k_BKSE), _padded(v_BKSE)
  dout = _grouped(dout_BHLE, k_BKSE)
  G, r, c = q.shape[2], _tile(q_BHLE.shape[2]), _tile(k_BKSE.shape[2])
  rows = [_padded(x[..., None]).reshape(q.shape[:4])
          for x in (lse_BHL, delta(out_BHLE, dout_BHLE))]
  call = functools.partial(
      _call, query=query, key=key, interpret=interpret,
      inputs=(("q", q), ("k", k), ("k", v), ("q", dout),
              ("row", rows[0]), ("row", rows[1])))
  dq, = call(
      functools.partial(_query_gradient_kernel, scale=scale), outer="q",
      outputs=(("q", _like(q)),),
      scratch=((G, r, LANES), (G, r, LANES), (G, r, q.shape[-1])))
  dk, dv = call(
      functools.partial(_key_gradient_kernel, scale=scale), outer="k",
      outputs=(("k", _like(k)), ("k", _like(v))),
      scratch=((c, k.shape[-1]), (c, k.shape[-1])))
  return _heads(dq, q_BHLE), _heads(dk, k_BKSE), _heads(dv, v_BKSE)


# ---------------------------------------------------------------- kernels


def _forward_kernel(
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

    @_per_head(q)
    def head(g):
      s_rc = _scores(q[0, 0, g], k[0, 0], scale, seen_rc)
      before = highest[g]
      now = jnp.maximum(before, s_rc.max(axis=1, keepdims=True))
      p_rc = jnp.exp(s_rc - now[:, :1])
      shrink = jnp.exp(before - now)
      highest[g] = now
      total[g] = total[g] * shrink + p_rc.sum(axis=1, keepdims=True)
      more_rE = _dot(p_rc.astype(v.dtype), v[0, 0], (1, 0))
      sums[g] = sums[g] * shrink[:, :1] + more_rE

  _visit(tiles, step)

  @pl.when(pl.program_id(3) == pl.num_programs(3) - 1)
  def end():
    for g in range(q.shape[2]):
      some = jnp.where(total[g] > 0, total[g], 1.0)
      out[0, 0, g] = (sums[g] / some[:, :1]).astype(out.dtype)
      row = jnp.where(total[g] > 0, highest[g] + jnp.log(some), 0.0)
      lse[0, 0, g] = row.T[0]


def _query_gradient_kernel(
    tiles, _, q_ids, k_ids, q, k, v, dout, lse, delta, dq, lses, deltas, sums,
    *, scale,
):
  """dq of the staying queries; `lses`, `deltas`: their rows as columns."""

  @pl.when(pl.program_id(3) == 0)
  def begin():
    sums[...] = jnp.zeros_like(sums)
    for row, column in ((lse, lses), (delta, deltas)):
      for g in range(q.shape[2]):
        spread = jnp.broadcast_to(row[0, 0, g:g + 1], column.shape[:0:-1])
        column[g] = spread.T

  def step(masked: bool):
    seen_rc = masks.rule(_columns(q_ids), _rows(k_ids)) if masked else None

    @_per_head(q)
    def head(g):
      s_rc = _scores(q[0, 0, g], k[0, 0], scale, seen_rc)
      p_rc = jnp.exp(s_rc - lses[g, :, :1])
      dp_rc = _dot(dout[0, 0, g], v[0, 0], (1, 1))
      ds_rc = p_rc * (dp_rc - deltas[g, :, :1])
      sums[g] += _dot(ds_rc.astype(k.dtype), k[0, 0], (1, 0))

  _visit(tiles, step)

  @pl.when(pl.program_id(3) == pl.num_programs(3) - 1)
  def end():
    dq[0, 0] = (sums[...] * scale).astype(dq.dtype)


def _key_gradient_kernel(
    tiles, _, q_ids, k_ids, q, k, v, dout, lse, delta, dk, dv, dk_sum, dv_sum,
    *, scale,
):
  """dk and dv of the staying keys; scores are transposed, keys x queries."""

  @pl.when(pl.program_id(3) == 0)
  def begin():
    dk_sum[...] = jnp.zeros_like(dk_sum)
    dv_sum[...] = jnp.zeros_like(dv_sum)

  def step(masked: bool):
    seen_cr = masks.rule(_rows(q_ids), _columns(k_ids)) if masked else None

    @_per_head(q)
    def head(g):
      s_cr = _scores(k[0, 0], q[0, 0, g], scale, seen_cr)
      p_cr = jnp.exp(s_cr - lse[0, 0, pl.ds(g, 1)])
      dv_sum[...] += _dot(p_cr.astype(dout.dtype), dout[0, 0, g], (1, 0))
      dp_cr = _dot(v[0, 0], dout[0, 0, g], (1, 1))
      ds_cr = p_cr * (dp_cr - delta[0, 0, pl.ds(g, 1)])
      dk_sum[...] += _dot(ds_cr.astype(q.dtype), q[0, 0, g], (1, 0))

  _visit(tiles, step)

  @pl.when(pl.program_id(3) == pl.num_programs(3) - 1)
  def end():
    dk[0, 0] = (dk_sum[...] * scale).astype(dk.dtype)
    dv[0, 0] = dv_sum[...].astype(dv.dtype)


def _visit(tiles, step: Callable[[bool], None]) -> None:
  """Runs `step` on this tile, with a mask only where it needs one."""
  outer = pl.program_id(0) * pl.num_programs(2) + pl.program_id(2)
  kind = tiles[outer * pl.num_programs(3) + pl.program_id(3)]
  pl.when(kind == masks.SOME)(lambda: step(True))
  pl.when(kind == masks.ALL)(lambda: step(False))


def _per_head(q) -> Callable:
  """Runs a function for each of the G heads, in a loop: straight-line code
  would take the compiler G times as long."""
  return lambda head: jax.lax.fori_loop(
      0, q.shape[2], lambda g, _: head(g), None)


def _scores(a, b, scale: float, seen):
  s = _dot(a, b, (1, 1)) * scale
  return s if seen is None else jnp.where(seen, s, MASKED)


def _dot(a, b, axes: tuple[int, int]):
  dims = (((axes[0],), (axes[1],)), ((), ()))
  return jax.lax.dot_general(a, b, dims, preferred_element_type=jnp.float32)


def _rows(ids) -> Ids:
  """Ids of a tile's tokens along the lanes: (1, n) each."""
  rows = {name: ids[0, i:i + 1] for i, name in enumerate(ID_NAMES)}
  return Ids(**rows, position=None)


def _columns(ids) -> Ids:
  """The same along the sublanes: (n, 1) each."""
  x = ids[0].T
  columns = {name: x[:, i:i + 1] for i, name in enumerate(ID_NAMES)}
  return Ids(**columns, position=None)


# ---------------------------------------------------------------- the grid


def _call(
    kernel: Callable, *, outer: str, query: Ids, key: Ids, inputs, outputs,
    scratch, interpret: bool,
) -> tuple[jax.Array, ...]:
  """Runs a kernel over all tiles.

  Args:
    kernel: takes the kinds of the tiles, their order, ids of queries and keys,
      inputs, outputs and scratch.
    outer: the side, "q" or "k", whose tiles stay.
    inputs, outputs: (kind, array) pairs; "q" is (B, K, G, L, E), "row" without
      E, "k" (B, K, S, E).
    scratch: shapes of float32 buffers.
  """
  _, K, G, L, E = inputs[0][1].shape
  r, c = _tile(query.segment.shape[1]), _tile(key.segment.shape[1])
  query = masks.pad(query, _length(query.segment.shape[1]))
  key = masks.pad(key, _length(key.segment.shape[1]))
  table = masks.tiles(query, key, r, c)
  if outer == "k":
    table = table.swapaxes(1, 2)
  B, outers, inners = table.shape

  def spec(side: str, block: tuple[int, ...], index: Callable) -> pl.BlockSpec:
    def at(b, h, o, i, _, order):
      stays = side == outer
      return index(b, h, o if stays else order[(b * outers + o) * inners + i])

    return pl.BlockSpec(block, at)

  specs = {
      "q": spec("q", (1, 1, G, r, E), lambda b, h, n: (b, h, 0, n, 0)),
      "row": spec("q", (1, 1, G, r), lambda b, h, n: (b, h, 0, n)),
      "k": spec("k", (1, 1, c, E), lambda b, h, n: (b, h, n, 0)),
  }
  ids = [spec(side, (1, SUBLANES, n), lambda b, h, n: (b, 0, n))
         for side, n in (("q", r), ("k", c))]
  return pl.pallas_call(
      kernel,
      grid_spec=pltpu.PrefetchScalarGridSpec(
          num_scalar_prefetch=2,
          grid=(B, K, outers, inners),
          in_specs=[*ids, *(specs[kind] for kind, _ in inputs)],
          out_specs=[specs[kind] for kind, _ in outputs],
          scratch_shapes=[pltpu.VMEM(x, jnp.float32) for x in scratch],
      ),
      out_shape=[x for _, x in outputs],
      compiler_params=pltpu.CompilerParams(
          dimension_semantics=("parallel",) * 3 + ("arbitrary",)),
      interpret=interpret,
      name=kernel.func.__name__.strip("_"),
  )(table.reshape(-1), _order(table).reshape(-1), _stack(query), _stack(key),
    *(x for _, x in inputs))


def _order(table: jax.Array) -> jax.Array:
  """Which inner tile to hold at each step: this one, or the next of use.

  A step without work holds what comes after it, or at the end still what came
  before, so that nothing is copied that is not computed with.
  """
  place = jnp.arange(table.shape[2], dtype=jnp.int32)[None, None]
  use = table != masks.NOTHING
  next_use = jax.lax.cummin(
      jnp.where(use, place, table.shape[2]), axis=2, reverse=True)
  last_use = jnp.where(use, place, 0).max(axis=2, keepdims=True)
  return jnp.minimum(next_use, last_use)


def _tile(length: int) -> int:
  return min(TILE, length + -length % LANES)


def _length(length: int) -> int:
  """Padded to whole tiles."""
  return length + -length % _tile(length)


def _stack(ids: Ids) -> jax.Array:
  x_BIL = jnp.stack([getattr(ids, name) for name in ID_NAMES], axis=1)
  return jnp.pad(x_BIL, ((0, 0), (0, SUBLANES - len(ID_NAMES)), (0, 0)))


def _padded(x_BHLE: jax.Array) -> jax.Array:
  """Whole tiles of tokens. Heads stay as wide as they are: memory and registers
  pad them to whole lanes anyway."""
  L = x_BHLE.shape[2]
  return jnp.pad(x_BHLE, ((0, 0), (0, 0), (0, _length(L) - L), (0, 0)))


def _grouped(q_BHLE: jax.Array, k_BKSE: jax.Array) -> jax.Array:
  x = _padded(q_BHLE)
  return x.reshape(x.shape[0], k_BKSE.shape[1], -1, *x.shape[2:])


def _heads(x: jax.Array, like_BHLE: jax.Array) -> jax.Array:
  """Undoes `_grouped` and `_padded`."""
  B, H, L, E = like_BHLE.shape
  return x.reshape(B, H, *x.shape[-2:])[:, :, :L, :E]


def _like(x: jax.Array) -> jax.ShapeDtypeStruct:
  return jax.ShapeDtypeStruct(x.shape, x.dtype)
