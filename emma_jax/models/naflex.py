"""SigLIP2 at native resolution: pictures of any sizes packed in one sequence.

    slot      0   1   2   3   4   5   6   7   8   9
    picture   0   0   0   0   0   0   1   1  -1  -1      grids (2, 3), (1, 2)
    cell     00  01  02  10  11  12  00  01
    sees     [------ 0 ---------- ]  [- 1 -]  (padding sees nothing)

The number of slots is static; the pictures' sizes are data, so one compiled
program serves every mixture of sizes. One picture per row is transformers'
padded layout (`Siglip2VisionModel`: pixel_values, spatial_shapes).

Axes: B rows, N pictures of a row, W slots, S keys, D width, C channels of a
patch, h and w rows and columns of patches, Y and X pixel rows and columns.
"""

from collections.abc import Sequence
import math
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from emma_jax.models import siglip2, siglip2_vision


class Slots(NamedTuple):
  """What the slots of packed rows hold.

  picture_BW: which picture of the row; -1 is padding.
  cell_BW2: (row, column) of the patch in its picture; (0, 0) in padding.
  grid_BW2: (rows, columns) of that picture, at least 1.
  """

  picture_BW: jax.Array
  cell_BW2: jax.Array
  grid_BW2: jax.Array


def slots(grids_BN2: jax.Array, length: int) -> Slots:
  """Lays pictures out one after the other, row-major, in `length` slots.

  Args:
    grids_BN2: int32 (rows, columns) of patches; (0, 0) is no picture. Patches
      beyond `length` are left out: `pack` refuses them beforehand, where the
      sizes are still known.
    length: number of slots.
  """
  grids_BN2 = jnp.asarray(grids_BN2, jnp.int32)
  count_BN = grids_BN2[..., 0] * grids_BN2[..., 1]
  end_BN = jnp.cumsum(count_BN, axis=1)
  slot_1W = jnp.arange(length, dtype=jnp.int32)[None]
  # As many pictures lie before a slot as end at or before it.
  ended_BWN = end_BN[:, None, :] <= slot_1W[..., None]
  picture_BW = jnp.sum(ended_BWN, axis=-1, dtype=jnp.int32)
  used_BW = picture_BW < grids_BN2.shape[1]
  own_BW = jnp.where(used_BW, picture_BW, 0)
  start_BW = jnp.take_along_axis(end_BN - count_BN, own_BW, axis=1)
  patch_BW = jnp.where(used_BW, slot_1W - start_BW, 0)
  grid_BW2 = jnp.take_along_axis(grids_BN2, own_BW[..., None], axis=1)
  grid_BW2 = jnp.maximum(grid_BW2, 1)
  columns_BW = grid_BW2[..., 1]
  cell_BW2 = jnp.stack([patch_BW // columns_BW, patch_BW % columns_BW], -1)
  return Slots(jnp.where(used_BW, picture_BW, -1), cell_BW2, grid_BW2)


class PackedVision(nn.Module):
  """`siglip2_vision.SiglipVision` on packed pictures; the same parameters.

  Positions are interpolated per picture in the way of the family, attention
  stays inside a picture, and every picture is pooled on its own.
  """

  config: siglip2_vision.SiglipVisionConfig

  @nn.compact
  def __call__(
    self,
    patches_BWC: jax.Array,
    grids_BN2: jax.Array,
    hidden_states: bool = True,
  ) -> siglip2_vision.VisionOutput:
    """Features of every slot and picture; padding holds finite garbage.

    Args:
      patches_BWC: what `pack` (or transformers' processor) returns: pixels in
        [-1, 1], in a patch (row, column, channel), channel fastest.
      grids_BN2: int32 (rows, columns) of patches of each picture.
      hidden_states: whether to return them.

    Returns:
      patches (B, W, D), pooled (B, N, D) with zeros where there is no picture,
      states (Z, B, W, D), of the embeddings and of every layer.
    """
    c = self.config.encoder
    grids_BN2 = jnp.asarray(grids_BN2, jnp.int32)
    picture_BW, cell_BW2, grid_BW2 = slots(grids_BN2, patches_BWC.shape[1])
    embed = siglip2.Embed(c, name="embed")
    x_BWD = embed.packed(patches_BWC, cell_BW2, grid_BW2)
    x_BWD, states = siglip2.trunk(c, x_BWD, picture_BW + 1, hidden_states)
    if not self.config.pool_head:
      return siglip2_vision.VisionOutput(x_BWD, None, states)
    names_1N1 = jnp.arange(grids_BN2.shape[1], dtype=jnp.int32)[None, :, None]
    member_BNW = picture_BW[:, None, :] == names_1N1
    pooled_BND = siglip2_vision.PoolingHead(c, name="head")(x_BWD, member_BNW)
    exists_BN1 = jnp.any(member_BNW, axis=-1, keepdims=True)
    pooled_BND = jnp.where(exists_BN1, pooled_BND, 0)
    return siglip2_vision.VisionOutput(x_BWD, pooled_BND, states)


def pack(
  pictures: Sequence[np.ndarray], patch_size: int, length: int, most: int
) -> tuple[np.ndarray, np.ndarray]:
  """One row of `PackedVision`'s input: (patches (W, C), grids (N, 2) int32).

  Args:
    pictures: (Y, X, C) in [-1, 1]; what exceeds whole patches is dropped.
    patch_size: side of a patch in pixels.
    length: number of slots W; the rest of them is zero.
    most: number of pictures N; the rest of them has the grid (0, 0).

  Raises:
    ValueError: no pictures, too many of them, or too many patches.
  """
  if not 0 < len(pictures) <= most:
    raise ValueError(
      f"{len(pictures)} pictures for a row of 1 to {most}; split them over"
      " rows or raise `most`."
    )
  cut = [np.asarray(siglip2.patches(x[None], patch_size))[0] for x in pictures]
  grids_N2 = np.zeros((most, 2), np.int32)
  grids_N2[: len(cut)] = [x.shape[:2] for x in cut]
  used = int(grids_N2.prod(axis=1).sum())
  if used > length:
    raise ValueError(
      f"Pictures of {grids_N2[: len(cut)].tolist()} patches need {used}"
      f" slots, the row has {length}; make them smaller (`fit`) or split"
      " them over rows."
    )
  patches_WC = np.zeros((length, cut[0].shape[-1]), cut[0].dtype)
  patches_WC[:used] = np.concatenate([x.reshape(-1, x.shape[-1]) for x in cut])
  return patches_WC, grids_N2


def unpack(x_WD: np.ndarray, grids_N2: np.ndarray) -> list[np.ndarray]:
  """The features (h, w, D) of every picture of one row; undoes `pack`."""
  pictures, start = [], 0
  for h, w in np.asarray(grids_N2).tolist():
    if h * w:
      pictures.append(x_WD[start : start + h * w].reshape(h, w, -1))
    start += h * w
  return pictures


def fit(
  height: int, width: int, patch_size: int, max_patches: int
) -> tuple[int, int]:
  """The pixel size to which NaFlex resizes a picture: (height, width).

  The largest with sides of whole patches, at most `max_patches` of them, and
  about the picture's aspect ratio. The binary search of the reference, with
  its bounds and steps: solving exactly rounds some sizes differently.

  >>> fit(480, 640, patch_size=16, max_patches=256)
  (224, 288)
  """

  def scaled(scale: float, size: int) -> int:
    return max(patch_size, math.ceil(size * scale / patch_size) * patch_size)

  step = 1e-5
  small, large = step / 10, 100.0
  while large - small >= step:
    middle = (small + large) / 2
    sides = scaled(middle, height), scaled(middle, width)
    if sides[0] * sides[1] <= max_patches * patch_size**2:
      small = middle
    else:
      large = middle
  return scaled(small, height), scaled(small, width)
