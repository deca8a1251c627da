"""Pictures of any sizes as the patches of one static row, and back.

A picture of 64 x 32 pixels has two cells of 32 x 32; its eight patches of 16 x
16 pixels stand cell by cell:

  patch   0   1   2   3   4   5   6   7
  cell   00  01  10  11  20  21  30  31     (row, column) of patches

so that the four patches of a token are neighbours.
"""

import einops
import numpy as np

from emma_jax.data.batching.row_layout import PATCHES_PER_CELL, Layout
from emma_jax.data.pictures.images import GRID
from emma_jax.data.transforms import Picture
from emma_jax.structs import Latents, Patches

_SIDE = GRID // 2  # pixels of a patch


def empty(rows: int, pictures: int, patches: int) -> Patches:
  """Rows without a picture; arrays to be filled by `put`."""
  return Patches(
    values_BWC=np.zeros((rows, patches, _SIDE * _SIDE * 3), np.uint8),
    picture_BW=np.zeros((rows, patches), np.int32),
    cell_BW2=np.zeros((rows, patches, 2), np.int32),
    grid_BN2=np.zeros((rows, pictures, 2), np.int32),
  )


def put(
  out: Patches, pixels_YXC: np.ndarray, row: int, picture: int, cell: int
) -> None:
  """Writes a picture into a row, from its place `cell` in cells on."""
  Y, X, _ = pixels_YXC.shape
  h, w = Y // GRID, X // GRID
  here = slice(PATCHES_PER_CELL * cell, PATCHES_PER_CELL * (cell + h * w))
  out.values_BWC[row, here] = einops.rearrange(
    pixels_YXC,
    "(h i y) (w j x) C -> (h w i j) (y x C)",
    i=2,
    j=2,
    y=_SIDE,
    x=_SIDE,
  )
  out.picture_BW[row, here] = picture + 1
  out.cell_BW2[row, here] = einops.rearrange(
    np.indices((2 * h, 2 * w), np.int32),
    "place (h i) (w j) -> (h w i j) place",
    i=2,
    j=2,
  )
  out.grid_BN2[row, picture] = 2 * h, 2 * w


def pictures(packed: Patches, row: int) -> list[np.ndarray]:
  """The pictures (Y, X, 3) of a row, in their order; undoes `put`."""
  out = []
  for n, (h, w) in enumerate(np.asarray(packed.grid_BN2)[row].tolist()):
    here = np.asarray(packed.picture_BW)[row] == n + 1
    pixels = np.zeros((h, w, _SIDE, _SIDE, 3), np.uint8)
    at = np.asarray(packed.cell_BW2)[row, here]
    pixels[at[:, 0], at[:, 1]] = np.asarray(packed.values_BWC)[
      row, here
    ].reshape(-1, _SIDE, _SIDE, 3)
    out.append(einops.rearrange(pixels, "h w y x C -> (h y) (w x) C"))
  return out


def no_latents(layout: Layout) -> Latents | None:
  """Zeros in which the pictures' latents are put; None: there are none."""
  B, C = layout.rows, layout.latent_channels
  if not C:
    return None

  def room(count: int) -> np.ndarray | None:
    shape = (B, count, layout.tokens_per_picture, C)
    return np.zeros(shape, np.float32) if count else None

  native = layout.und_patches // PATCHES_PER_CELL
  return Latents(
    und_BNTC=None if native else room(layout.und_pictures),
    ref_BRTC=room(layout.references),
    gen_BMTC=room(layout.targets),
    native_BJC=np.zeros((B, native, C), np.float32) if native else None,
  )


def put_latent(
  out: Latents, part: Picture, row: int, picture: int, cell: int
) -> None:
  """Writes a picture's latents; the numbers are those of `put`."""
  latent_TC = part.latent_TC
  assert latent_TC is not None  # Layout.too_large_reason has looked
  if part.role == "und" and out.native_BJC is not None:
    out.native_BJC[row, cell : cell + len(latent_TC)] = latent_TC
    return
  of_role = {"und": out.und_BNTC, "ref": out.ref_BRTC, "target": out.gen_BMTC}
  room = of_role[part.role]
  assert room is not None  # what has room in a row has room here
  room[row, picture] = latent_TC
