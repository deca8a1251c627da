"""What a picture holds, as data: names, palette, things, scenes, STEM pictures.

Everything here is hashable and compares by content; where a thing stands
within its cell (its jitter) is not content. A canvas is its (rows, columns) in
pixels; it holds as many whole cells as fit, in its middle. Where scores tell of
a picture by its `repr`, they name a canvas beside it that is not the plain one.
"""

import dataclasses

CANVAS, CELL = 96, 32
MAX_THINGS = 4
Canvas = tuple[int, int]
Cell = tuple[int, int]
PLAIN: Canvas = (CANVAS, CANVAS)  # of every task but the `*_shapes` ones
# Of those, equally often: at most 2:1, sides multiples of the autoencoder's 32.
CANVASES: tuple[Canvas, ...] = (
  PLAIN,
  (64, 128),
  (128, 64),
  (96, 128),
  (128, 96),
)

SHAPES = ("circle", "square", "triangle", "star", "cross", "diamond")
RGB = {
  "red": (215, 30, 35),
  "green": (30, 150, 60),
  "blue": (35, 70, 215),
  "yellow": (240, 210, 20),
  "purple": (140, 40, 165),
  "orange": (245, 130, 20),
}
COLOURS = tuple(RGB)
# Pale tints: RGB distances are at least 60 among them, 150 to any colour above,
# and 80 among those.
BACKGROUND_RGB = {
  "white": (255, 255, 255),
  "grey": (185, 185, 185),
  "pink": (255, 180, 205),
  "cyan": (175, 235, 240),
  "cream": (250, 235, 180),
}
BACKGROUNDS = tuple(BACKGROUND_RGB)
RADIUS = {"small": 9.5, "large": 13.0}  # of the circle, pixels
SIZES = tuple(RADIUS)
PLACES = (
  "top left",
  "top",
  "top right",
  "left",
  "centre",
  "right",
  "bottom left",
  "bottom",
  "bottom right",
)
POLYGONS = {3: "triangle", 4: "square", 5: "pentagon", 6: "hexagon"}
# What the detector says of something it can't name; never in a sample.
UNKNOWN = "unknown"

# Never seen together outside the `*_pairs` tasks. No colour and no shape occurs
# twice, so each stays frequent elsewhere.
HELD_OUT = (
  ("green", "star"),
  ("purple", "circle"),
  ("blue", "diamond"),
  ("orange", "triangle"),
)
ORDINARY = tuple(
  (colour, shape)
  for shape in SHAPES
  for colour in COLOURS
  if (colour, shape) not in HELD_OUT
)


def grid(canvas: Canvas) -> tuple[int, int]:
  """Rows and columns of cells; ValueError for a canvas of fewer than 2x2."""
  if min(canvas) < 2 * CELL:
    raise ValueError(
      f"A canvas of {name_of(canvas)} has no room for {MAX_THINGS} things; "
      f"make both sides at least {2 * CELL} pixels."
    )
  return canvas[0] // CELL, canvas[1] // CELL


def cells_of(canvas: Canvas) -> tuple[Cell, ...]:
  """Its cells as (row, column), in reading order."""
  rows, columns = grid(canvas)
  return tuple((row, col) for row in range(rows) for col in range(columns))


def corner(cell: Cell, canvas: Canvas) -> tuple[int, int]:
  """(top, left) of a cell in pixels: what no cell covers is a margin.

  >>> corner((0, 1), (96, 96)), corner((0, 1), (100, 71))
  ((0, 32), (2, 35))
  """
  top, left = canvas[0] % CELL // 2, canvas[1] % CELL // 2
  return top + cell[0] * CELL, left + cell[1] * CELL


def place(cell: Cell, canvas: Canvas = PLAIN) -> str:
  """English name of the ninth of the canvas that a cell's centre lies in.

  Where more than three cells stand in a row, the middle ones share a place;
  where there are two, nothing is in the middle.

  >>> place((0, 2)), place((0, 1), (64, 128)), place((0, 2), (64, 128))
  ('top right', 'top', 'top')
  """
  row, column = (
    (6 * at + 3) // (2 * n) for at, n in zip(cell, grid(canvas), strict=True)
  )
  return PLACES[row * 3 + column]


