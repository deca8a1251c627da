"""Pictures of any sizes to normalised latents, a size at a time."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from emma_jax import programs
from emma_jax.models.emma import PIXELS_PER_TOKEN, Emma
from emma_jax.sampling.placement import Placement


@programs.kept("emma")
def encode(emma: Emma, autoencoder: dict, pixels_PYXC: jax.Array) -> jax.Array:
  """uint8 pictures of one size -> (P, h, w, C); `autoencoder`: its weights."""
  z_PTC: Any = emma.apply(
    {"params": {"autoencoder": autoencoder}},
    pixels_PYXC,
    method=Emma.encode_latents,
  )
  grid = (n // PIXELS_PER_TOKEN for n in pixels_PYXC.shape[1:3])
  return z_PTC.reshape(z_PTC.shape[0], *grid, z_PTC.shape[-1])


def chunks(sizes: Sequence[tuple[int, int]], pixels: int) -> list[list[int]]:
  """Which pictures are encoded together: those of one size.

  As many at once as have `pixels` pixels, and the rest of a size one by one: a
  program for every remainder would take longer to compile than to run, so no
  size has more than two.

  >>> chunks([(1, 2), (2, 2), (1, 2), (1, 2)], 4)
  [[0, 2], [3], [1]]
  """
  groups: dict[tuple[int, int], list[int]] = {}
  for i, (y, x) in enumerate(sizes):
    groups.setdefault((y, x), []).append(i)
  out = []
  for (y, x), members in groups.items():
    count = max(1, pixels // (y * x))
    whole = len(members) // count * count
    out += [members[i : i + count] for i in range(0, whole, count)]
    out += [[i] for i in members[whole:]]
  return out


def encode_all(
  emma: Emma,
  autoencoder: dict,
  pictures: Sequence[np.ndarray],
  pixels: int,
  place: Placement,
) -> list[np.ndarray]:
  """Latents (h, w, C), float32, of uint8 pictures (Y, X, 3).

  Of `pixels` pixels at once, see `chunks`; the devices of `place` take equally
  many pictures each, if need be the last one again.
  """
  out: dict[int, np.ndarray] = {}
  for members in chunks([p.shape[:2] for p in pictures], pixels):
    more = members[-1:] * (place.whole_rows(len(members)) - len(members))
    stacked = np.stack([pictures[i] for i in (*members, *more)])
    with place.program():
      made = encode(emma, autoencoder, place.rows(stacked))
    for i, latent in zip(members, place.host(made).astype(np.float32)):
      out[i] = latent
  return [out[i] for i in range(len(pictures))]
