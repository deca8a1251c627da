"""What a picture holds, as data: names, palette, things, scenes, STEM pictures.

Everything here is hashable and compares by content; where a thing stands
within its cell (its jitter) is not content.
"""

import dataclasses

CANVAS, CELL, GRID = 96, 32, 3
MAX_THINGS = 4

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
CELLS = tuple((row, column) for row in range(GRID) for column in range(GRID))
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


def place(cell: tuple[int, int]) -> str:
  """(row, column) -> its English name: (0, 2) -> "top right"."""
  return PLACES[cell[0] * GRID + cell[1]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Thing:
  """One object of a scene. `shift` (down, right), in half pixels, is jitter."""

  shape: str
  colour: str
  size: str
  cell: tuple[int, int]
  shift: tuple[int, int] = dataclasses.field(default=(0, 0), compare=False)

  def __post_init__(self):
    for name, value, known in (
      ("shape", self.shape, SHAPES),
      ("colour", self.colour, COLOURS),
      ("size", self.size, SIZES),
      ("cell", self.cell, CELLS),
    ):
      if value not in known and value != UNKNOWN:
        raise ValueError(f"{name}={value!r} is none of {known}.")

  @property
  def pair(self) -> tuple[str, str]:
    """(colour, shape): what HELD_OUT and ORDINARY list."""
    return self.colour, self.shape


@dataclasses.dataclass(frozen=True)
class Scene:
  """Things in reading order (sorted here) on a named background."""

  things: tuple[Thing, ...]
  background: str = "white"

  def __post_init__(self):
    cells = [thing.cell for thing in self.things]
    if len(set(cells)) < len(cells):
      raise ValueError(f"Two things share a cell: {sorted(cells)}.")
    if self.background not in (*BACKGROUNDS, UNKNOWN):
      raise ValueError(
        f"background={self.background!r} is none of {BACKGROUNDS}."
      )
    ordered = tuple(sorted(self.things, key=lambda thing: thing.cell))
    object.__setattr__(self, "things", ordered)

  @property
  def free(self) -> tuple[tuple[int, int], ...]:
    """The empty cells, in reading order."""
    taken = {thing.cell for thing in self.things}
    return tuple(cell for cell in CELLS if cell not in taken)


@dataclasses.dataclass(frozen=True)
class Chart:
  """Three bars (colour, value 1..5), left to right, over a base line."""

  bars: tuple[tuple[str, int], ...]
  background: str = "white"


@dataclasses.dataclass(frozen=True)
class Digit:
  """One big seven-segment digit; `shift` (down, right) in whole pixels."""

  value: int
  colour: str
  background: str = "white"
  shift: tuple[int, int] = dataclasses.field(default=(0, 0), compare=False)


@dataclasses.dataclass(frozen=True)
class Sum:
  """left + right, three glyphs, one in each column of cells."""

  left: int
  right: int
  colour: str
  background: str = "white"


@dataclasses.dataclass(frozen=True)
class Polygon:
  """One large regular polygon of 3..6 sides, turned by `turn` degrees."""

  sides: int
  colour: str
  background: str = "white"
  radius: int = 38
  turn: int = 0


StemPicture = Chart | Digit | Sum | Polygon
Picture = Scene | StemPicture


def pairs_of(picture: Picture) -> set[tuple[str, str]]:
  """The (colour, shape) pairs a picture shows; a polygon is a shape too."""
  if isinstance(picture, Scene):
    return {thing.pair for thing in picture.things}
  if isinstance(picture, Polygon):
    return {(picture.colour, POLYGONS[picture.sides])}
  return set()
