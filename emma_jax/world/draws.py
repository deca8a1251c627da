"""Named random streams; random things, scenes and STEM pictures."""

from collections.abc import Sequence
import hashlib
from typing import TypeVar

import numpy as np

from emma_jax.world.scene import (
  BACKGROUNDS,
  COLOURS,
  MAX_THINGS,
  ORDINARY,
  PLAIN,
  POLYGONS,
  SHAPES,
  SIZES,
  Canvas,
  Cell,
  Chart,
  Digit,
  Polygon,
  Scene,
  StemPicture,
  Sum,
  Thing,
  cells_of,
)

T = TypeVar("T")
Rng = np.random.Generator


def stream(task: str, split: str, index: int) -> Rng:
  """The generator of one sample: equal on every machine and process."""
  name = f"{task}/{split}/{index}".encode()
  digest = hashlib.blake2b(name, digest_size=16).digest()
  return np.random.Generator(np.random.PCG64(int.from_bytes(digest, "big")))


def pick(rng: Rng, choices: Sequence[T]) -> T:
  """One of `choices`, uniformly."""
  return choices[int(rng.integers(len(choices)))]


def chance(rng: Rng, probability: float) -> bool:
  """True with this probability; takes one number of the stream."""
  return bool(rng.random() < probability)


def several(rng: Rng, choices: Sequence[T], number: int) -> list[T]:
  """`number` different ones of `choices`, in random order."""
  order = rng.permutation(len(choices))[:number]
  return [choices[int(place)] for place in order]


_ALLOWED = {
  shape: tuple(colour for colour, other in ORDINARY if other == shape)
  for shape in (*SHAPES, *POLYGONS.values())
}
# Shapes that scenes lack can't be part of a held-out pair.
_ALLOWED |= {shape: COLOURS for shape in ("pentagon", "hexagon")}


def colour_for(rng: Rng, shape: str, but: str | None = None) -> str:
  """A colour that isn't held out for `shape`, and isn't `but`."""
  return pick(rng, [colour for colour in _ALLOWED[shape] if colour != but])


def thing(
  rng: Rng,
  cell: Cell,
  *,
  shape: str | None = None,
  colour: str | None = None,
  size: str | None = None,
) -> Thing:
  """A thing with what isn't given drawn at random (no held-out pair).

  It stands in the middle of its cell: a simplification that spares a generator
  the choice among places nobody asked for.
  """
  shape = shape or pick(rng, SHAPES)
  colour = colour or colour_for(rng, shape)
  size = size or pick(rng, SIZES)
  return Thing(shape=shape, colour=colour, size=size, cell=cell)


def scene(
  rng: Rng,
  *,
  least: int = 1,
  most: int = MAX_THINGS,
  repeat: float = 0.3,
  canvas: Canvas = PLAIN,
) -> Scene:
  """`least`..`most` ordinary things; each repeats a shape with `repeat`."""
  number = int(rng.integers(least, most + 1))
  things: list[Thing] = []
  for cell in several(rng, cells_of(canvas), number):
    # Repeated shapes give counting something to count.
    again = things and chance(rng, repeat)
    shape = pick(rng, things).shape if again else None
    things.append(thing(rng, cell, shape=shape))
  return Scene(tuple(things), pick(rng, BACKGROUNDS), canvas)


def with_pair(rng: Rng, pair: tuple[str, str], *, most: int = 4) -> Scene:
  """A scene whose only thing of that colour or that shape is the pair."""
  colour, shape = pair
  number = int(rng.integers(1, most + 1))
  first, *cells = several(rng, cells_of(PLAIN), number)
  others = [p for p in ORDINARY if p[0] != colour and p[1] != shape]
  things = [thing(rng, first, shape=shape, colour=colour)]
  for cell in cells:
    other_colour, other_shape = pick(rng, others)
    things.append(thing(rng, cell, shape=other_shape, colour=other_colour))
  return Scene(tuple(things), pick(rng, BACKGROUNDS))


def chart(rng: Rng, canvas: Canvas = PLAIN) -> Chart:
  """Three bars of different colours, one of them alone the tallest."""
  tallest = int(rng.integers(2, 6))
  values = [tallest, *(int(v) for v in rng.integers(1, tallest, size=2))]
  colours = several(rng, COLOURS, 3)
  bars = zip(colours, several(rng, values, 3))
  return Chart(tuple(bars), pick(rng, BACKGROUNDS), canvas)


def stem_picture(rng: Rng, canvas: Canvas = PLAIN) -> StemPicture:
  """A chart, digit, sum or polygon, each as often."""
  kind = int(rng.integers(4))
  if kind == 0:
    return chart(rng, canvas)
  background = pick(rng, BACKGROUNDS)
  if kind == 1:
    down, right = (int(v) for v in rng.integers(-4, 5, size=2))
    value, colour = int(rng.integers(10)), pick(rng, COLOURS)
    return Digit(value, colour, background, (down, right), canvas)
  if kind == 2:
    # Uniform results, not uniform addends: the majority baseline stays low.
    total = int(rng.integers(10))
    left = int(rng.integers(total + 1))
    return Sum(left, total - left, pick(rng, COLOURS), background, canvas)
  sides = int(rng.integers(3, 7))
  return Polygon(
    sides,
    colour_for(rng, POLYGONS[sides]),
    background,
    radius=int(rng.integers(30, 43)),
    turn=int(rng.integers(-2, 3)) * 5,
    canvas=canvas,
  )
