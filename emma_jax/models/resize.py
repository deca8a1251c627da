"""Resizing grids of learned positions, as torch does it.

Resizing is two small matrices, one per side, made in numpy from static sizes.
"""

import jax
import jax.numpy as jnp
import numpy as np


def _centers(size_in: int, size_out: int) -> np.ndarray:
  """Where each output falls on the input's axis (align_corners=False)."""
  return (np.arange(size_out) + 0.5) * (size_in / size_out) - 0.5


def bicubic(size_in: int, size_out: int) -> np.ndarray:
  """Weights (out, in) of torch's bicubic: A = -0.75, no antialias, clamped.

  `jax.image.resize` has A = -0.5 and renormalises at the edges instead.
  """
  centers = _centers(size_in, size_out)
  left = np.floor(centers).astype(int)
  weights = np.zeros((size_out, size_in))
  for tap in range(-1, 3):
    source = left + tap
    distance = np.abs(centers - source)
    value = np.where(
        distance <= 1,
        (1.25 * distance - 2.25) * distance**2 + 1,
        -0.75 * (((distance - 5) * distance + 8) * distance - 4),
    )
    # Several taps may be clamped to the same edge: their weights add up.
    np.add.at(
        weights,
        (np.arange(size_out), np.clip(source, 0, size_in - 1)),
        value,
    )
  return weights.astype(np.float32)


def bilinear_antialias(size_in: int, size_out: int) -> np.ndarray:
  """Weights (out, in) of torch's bilinear with antialias=True."""
  width = max(size_in / size_out, 1.0)
  distance = _centers(size_in, size_out)[:, None] - np.arange(size_in)
  weights = np.maximum(1 - np.abs(distance) / width, 0)
  return (weights / weights.sum(1, keepdims=True)).astype(np.float32)


METHODS = {"bicubic": bicubic, "bilinear_antialias": bilinear_antialias}


def resize(grid_hwD: jax.Array, shape: tuple[int, int], method: str):
  """(h, w, D) -> (*shape, D) in float32; exact where the shape is the same."""
  if grid_hwD.shape[:2] == tuple(shape):
    return grid_hwD
  rows, columns = (
      METHODS[method](*sizes) for sizes in zip(grid_hwD.shape[:2], shape)
  )
  # Exact products: the default on TPUs would round positions to bfloat16.
  return jnp.einsum(
      "yh,xw,hwD->yxD", rows, columns, grid_hwD.astype(jnp.float32),
      precision=jax.lax.Precision.HIGHEST,
  )
