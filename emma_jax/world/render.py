"""Data -> pixels: anti-aliased renders of everything in `scene`.

Coverage (the share of a pixel that a shape covers) is counted on a grid of
SUB x SUB points a pixel, cached, and blended: there are few distinct masks.
"""

import functools

import numpy as np

from emma_jax.world.scene import (
  BACKGROUND_RGB,
  CANVAS,
  CELL,
  RADIUS,
  RGB,
  Canvas,
  Chart,
  Digit,
  Picture,
  Polygon,
  Scene,
  Sum,
  corner,
  grid,
)

SUB = 4

# Segments of a glyph, as in a seven-segment display:  0
#                                                     5 1
#                                                      6
#                                                     4 2
#                                                      3
_SEGMENTS: dict[int | str, str] = {
  0: "012345",
  1: "12",
  2: "01643",
  3: "01623",
  4: "5612",
  5: "05623",
  6: "056234",
  7: "012",
  8: "0123456",
  9: "056123",
}


def _regular(corners: int, radii: tuple[float, ...], turn: float = 0.0):
  """(L, 2) vertices (y, x) around the origin, the first one straight up."""
  angle_L = 2 * np.pi * np.arange(corners) / corners + turn
  radius_L = np.resize(radii, corners)
  return np.stack([-radius_L * np.cos(angle_L), radius_L * np.sin(angle_L)], 1)


# Outlines for radius 1, (y, x); none reaches beyond 1.15, so that the largest
# thing with the largest jitter stays inside its cell: 13 * 1.15 + 1 < 16.
_ARM = 0.36
_OUTLINES = {
  "square": np.array([(-1, -1), (-1, 1), (1, 1), (1, -1)]) * 0.87,
  # Moved down so that its box, not its centre of mass, is centred.
  "triangle": _regular(3, (1.25,)) + np.array([0.24, 0.0]),
  "star": _regular(10, (1.15, 0.5)),
  "cross": np.array(
    [
      (-1, -_ARM),
      (-1, _ARM),
      (-_ARM, _ARM),
      (-_ARM, 1),
      (_ARM, 1),
      (_ARM, _ARM),
      (1, _ARM),
      (1, -_ARM),
      (_ARM, -_ARM),
      (_ARM, -1),
      (-_ARM, -1),
      (-_ARM, -_ARM),
    ]
  ),
  "diamond": np.array([(-1.15, 0), (0, 0.85), (1.15, 0), (0, -0.85)]),
}


def _inside(outline_L2: np.ndarray, y: np.ndarray, x: np.ndarray):
  """Which points lie inside a simple polygon: the even-odd rule."""
  inside = np.zeros(np.broadcast_shapes(y.shape, x.shape), bool)
  for (y0, x0), (y1, x1) in zip(outline_L2, np.roll(outline_L2, -1, 0)):
    if y0 == y1:
      continue  # a level edge crosses no level ray
    crosses = (y0 > y) != (y1 > y)
    inside ^= crosses & (x < x0 + (y - y0) * (x1 - x0) / (y1 - y0))
  return inside


def _points(length: int) -> np.ndarray:
  """Sub-pixel centres along one axis, measured from the middle."""
  return (np.arange(length * SUB) + 0.5) / SUB - length / 2


