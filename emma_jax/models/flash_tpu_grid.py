"""How TPU kernels of attention go over all tiles of queries x keys.

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
from emma_jax.structs import TokenIds

LANES = partition.TPU_LANES  # of a vector register: the least tile
SUBLANES = 8  # of a vector register: rows of the array that carries the ids
TILE = 512  # at Q = 4 all of a step fits in 16 MB of VMEM
# The first rows of that array; the rest is unused.
ID_NAMES = ("segment", "order", "last_visible", "noise_group")


def call(
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
    heads: K, Q, E.
    inputs, outputs: (kind, array) pairs; "q" as `flash_tpu` lays out
      queries, "k" keys, "row" (B, K, Q, L).
    scratch: shapes of float32 buffers.
  """
  K, Q, E = heads
  r, c = tile(query.segment.shape[1]), tile(key.segment.shape[1])
  query = masks.pad(query, padded_length(query.segment.shape[1]))
  key = masks.pad(key, padded_length(key.segment.shape[1]))
  table = masks.tiles(query, key, r, c)
  if outer == "k":
    table = table.swapaxes(1, 2)
  B, outers, inners = table.shape
  specs = _specs(outer, (Q, E), (r, c), (outers, inners))
  return pl.pallas_call(
    kernel,
    grid_spec=pltpu.PrefetchScalarGridSpec(
      num_scalar_prefetch=2,
      grid=(B, K, outers, inners),
      in_specs=[
        specs["q_ids"],
        specs["k_ids"],
        *(specs[kind] for kind, _ in inputs),
      ],
      out_specs=[specs[kind] for kind, _ in outputs],
      scratch_shapes=[pltpu.VMEM(x, jnp.float32) for x in scratch],
    ),
    out_shape=[x for _, x in outputs],
    compiler_params=pltpu.CompilerParams(
      dimension_semantics=("parallel",) * 3 + ("arbitrary",)
    ),
    interpret=interpret,
    name=kernel.func.__name__,
  )(
    table.reshape(-1),
    _order(table).reshape(-1),
    _stack(query),
    _stack(key),
    *(x for _, x in inputs),
  )


def _specs(
  outer: str,
  heads: tuple[int, int],
  tiles: tuple[int, int],
  counts: tuple[int, int],
) -> dict[str, pl.BlockSpec]:
  """Which part of an array of each kind a step of the grid holds.

  Args:
    outer: see `call`.
    heads: Q, E.
    tiles: queries and keys of one.
    counts: of outer and inner tiles.
  """
  (Q, E), (r, c), (outers, inners) = heads, tiles, counts

  def spec(side: str, block: tuple[int, ...], index: Callable) -> pl.BlockSpec:
    def at(b, h, o, i, _, order):
      stays = side == outer
      return index(b, h, o if stays else order[(b * outers + o) * inners + i])

    return pl.BlockSpec(block, at)

  specs = {
    "q_ids": spec("q", (1, SUBLANES, r), lambda b, h, n: (b, 0, n)),
    "k_ids": spec("k", (1, SUBLANES, c), lambda b, h, n: (b, 0, n)),
    "row": spec("q", (1, 1, Q, r), lambda b, h, n: (b, h, 0, n)),
  }
  if E % LANES:
    specs["q"] = spec("q", (1, 1, Q, r, E), lambda b, h, n: (b, h, 0, n, 0))
    specs["k"] = spec("k", (1, 1, c, E), lambda b, h, n: (b, h, n, 0))
  else:
    specs["q"] = spec("q", (1, r, Q * E), lambda b, h, n: (b, n, h))
    specs["k"] = spec("k", (1, c, E), lambda b, h, n: (b, n, h))
  return specs


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


def tile(length: int) -> int:
  """Tokens of a tile, where there are `length`: fewer make one tile.

  >>> tile(100), tile(4096)
  (128, 512)
  """
  return min(TILE, length + -length % LANES)


def padded_length(length: int) -> int:
  """Padded to whole tiles.

  >>> padded_length(100), padded_length(600)
  (128, 1024)
  """
  return length + -length % tile(length)


def _stack(ids: TokenIds) -> jax.Array:
  x_BIL = jnp.stack([getattr(ids, name) for name in ID_NAMES], axis=1)
  return jnp.pad(x_BIL, ((0, 0), (0, SUBLANES - len(ID_NAMES)), (0, 0)))
