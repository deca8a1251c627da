"""Reads a picture back: pixels -> Scene.

The background is what the border shows; a cell whose pixels differ from it
enough holds a thing; the thing's colour is the median of its core; its shape
and size are those of the best fitting coverage mask at small shifts. Meant for
pictures that come through an autoencoder or a sampler: blurred, noisy, a pixel
or two out of place. What fits nothing is named `UNKNOWN`, so that a strict
score can't be met by rubble.
"""

import functools

import einops
import numpy as np

from emma_jax.world.render import coverage
from emma_jax.world.scene import (
  BACKGROUND_RGB,
  CELL,
  RGB,
  SHAPES,
  SIZES,
  UNKNOWN,
  Scene,
  Thing,
  corner,
  grid,
)

# A pixel is foreground where it's this far (RGB distance) from the background.
# Colours differ from every background by 153 or more.
FOREGROUND = 60.0
# Less foreground than this in a cell, in pixels, is a speck; the smallest thing
# covers 153.
SPECK = 40
# The nearest name wins, but a colour farther than this from all has none.
COLOUR_REACH = 80.0
BACKGROUND_REACH = 45.0
# Least overlap (soft Dice) with a mask; blurred truth stays above 0.9.
OVERLAP = 0.75


@functools.cache
def _templates() -> tuple[np.ndarray, np.ndarray, list[tuple[str, str]]]:
  """Masks (P, CELL * CELL) at whole shifts up to 3 px, their squares, names."""
  shifts = [(y, x) for y in range(-6, 7, 2) for x in range(-6, 7, 2)]
  names = [(shape, size) for shape in SHAPES for size in SIZES for _ in shifts]
  masks = [
    coverage(shape, size, shift).ravel()
    for shape in SHAPES
    for size in SIZES
    for shift in shifts
  ]
  masks_PL = np.stack(masks)
  return masks_PL, (masks_PL**2).sum(1), names


def _nearest(colour: np.ndarray, names: dict, reach: float) -> str:
  """The name nearest to an RGB colour, UNKNOWN beyond `reach`."""
  palette = np.array(list(names.values()), np.float32)
  distance = np.sqrt(((palette - colour) ** 2).sum(1))
  best = int(distance.argmin())
  return list(names)[best] if distance[best] <= reach else UNKNOWN


def _median(pixels_LC: np.ndarray) -> np.ndarray:
  """Per-channel median (of three sorts; np.median costs several times that)."""
  return np.sort(pixels_LC, axis=0)[len(pixels_LC) // 2].astype(np.float32)


def _border(picture_YXC: np.ndarray) -> np.ndarray:
  """The two outermost rings as (L, 3): things hardly reach there."""
  inner = picture_YXC[2:-2]
  sides = np.concatenate([inner[:, :2], inner[:, -2:]], 1)
  ends = np.concatenate([picture_YXC[:2], picture_YXC[-2:]], 0)
  return np.concatenate([sides.reshape(-1, 3), ends.reshape(-1, 3)])


def _area(difference_hwLC: np.ndarray) -> np.ndarray:
  """(h, w) foreground pixels of each cell, by 2x2 means: noise halves."""
  half = CELL // 2
  rows, columns = difference_hwLC.shape[:2]
  pooled = difference_hwLC.reshape(rows, columns, half, 2, half, 2, 3)
  pooled = pooled.mean((3, 5))
  return 4 * ((pooled**2).sum(-1) > FOREGROUND**2).sum((2, 3))


def _thing(pixels_LC, ground_C, distance_L, cell: tuple[int, int]) -> Thing:
  """Names what a cell with foreground holds."""
  # The core, not the blended edge, has the thing's colour.
  strong = np.partition(distance_L, -30)[-30]
  colour = _median(pixels_LC[distance_L >= 0.8 * strong])
  ink = colour - ground_C
  power = max(float(ink @ ink), 1.0)  # pure noise may have no colour at all
  covered_L = np.clip((pixels_LC - ground_C) @ ink / power, 0, 1)
  masks_PL, square_P, names = _templates()
  # Not `@`: BLAS threads cost 20 times the product where cores are busy.
  common_P = np.einsum("PL,L->P", masks_PL, covered_L)
  overlap_P = 2 * common_P / (square_P + covered_L @ covered_L)
  best = int(overlap_P.argmax())
  shape, size = names[best]
  if overlap_P[best] < OVERLAP:
    shape = UNKNOWN
  colour_name = _nearest(colour, RGB, COLOUR_REACH)
  return Thing(shape=shape, colour=colour_name, size=size, cell=cell)


def read(picture_YXC: np.ndarray) -> Scene:
  """(Y, X, 3) uint8 -> the scene it shows on a canvas of that size, jitter
  left out.

  Raises ValueError where a side is too short for a canvas of the world.
  """
  y, x, channels = picture_YXC.shape
  canvas = (y, x)
  if channels != 3:
    raise ValueError(f"A picture of shape {picture_YXC.shape} is not RGB.")
  rows, columns = grid(canvas)
  ground_C = _median(_border(picture_YXC))
  background = _nearest(ground_C, BACKGROUND_RGB, BACKGROUND_REACH)
  top, left = corner((0, 0), canvas)
  inner_YXC = picture_YXC[top : top + rows * CELL, left : left + columns * CELL]
  pixels_hwLC = einops.rearrange(
    inner_YXC, "(h y) (w x) C -> h w (y x) C", y=CELL, x=CELL
  ).astype(np.float32)
  distance_hwL = np.sqrt(((pixels_hwLC - ground_C) ** 2).sum(-1))
  area_hw = _area(pixels_hwLC - ground_C)
  things = []
  for row, column in zip(*np.nonzero(area_hw >= SPECK)):
    things.append(
      _thing(
        pixels_hwLC[row, column],
        ground_C,
        distance_hwL[row, column],
        (int(row), int(column)),
      )
    )
  return Scene(tuple(things), background, canvas)
