"""Weights from one dtype to another, where nothing is lost in silence.

Rounding is what a cast is for. What is no rounding is an error: a value that
is not finite, before or after; an integer where a weight belongs; an array
most of which lies below the new dtype's smallest number. Single small values
that become 0 are counted. And where weights were learned, long runs of zeros
are what a download left out.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np

# Elements looked at in one go: less memory than the array again.
_CHUNK = 1 << 20


class BadValues(ValueError):
  """An array that holds what is no weight, or that a dtype cannot hold."""


def is_floating(dtype: Any) -> bool:
  """Whether a dtype holds fractions; bfloat16 does, though numpy's kinds say
  otherwise."""
  return bool(jnp.issubdtype(dtype, jnp.floating))


def is_finite(x: np.ndarray) -> bool:
  """Whether no element is NaN or infinite."""
  return not_finite(x, 1)[0] == 0


def not_finite(x: np.ndarray, most: int | None = None) -> tuple[int, int]:
  """(how many elements are NaN or infinite, flat place of the first).

  Args:
    x: any array; what is no floating number is finite.
    most: stop once so many are found.
  """
  x = np.asarray(x)
  if not is_floating(x.dtype):
    return 0, -1
  flat = x.reshape(-1)  # a copy only of what is not contiguous
  count, first = 0, -1
  for start in range(0, flat.size, _CHUNK):
    bad = _bad(flat[start : start + _CHUNK])
    here = int(np.count_nonzero(bad))
    if here and not count:
      first = start + int(bad.argmax())
    count += here
    if most is not None and count >= most:
      break
  return count, first


def _bad(x: np.ndarray) -> np.ndarray:
  if x.dtype == jnp.bfloat16:  # by its bits: ten times as fast
    return (x.view(np.uint16) & 0x7F80) == 0x7F80
  return ~np.isfinite(x)


def check_finite(name: str, x: np.ndarray, remedy: str) -> None:
  """Raises BadValues, with the first place, unless all of x is finite."""
  count, first = not_finite(x)
  if count:
    x = np.asarray(x)
    place = [int(i) for i in np.unravel_index(first, x.shape)]
    value = float(x[tuple(place)])
    raise BadValues(
      f"{name}: {count:,} of {x.size:,} values are not finite, the first is"
      f" {value} at {place}; {remedy}."
    )


def check_filled(name: str, x: np.ndarray, remedy: str) -> None:
  """Raises BadValues where a matrix, or a million values of it, is all 0.

  Downloads write into files of the full size, piece by piece, and so do disks
  that fail: what never came is zeros, in a file whose header is whole. Vectors
  are left alone, as biases may be 0.
  """
  x = np.asarray(x)
  if x.ndim < 2:
    return
  flat = x.reshape(-1)
  length = min(_CHUNK, flat.size)
  for start in range(0, flat.size - length + 1, length) if length else ():
    if not flat[start] and not flat[start : start + length].any():
      place = [int(i) for i in np.unravel_index(start, x.shape)]
      raise BadValues(
        f"{name}: {length:,} of {x.size:,} values are 0, from {place} on, as in"
        f" a download that was not finished; {remedy}."
      )


def cast(
  name: str, x: np.ndarray, dtype: Any, remedy: str
) -> tuple[np.ndarray, int]:
  """(x in a floating dtype, how many small values became 0).

  Args:
    name: for errors.
    x: floating, finite.
    dtype: what it becomes.
    remedy: what to do where it cannot; ends the error's sentence.

  Raises:
    BadValues: a value beyond the dtype's largest, or most of the array below
      its smallest: the cast changes it, in norm, by more than the dtype's eps.
  """
  x, dtype = np.asarray(x), jnp.dtype(dtype)
  if x.dtype == dtype:
    return x, 0
  with np.errstate(over="ignore", under="ignore"):  # told by name instead
    out = x.astype(dtype)
  count, first = not_finite(out, 1)
  if count:
    value = float(x.reshape(-1)[first])
    raise BadValues(f"{name}: {dtype.name} cannot hold {value:g}; {remedy}.")
  if jnp.finfo(dtype).minexp <= jnp.finfo(x.dtype).minexp:
    return out, 0  # the exponents reach as far down
  zeros, off = _lost(x, out)
  # Normal numbers are rounded by half of eps at most, subnormal ones by more.
  if off > float(jnp.finfo(dtype).eps):
    raise BadValues(
      f"{name}: {dtype.name} would change it by {off:.2g} of its norm and"
      f" make {zeros:,} of {x.size:,} values 0, as they are below"
      f" {float(jnp.finfo(dtype).smallest_subnormal):.2g}; {remedy}."
    )
  return out, zeros


def _lost(x: np.ndarray, out: np.ndarray) -> tuple[int, float]:
  """(values that became 0, norm of the change over the norm of x)."""
  x, out = x.reshape(-1), out.reshape(-1)
  zeros, change, whole = 0, 0.0, 0.0
  for start in range(0, x.size, _CHUNK):
    # Squares of the smallest float32 are far above float64's smallest.
    a = x[start : start + _CHUNK].astype(np.float64)
    b = out[start : start + _CHUNK].astype(np.float64)
    zeros += int(np.count_nonzero((a != 0) & (b == 0)))
    change += float(np.square(a - b).sum())
    whole += float(np.square(a).sum())
  return zeros, (change / whole) ** 0.5 if whole else 0.0
