"""Small pictures that decide whether two that hash alike show the same.

A hash says where a picture is brighter than beside it, and roughly in which
colours: a thing more or less, or in another colour, changes few of its bits or
none. A thumbnail of SIDE x SIDE cells still shows it.
"""

import numpy as np
from PIL import Image

SIDE = 24
# Levels of 255 by which a cell may leave what is around its place in the other
# picture. What encoders and scalers do is less for nine of ten pictures of the
# world, and for all photographs; another shape of a thing of three cells, and
# another colour of one of a cell, is beyond 65.
TOLERANCE = 24


def thumbnail(picture_YXC: np.ndarray) -> np.ndarray:
  """uint8 (SIDE, SIDE, 3): the means of cells, whatever the aspect ratio."""
  image = Image.fromarray(picture_YXC)
  return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BOX))


def apart(one_SSC: np.ndarray, many_BSSC: np.ndarray) -> np.ndarray:
  """Levels (B,) by which thumbnails differ from one, where most.

  A cell is compared with the range of values within half a cell around
  its place in the other, both ways: what is cut off a border moves the rest by
  as much, and that is no difference.
  """
  one = _STEPS * one_SSC[None].astype(np.int16)
  many = _STEPS * many_BSSC.astype(np.int16)
  return np.maximum(_outside(one, many), _outside(many, one)) / _STEPS


# Of a level: halves of the way to a neighbour, on two axes, are whole.
_STEPS = 4


def _outside(inner_BSSC: np.ndarray, outer_BSSC: np.ndarray) -> np.ndarray:
  low, high = outer_BSSC, outer_BSSC
  for axis in (1, 2):
    low = _of_three(low, axis, np.minimum)
    high = _of_three(high, axis, np.maximum)
  beyond = np.maximum(inner_BSSC - high, low - inner_BSSC)
  return beyond.max(axis=(1, 2, 3), initial=0)


def _of_three(x: np.ndarray, axis: int, pick: np.ufunc) -> np.ndarray:
  """The least or greatest from each cell half the way to its neighbours
  on an axis."""
  before = np.roll(x, 1, axis)
  after = np.roll(x, -1, axis)
  # At a border there is one neighbour; what comes round does not count.
  edge = [slice(None)] * x.ndim
  edge[axis] = slice(0, 1)
  before[tuple(edge)] = x[tuple(edge)]
  edge[axis] = slice(-1, None)
  after[tuple(edge)] = x[tuple(edge)]
  return pick(pick((x + before) // 2, x), (x + after) // 2)
