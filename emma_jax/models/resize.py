"""Resizing grids of learned positions, as torch does it.

A resize is two small matrices, one per side: row n holds the weights with which
output n takes the inputs. One formula makes them: in numpy where the sizes are
static, inside a traced program where they are data.
"""

from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from emma_jax.structs import Array

# Numbers below are static (numpy) or traced (jax.numpy) integer arrays.
Ints = Any


def _center(index: Ints, size_out: Ints, size_in: int) -> tuple[Ints, Ints]:
  """Where outputs fall on the input's axis, as (numerator, denominator).

  (index + 0.5) * size_in / size_out - 0.5, that is align_corners=False. In
  integers, so that float32 loses nothing before the last division.
  """
  return (2 * index + 1) * size_in - size_out, 2 * size_out


def _bicubic(index: Ints, size_out: Ints, size_in: int, xp: ModuleType):
  """Weights (..., size_in) of torch's bicubic for outputs (...).

  A = -0.75, no antialias, taps beyond the edge clamped to it.
  `jax.image.resize` has A = -0.5, antialiases and renormalises instead.
  """
  top, bottom = _center(index, size_out, size_in)
  left = top // bottom
  fraction = (top - left * bottom) / bottom
  cells = np.arange(size_in).reshape((1,) * left.ndim + (-1,))
  weights = 0.0
  for tap in range(-1, 3):
    distance = abs(fraction - tap)
    # In factors: expanded, float32 would lose digits where terms cancel.
    value = xp.where(
      distance <= 1,
      (1 - distance) * (1 + distance - 1.25 * distance**2),
      -0.75 * (distance - 1) * (2 - distance) ** 2,
    )
    # Several taps may be clamped to the same edge: their weights add up.
    source = xp.clip(left + tap, 0, size_in - 1)
    weights = weights + value[..., None] * (source[..., None] == cells)
  return weights


def _bilinear_antialias(
  index: Ints, size_out: Ints, size_in: int, xp: ModuleType
):
  """Weights (..., size_in) of torch's bilinear with antialias=True."""
  top, bottom = (x[..., None] for x in _center(index, size_out, size_in))
  cells = np.arange(size_in).reshape((1,) * (top.ndim - 1) + (-1,))
  distance = (top - bottom * cells) / bottom
  # The triangle is as wide as an output when that is wider than an input.
  width = xp.maximum(2 * size_in / bottom, 1.0)
  weights = xp.maximum(1 - abs(distance) / width, 0.0)
  return weights / weights.sum(-1, keepdims=True)


def bicubic(size_in: int, size_out: int) -> np.ndarray:
  """Float32 weights (out, in) of torch's bicubic: A = -0.75, no antialias."""
  index = np.arange(size_out)
  weights = _bicubic(index, np.full_like(index, size_out), size_in, np)
  return weights.astype(np.float32)


def bilinear_antialias(size_in: int, size_out: int) -> np.ndarray:
  """Float32 weights (out, in) of torch's bilinear with antialias=True."""
  index = np.arange(size_out)
  size = np.full_like(index, size_out)
  return _bilinear_antialias(index, size, size_in, np).astype(np.float32)


METHODS = {"bicubic": bicubic, "bilinear_antialias": bilinear_antialias}
_TRACED = {"bicubic": _bicubic, "bilinear_antialias": _bilinear_antialias}


def resize(grid_hwD: jax.Array, shape: tuple[int, int], method: str):
  """(h, w, D) -> (*shape, D) in float32; exact where the shape is the same."""
  if grid_hwD.shape[:2] == tuple(shape):
    return grid_hwD
  rows, columns = (
    METHODS[method](*sizes) for sizes in zip(grid_hwD.shape[:2], shape)
  )
  # Exact products: the default on TPUs would round positions to bfloat16.
  return jnp.einsum(
    "yh,xw,hwD->yxD",
    rows,
    columns,
    grid_hwD.astype(jnp.float32),
    precision=jax.lax.Precision.HIGHEST,
  )


def resize_at(
  grid_hwD: jax.Array, cell_BT2: Array, size_BT2: Array, method: str
) -> jax.Array:
  """Single cells of resized grids: `resize(grid, size, method)[row, column]`.

  The sizes are data, so one compiled program serves all of them.

  Args:
    grid_hwD: the learned grid.
    cell_BT2: int32 (row, column) of each wanted cell, inside its grid.
    size_BT2: int32 (rows, columns), at least 1, of the resized grid which that
      cell is taken from.
    method: a key of METHODS.

  Returns:
    (B, T, D) float32.
  """
  kernel = _TRACED[method]
  h, w, D = grid_hwD.shape
  rows_BTh = kernel(cell_BT2[..., 0], size_BT2[..., 0], h, jnp)
  columns_BTw = kernel(cell_BT2[..., 1], size_BT2[..., 1], w, jnp)
  both = rows_BTh[..., :, None] * columns_BTw[..., None, :]
  return jnp.einsum(
    "BTn,nD->BTD",
    both.reshape(*both.shape[:-2], h * w),
    grid_hwD.reshape(h * w, D).astype(jnp.float32),
    precision=jax.lax.Precision.HIGHEST,
  )
