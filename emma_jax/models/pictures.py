"""Pictures of several groups in one list, and how many are encoded at once.

Axes as in `structs`: B rows, n pictures of a row and group, P all pictures.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from emma_jax.models import partition
from emma_jax.structs import Array

# Pixels that the autoencoder encodes at once on a device: in bfloat16 one array
# of its first stage is half a gigabyte then.
MAX_PIXELS = 2**21


def num_chunks(pictures: int, pixels: int) -> int:
  """The fewest equal chunks of which no device encodes more than `MAX_PIXELS`.

  >>> num_chunks(9, 1024**2), num_chunks(32, 512**2), num_chunks(8, 96**2)
  (9, 4, 1)
  """
  return next(
    n
    for n in range(1, pictures + 1)
    if pictures % n == 0
    and (pictures // n * pixels <= MAX_PIXELS or n == pictures)
  )


def concat_groups(groups: Sequence[Array]) -> jax.Array:
  """Pictures (B, n, ...) of several groups in one list (P, ...)."""

  def join(*parts):
    return jnp.concatenate([g.reshape(-1, *g.shape[2:]) for g in parts])

  return partition.per_shard(join, *groups)


def split_groups(x_PTC: jax.Array, groups: Sequence[Array]) -> list:
  """Undoes `concat_groups` for what was made of the list; None: no pictures."""

  def part(x_PTC, *groups):
    out, start = [], 0
    for g in groups:
      n = g.shape[0] * g.shape[1]
      x = x_PTC[start : start + n].reshape(*g.shape[:2], *x_PTC.shape[1:])
      out.append(x if n else None)
      start += n
    return out

  return partition.per_shard(part, x_PTC, *groups)
