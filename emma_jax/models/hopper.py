"""What kernels for Hopper GPUs are made of (Pallas, Mosaic GPU).

A block has three warpgroups. The last one only copies tiles from the GPU's
memory to the block's, `STAGES` ahead; the first two multiply, each for its half
of the block's tile. Two barriers a stage keep them in step: "full" says that a
tile has come, "free" that both have done with it.
"""

from collections.abc import Callable
from typing import Any

from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu
import jax.numpy as jnp

STAGES = 2
LANES = 64  # 16-bit numbers in a row of swizzled memory
HALF = 64  # rows that one of the two warpgroups multiplies
GROUP = "warpgroup"


def tiles(count: int, size: int, width: int, dtype) -> Any:
  """Tiles that tensor cores can read, as they want them laid out."""
  return plgpu.SMEM(
    (count, size, width),
    dtype,
    transforms=(
      plgpu.TilingTransform((8, LANES)),
      plgpu.SwizzleTransform(2 * LANES),
    ),
  )


def vectors(count: int, size: int) -> Any:
  """Float32 numbers, one a row or column of a tile."""
  return plgpu.SMEM((count, size), jnp.float32)


def multiplying(group) -> Callable:
  """Runs the decorated function on the first two warpgroups."""

  def run(body: Callable) -> None:
    @pl.when(group < 2)
    def _():
      plgpu.set_max_registers(232, action="increase")
      body()

  return run


def copying(group) -> Callable:
  """Runs the decorated function on the last one, which needs few registers."""

  def run(body: Callable) -> None:
    @pl.when(group == 2)
    def _():
      plgpu.set_max_registers(40, action="decrease")
      body()

  return run


def fetch(barrier, *copies) -> None:
  """Copies to the block's memory, and waits until all have come."""
  for source, place in copies:
    plgpu.copy_gmem_to_smem(source, place, barrier)
  plgpu.barrier_wait(barrier)


def store(*copies) -> None:
  """Copies to the GPU's memory what was written to the block's."""
  plgpu.commit_smem()
  for source, place in copies:
    plgpu.copy_smem_to_gmem(source, place)
  plgpu.wait_smem_to_gmem(0)


def feed(
  full,
  free,
  first,
  total,
  place: Callable,
  size: int,
  sources: Callable,
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


def drain(free, total) -> None:
  """Waits until the last of all tiles are done with."""

  @pl.loop(jnp.maximum(total - STAGES, 0), total)
  def _(n):
    plgpu.barrier_wait(free.at[lax.rem(n, STAGES)])


def visit(full, free, first, whole, total, step: Callable, carry):
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


def along(axis: int, x, shape):
  """A vector along one axis of a matrix, the same along the other."""
  return lax.broadcast_in_dim(x, shape, (axis,))


class TensorCores:
  """Products of tensor cores, and registers as these lay them out."""

  @staticmethod
  def product(a, b, turned: bool = False):
    """a @ b of tiles, or a @ b.T, float32."""
    b = b.transpose((1, 0)) if turned else b

    def run(sums):
      plgpu.wgmma(sums, a, b)
      return sums[...]

    return pl.run_scoped(run, plgpu.ACC((a.shape[0], b.shape[1]), jnp.float32))

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
    """Float32 (HALF,) of one value, laid out as a row's sum is."""
    return plgpu.layout_cast(
      jnp.full((HALF,), value, jnp.float32), plgpu.Layout.WGMMA.reduce(1)
    )

  @staticmethod
  def zeros(width: int):
    """Float32 (HALF, width), laid out as a product's sums are."""
    return plgpu.layout_cast(
      jnp.zeros((HALF, width), jnp.float32), plgpu.Layout.WGMMA
    )


class Interpreted:
  """The same in plain JAX: Pallas' interpreter lacks some of it."""

  @staticmethod
  def product(a, b, turned: bool = False):
    """a @ b, or a @ b.T, float32."""
    b = b[...].T if turned else b[...]
    return jnp.dot(a[...], b, preferred_element_type=jnp.float32)

  @classmethod
  def add_product(cls, sums, a, b):
    """sums + a @ b."""
    return sums + cls.product(a, b)

  @staticmethod
  def load(ref, axis: int):
    """The vector itself: here nothing depends on the axis it lies along."""
    del axis
    return ref[...]

  @staticmethod
  def vector(value: float):
    """Float32 (HALF,) of one value."""
    return jnp.full((HALF,), value, jnp.float32)

  @staticmethod
  def zeros(width: int):
    """Float32 (HALF, width)."""
    return jnp.zeros((HALF, width), jnp.float32)
