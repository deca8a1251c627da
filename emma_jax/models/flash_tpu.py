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

Arrays are token-major, as the projections make and take them. Heads of whole
lanes stay so: a tile of q is (r, G * E) of (B, L, H * E), and nothing is ever
transposed. Others (SigLIP2's of 72) go head-major, q as (B, K, G, L, E).
The grid is (B, K, outer tiles, inner tiles): a tile of the outer side stays
while those of the inner side pass. r, c: rows (queries), columns (keys) of one.
"""

from collections.abc import Callable
import functools

import jax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
import jax.numpy as jnp

from emma_jax.models import masks, partition
from emma_jax.models.flash_xla import FLOOR, MASKED
from emma_jax.structs import TokenIds

LANES = partition.TPU_LANES  # of a vector register: the least tile
SUBLANES = 8  # of a vector register: rows of the array that carries the ids
TILE = 512  # at G = 4 all of a step fits in 16 MB of VMEM
# The first rows of that array; the rest is unused.
ID_NAMES = ("segment", "order", "last_visible", "noise_group")


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
  G, r = H // K, _tile(L)
  out, lse = _call(
    functools.partial(_forward_kernel, scale=E**-0.5),
    outer="q",
    query=query,
    key=key,
    heads=(K, G, E),
    inputs=(("q", q), ("k", k), ("k", v)),
    outputs=(("q", _like(q)), ("row", _row(B, K, G, L))),
    scratch=((G, r, LANES), (G, r, LANES), (G, r, E)),
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
  G, r, c = H // K, _tile(L), _tile(S)
  row = _row(B, K, G, L)
  lse = jnp.pad(lse_BHL, ((0, 0), (0, 0), (0, _length(L) - L)))
  lse = lse.reshape(row.shape)
  call = functools.partial(
    _call, query=query, key=key, heads=(K, G, E), interpret=interpret
  )
  given = (("q", q), ("k", k), ("k", v), ("q", dout))
  dq, delta = call(
    functools.partial(_query_gradient_kernel, scale=scale),
    outer="q",
    inputs=(*given, ("q", out), ("row", lse)),
    outputs=(("q", _like(q)), ("row", row)),
    scratch=((G, r, LANES), (G, r, LANES), (G, r, E)),
  )
  dk, dv = call(
    functools.partial(_key_gradient_kernel, scale=scale),
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


def _query_gradient_kernel(
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


def _key_gradient_kernel(
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
  """Runs a function for each of the G heads, in a loop: straight-line code
  would take the compiler G times as long."""
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


# ---------------------------------------------------------------- the grid


def _call(
  kernel: functools.partial,
  *,
  outer: str,
  query: TokenIds,
  key: TokenIds,
  heads: tuple[int, int, int],
  inputs,
  outputs,
  scratch,
  interpret: bool,
) -> tuple[jax.Array, ...]:
  """Runs a kernel over all tiles.

  Args:
    kernel: takes the kinds of the tiles, their order, ids of queries and keys,
      inputs, outputs and scratch.
    outer: the side, "q" or "k", whose tiles stay.
    heads: K, G, E.
    inputs, outputs: (kind, array) pairs; "q" as `_queries` makes it, "k" as
      `_keys` does, "row" (B, K, G, L).
    scratch: shapes of float32 buffers.
  """
  K, G, E = heads
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

  specs = {"row": spec("q", (1, 1, G, r), lambda b, h, n: (b, h, 0, n))}
  if E % LANES:
    specs["q"] = spec("q", (1, 1, G, r, E), lambda b, h, n: (b, h, 0, n, 0))
    specs["k"] = spec("k", (1, 1, c, E), lambda b, h, n: (b, h, n, 0))
  else:
    specs["q"] = spec("q", (1, r, G * E), lambda b, h, n: (b, n, h))
    specs["k"] = spec("k", (1, c, E), lambda b, h, n: (b, n, h))
  ids = [
    spec(side, (1, SUBLANES, n), lambda b, h, n: (b, 0, n))
    for side, n in (("q", r), ("k", c))
  ]
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
      dimension_semantics=("parallel",) * 3 + ("arbitrary",)
    ),
    interpret=interpret,
    name=kernel.func.__name__.strip("_"),
  )(
    table.reshape(-1),
    _order(table).reshape(-1),
    _stack(query),
    _stack(key),
    *(x for _, x in inputs),
  )


def _order(table: jax.Array) -> jax.Array:
  """Which inner tile to hold at each step: this one, or the next of use.

  A step without work holds what comes after it, or at the end still what came
  before, so that nothing is copied that is not computed with.
  """
  place = jnp.arange(table.shape[2], dtype=jnp.int32)[None, None]
  use = table != masks.NOTHING
  next_use = jax.lax.cummin(
    jnp.where(use, place, table.shape[2]), axis=2, reverse=True
  )
  last_use = jnp.where(use, place, 0).max(axis=2, keepdims=True)
  return jnp.minimum(next_use, last_use)


def _tile(length: int) -> int:
  return min(TILE, length + -length % LANES)


def _length(length: int) -> int:
  """Padded to whole tiles."""
  return length + -length % _tile(length)


def _stack(ids: TokenIds) -> jax.Array:
  x_BIL = jnp.stack([getattr(ids, name) for name in ID_NAMES], axis=1)
  return jnp.pad(x_BIL, ((0, 0), (0, SUBLANES - len(ID_NAMES)), (0, 0)))


def _queries(x_BLHE: jax.Array, key_heads: int) -> jax.Array:
  """(B, L, H * E), or (B, K, G, L, E) of heads that do not fill their lanes;
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
  return jnp.pad(x_BLHE, ((0, 0), (0, _length(L) - L), (0, 0), (0, 0)))


def _row(B: int, K: int, G: int, L: int) -> jax.ShapeDtypeStruct:
  return jax.ShapeDtypeStruct((B, K, G, _length(L)), jnp.float32)


def _like(x: jax.Array) -> jax.ShapeDtypeStruct:
  return jax.ShapeDtypeStruct(x.shape, x.dtype)
