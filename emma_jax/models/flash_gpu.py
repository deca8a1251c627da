"""EMMA's attention as kernels for Hopper GPUs (Pallas, Mosaic GPU).

cuDNN takes EMMA's mask only as an array of S x S, and computes all of it,
though most is empty in a packed row. Here a block takes one tile of queries (or
keys) and loops over those tiles of the other side that `masks.tiles` finds of
use: first the ones that need no mask, then the others, whose mask is the rule
of `masks` applied to their ids.

`flash_gpu_kernels` computes a tile, `flash_gpu_grid` goes over all of them.
Arrays are token-major, as the projections make and take them; tokens are padded
to whole tiles and heads to multiples of `hopper.LANES`.

Compiled for the H100, and run by Pallas' interpreter, where products and the
layouts of registers are plain JAX (`hopper.Interpreted`); these kernels have
never run on a GPU.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from emma_jax.models import flash_gpu_kernels as kernels
from emma_jax.models import hopper
from emma_jax.models.flash_gpu_grid import call
from emma_jax.models.flash_xla import delta
from emma_jax.structs import TokenIds

# (queries, keys) of a tile in the forward pass, for dq, and for dk and dv: the
# more products a step has, the fewer registers each may take.
FORWARD_TILE, QUERY_TILE, KEY_TILE = (128, 128), (128, 64), (64, 128)
UNIT = 128  # tokens are padded to multiples of it, hence to whole tiles
WIDEST = 128  # heads; the sums of wider ones do not fit the registers


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
  out, lse = call(
    kernels.forward_kernel,
    outer="q",
    tile=FORWARD_TILE,
    query=query,
    key=key,
    inputs=(q, k, v),
    outputs=(q, _row_of(q)),
    buffers=kernels.forward_buffers,
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
  run = functools.partial(
    call,
    query=query,
    key=key,
    inputs=(q, k, v, dout, *rows),
    width=E,
    interpret=interpret,
  )
  (dq,) = run(
    kernels.query_gradient_kernel,
    outer="q",
    tile=QUERY_TILE,
    outputs=(q,),
    buffers=kernels.query_gradient_buffers,
    products=3,
  )
  dk, dv = run(
    kernels.key_gradient_kernel,
    outer="k",
    tile=KEY_TILE,
    outputs=(k, v),
    buffers=kernels.key_gradient_buffers,
    products=4,
  )
  of_keys = [x[:, :S, :, :E] for x in (dk, dv)]
  for i, x in enumerate(before):
    of_keys[i] += x
  dk, dv = of_keys
  return dq[:, :L, :, :E], dk, dv


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