def _pool(inside: np.ndarray) -> np.ndarray:
  """Points -> read-only float32 coverage of pixels."""
  y, x = inside.shape
  coverage = inside.reshape(y // SUB, SUB, x // SUB, SUB).mean((1, 3))
  coverage = coverage.astype(np.float32)
  coverage.setflags(write=False)
  return coverage


@functools.cache
def coverage(shape: str, size: str, shift: tuple[int, int]) -> np.ndarray:
  """(CELL, CELL) float32 coverage of one thing; `shift` in half pixels."""
  y = (_points(CELL)[:, None] - shift[0] / 2) / RADIUS[size]
  x = (_points(CELL)[None, :] - shift[1] / 2) / RADIUS[size]
  if shape == "circle":
    return _pool(y**2 + x**2 <= 1)
  return _pool(_inside(_OUTLINES[shape], y, x))


@functools.lru_cache(maxsize=512)
def _polygon(sides: int, radius: float, turn: int, side: int) -> np.ndarray:
  """(side, side) float32 coverage of a large regular polygon."""
  # A square stands on a side, not on a corner.
  upright = np.pi / sides if sides % 2 == 0 else 0.0
  outline = _regular(sides, (radius,), upright + np.deg2rad(turn))
  y, x = _points(side)[:, None], _points(side)[None, :]
  return _pool(_inside(outline, y, x))


@functools.cache
def _glyph(glyph: int | str, height: int, width: int, pen: int) -> np.ndarray:
  """(height, width) float32 coverage of a digit or "+"."""
  mask = np.zeros((height, width), np.float32)
  if glyph == "+":
    middle, across = (height - pen) // 2, (width - pen) // 2
    mask[middle : middle + pen] = 1
    arm = (height - width) // 2
    mask[arm : height - arm, across : across + pen] = 1
    return mask
  half = (height + pen) // 2
  boxes = {
    "0": (slice(0, pen), slice(None)),
    "1": (slice(0, half), slice(-pen, None)),
    "2": (slice(height - half, None), slice(-pen, None)),
    "3": (slice(-pen, None), slice(None)),
    "4": (slice(height - half, None), slice(0, pen)),
    "5": (slice(0, half), slice(0, pen)),
    "6": (slice(half - pen, half), slice(None)),
  }
  for segment in _SEGMENTS[glyph]:
    mask[boxes[segment]] = 1
  return mask


def _canvas(background: str, canvas: Canvas) -> np.ndarray:
  grid(canvas)  # complains about one that is too small
  pixels_YXC = np.empty((*canvas, 3), np.uint8)
  pixels_YXC[:] = BACKGROUND_RGB[background]
  return pixels_YXC


def _blend(canvas, top: int, left: int, coverage_YX, colour: str, ground: str):
  """Paints `colour` over the plain `ground` at (top, left), in place."""
  base = np.array(BACKGROUND_RGB[ground], np.float32)
  ink = np.array(RGB[colour], np.float32)
  height, width = coverage_YX.shape
  patch = base + 0.5 + coverage_YX[..., None] * (ink - base)
  canvas[top : top + height, left : left + width] = patch


def _draw_chart(canvas: np.ndarray, chart: Chart) -> None:
  """Bars over a dark base line with unit marks.

  On a plain canvas they are 20 px wide and 15 px a unit; what five units and
  three bars need else follows from the sides.
  """
  y, x = chart.canvas
  base, unit, pitch = y - 8, (y - 21) // 5, x // 3
  width = pitch - 12
  for value in range(1, 6):
    # Thin marks behind the bars make the values countable.
    canvas[base - unit * value, 4 : x - 4] = canvas[0, 0] * 0.8
  for column, (colour, value) in enumerate(chart.bars):
    left = column * pitch + (pitch - width) // 2
    canvas[base - unit * value : base, left : left + width] = RGB[colour]
  canvas[base : base + 2, 4 : x - 4] = (60, 60, 60)


def _draw_sum(canvas: np.ndarray, picture: Sum) -> None:
  """Three glyphs, each in the middle of its third of the width."""
  y, x = picture.canvas
  for column, glyph in enumerate((picture.left, "+", picture.right)):
    size = (22, 22, 6) if glyph == "+" else (44, 24, 6)
    mask = _glyph(glyph, *_scaled(picture.canvas, size))
    top = (y - mask.shape[0]) // 2
    left = column * (x // 3) + (x // 3 - mask.shape[1]) // 2
    _blend(canvas, top, left, mask, picture.colour, picture.background)


def _scaled(canvas: Canvas, lengths: tuple[int, ...]) -> tuple[int, ...]:
  """Lengths on a plain canvas -> by the shorter side; heights, widths, pens
  stay even where they were, so that arms and middles stay in the middle."""
  side = min(canvas)
  return tuple(2 * round(n * side / CANVAS / 2) for n in lengths)


def render(picture: Picture) -> np.ndarray:
  """A scene, chart, digit, sum or polygon -> (*its canvas, 3) uint8.

  Things keep their size on every canvas; STEM pictures fill it.
  """
  ground = picture.background
  canvas = _canvas(ground, picture.canvas)
  y, x = picture.canvas
  match picture:
    case Scene():
      for thing in picture.things:
        mask = coverage(thing.shape, thing.size, thing.shift)
        top, left = corner(thing.cell, picture.canvas)
        _blend(canvas, top, left, mask, thing.colour, ground)
    case Chart():
      _draw_chart(canvas, picture)
    case Digit():
      mask = _glyph(picture.value, *_scaled(picture.canvas, (72, 42, 10)))
      top = (y - mask.shape[0]) // 2 + picture.shift[0]
      left = (x - mask.shape[1]) // 2 + picture.shift[1]
      _blend(canvas, top, left, mask, picture.colour, ground)
    case Sum():
      _draw_sum(canvas, picture)
    case Polygon():
      side = min(y, x)
      radius = picture.radius * side / CANVAS
      mask = _polygon(picture.sides, radius, picture.turn, side)
      top, left = (y - side) // 2, (x - side) // 2
      _blend(canvas, top, left, mask, picture.colour, ground)
    case _:
      raise TypeError(f"Can't render {type(picture).__name__}.")
  return canvas