def name_of(canvas: Canvas) -> str:
  """Rows times columns: "64x128"."""
  return f"{canvas[0]}x{canvas[1]}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Thing:
  """One object of a scene. `shift` (down, right), in half pixels, is jitter."""

  shape: str
  colour: str
  size: str
  cell: Cell
  shift: tuple[int, int] = dataclasses.field(default=(0, 0), compare=False)

  def __post_init__(self):
    for name, value, known in (
      ("shape", self.shape, SHAPES),
      ("colour", self.colour, COLOURS),
      ("size", self.size, SIZES),
    ):
      if value not in known and value != UNKNOWN:
        raise ValueError(f"{name}={value!r} is none of {known}.")
    if min(self.cell) < 0:
      raise ValueError(f"cell={self.cell} is negative; cells start at (0, 0).")

  @property
  def pair(self) -> tuple[str, str]:
    """(colour, shape): what HELD_OUT and ORDINARY list."""
    return self.colour, self.shape


@dataclasses.dataclass(frozen=True)
class Scene:
  """Things in reading order (sorted here) on a named background."""

  things: tuple[Thing, ...]
  background: str = "white"
  canvas: Canvas = dataclasses.field(default=PLAIN, repr=False)

  def __post_init__(self):
    cells = [thing.cell for thing in self.things]
    outside = sorted(set(cells) - set(cells_of(self.canvas)))
    if outside:
      raise ValueError(
        f"The cells {outside} are outside of the {grid(self.canvas)} cells of "
        f"a canvas of {name_of(self.canvas)}."
      )
    if len(set(cells)) < len(cells):
      raise ValueError(f"Two things share a cell: {sorted(cells)}.")
    if self.background not in (*BACKGROUNDS, UNKNOWN):
      raise ValueError(
        f"background={self.background!r} is none of {BACKGROUNDS}."
      )
    ordered = tuple(sorted(self.things, key=lambda thing: thing.cell))
    object.__setattr__(self, "things", ordered)

  @property
  def free(self) -> tuple[Cell, ...]:
    """The empty cells, in reading order."""
    taken = {thing.cell for thing in self.things}
    return tuple(cell for cell in cells_of(self.canvas) if cell not in taken)

  def place(self, cell: Cell) -> str:
    """English name of a cell's place on this canvas."""
    return place(cell, self.canvas)


@dataclasses.dataclass(frozen=True)
class Chart:
  """Three bars (colour, value 1..5), left to right, over a base line."""

  bars: tuple[tuple[str, int], ...]
  background: str = "white"
  canvas: Canvas = dataclasses.field(default=PLAIN, repr=False)


@dataclasses.dataclass(frozen=True)
class Digit:
  """One big seven-segment digit; `shift` (down, right) in whole pixels."""

  value: int
  colour: str
  background: str = "white"
  shift: tuple[int, int] = dataclasses.field(default=(0, 0), compare=False)
  canvas: Canvas = dataclasses.field(default=PLAIN, repr=False)


@dataclasses.dataclass(frozen=True)
class Sum:
  """left + right, three glyphs, one in each third of the canvas."""

  left: int
  right: int
  colour: str
  background: str = "white"
  canvas: Canvas = dataclasses.field(default=PLAIN, repr=False)


@dataclasses.dataclass(frozen=True)
class Polygon:
  """One large regular polygon of 3..6 sides, turned by `turn` degrees.

  `radius` is in pixels of a plain canvas; the shorter side scales it.
  """

  sides: int
  colour: str
  background: str = "white"
  radius: int = 38
  turn: int = 0
  canvas: Canvas = dataclasses.field(default=PLAIN, repr=False)


StemPicture = Chart | Digit | Sum | Polygon
Picture = Scene | StemPicture


def pairs_of(picture: Picture) -> set[tuple[str, str]]:
  """The (colour, shape) pairs a picture shows; a polygon is a shape too."""
  if isinstance(picture, Scene):
    return {thing.pair for thing in picture.things}
  if isinstance(picture, Polygon):
    return {(picture.colour, POLYGONS[picture.sides])}
  return set()
