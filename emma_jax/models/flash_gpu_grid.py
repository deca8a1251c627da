"""How GPU kernels of attention go over all tiles of queries x keys.

The grid is (heads, tiles of the outer side, rows): a block has one such tile
and loops over those of the other side that are of use.
"""

from collections.abc import Callable, Sequence
import dataclasses
import math
from typing import Any

import jax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu
import jax.numpy as jnp

from emma_jax.models import hopper, masks
from emma_jax.structs import TokenIds

ID_NAMES = ("segment", "order", "last_visible", "noise_group")


@dataclasses.dataclass(frozen=True)
class Block:
  """What a kernel has beside its arrays.

  Attributes:
    mine: buffers of the outer side, a part for each of two warpgroups.
    others: those of the other side, `hopper.STAGES` tiles each.
    full, free: barriers of these stages, see `hopper`.
    loaded: a barrier for each warpgroup's part of `mine`.
    on: `hopper.TensorCores`, or what stands for them.
    scale: of scores.
    tile: queries and keys of one.
  """

  mine: tuple
  others: tuple
  full: Any
  free: Any
  loaded: Any
  on: Any
  scale: float
  tile: tuple[int, int]


def call(
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
      of queries and keys, inputs, outputs, and its block.
    outer: the side, "q" or "k", of which a block takes a tile.
    tile: queries and keys of a tile.
    inputs: queries (B, L, H, E), keys (B, S, K, E) and others, padded.
    outputs: arrays like those that it makes.
    buffers: a block's memory; see `flash_gpu_kernels.forward_buffers`.
    products: of matrices, for a tile of scores.
    width: of a head before it was padded.
  """
  (B, L, H, E), (_, S, K, _) = inputs[0].shape, inputs[1].shape
  query, key = masks.pad(query, L), masks.pad(key, S)
  order, counts = _order(query, key, outer, tile)
  scores = B * H * L * S
  return pl.kernel(
    _body(kernel, buffers(tile, E, inputs[0].dtype), tile, width, interpret),
    out_type=[jax.ShapeDtypeStruct(x.shape, x.dtype) for x in outputs],
    mesh=plgpu.Mesh(
      grid=(H if outer == "q" else K, order.shape[1], B),
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
    name=kernel.__name__,
  )(order, counts, _stack(query), _stack(key), *inputs)


def _body(
  kernel: Callable,
  buffers: tuple[Sequence, Sequence, int],
  tile: tuple[int, int],
  width: int,
  interpret: Any,
) -> Callable:
  """The kernel with its buffers and barriers made; see `call`."""
  mine, others, copies = buffers
  on = hopper.Interpreted if interpret else hopper.TensorCores

  def body(*refs):
    def run(mine, others, full, free, loaded):
      scale = width**-0.5
      block = Block(mine, others, full, free, loaded, on, scale, tile)
      kernel(*refs, block=block)

    pl.run_scoped(
      run,
      mine,
      others,
      plgpu.Barrier(num_arrivals=len(others), num_barriers=hopper.STAGES),
      plgpu.Barrier(num_arrivals=2, num_barriers=hopper.STAGES),
      plgpu.Barrier(num_arrivals=copies, num_barriers=2),
      collective_axes=hopper.GROUP,
    )

  body.__name__ = kernel.__name__
  return body


def _order(
  query: TokenIds, key: TokenIds, outer: str, tile: tuple[int, int]
) -> tuple[jax.Array, jax.Array]:
  """(which tile of the other side is the n-th of use for one of the outer side
  (B, outer, n), how many need no mask and how many one (B, outer, 2))."""
  table = masks.tiles(query, key, *tile)
  if outer == "k":
    table = table.swapaxes(1, 2)
  counts = jnp.stack(
    [
      (table == x).sum(axis=2, dtype=jnp.int32) for x in (masks.ALL, masks.SOME)
    ],
    axis=2,
  )
  return jnp.argsort(-table, axis=2, stable=True).astype(jnp.int32), counts


def _stack(ids: TokenIds) -> jax.Array:
  return jnp.stack([getattr(ids, name) for name in ID_NAMES], axis=1)
