"""Drawing: captions of GenEval's six tags, and what each one demands."""

import dataclasses

from emma_jax.world import draws
from emma_jax.world.draws import Rng, chance, pick
from emma_jax.world.language import Language
from emma_jax.world.questions import related, say
from emma_jax.world.scene import (
  BACKGROUNDS,
  HELD_OUT,
  ORDINARY,
  PLAIN,
  SHAPES,
  SIZES,
  Canvas,
  Picture,
  Scene,
  cells_of,
)

TAGS = (
  "single_object",
  "two_object",
  "counting",
  "colours",
  "position",
  "colour_attribution",
)
# The tags whose captions name a colour, and so can name a held-out pair.
PAIR_TAGS = ("colours", "position", "colour_attribution")
RELATIONS = ("left", "right", "above", "below")


@dataclasses.dataclass(frozen=True)
class Wanted:
  """One thing a caption asks for; None is left open."""

  shape: str
  colour: str | None = None
  size: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class DrawingTruth:
  """What a drawing must show: exactly `wanted`, so related, so backed.

  It must be of the size of `canvas`. `relation` is between the first and the
  second wanted thing. `scene` is what the record's own picture shows; where
  `wanted` is None (autoencoder records), that picture itself is the demand.
  """

  scene: Picture
  wanted: tuple[Wanted, ...] | None
  relation: str | None = None
  background: str = "white"

  @property
  def canvas(self) -> Canvas:
    """(rows, columns) in pixels to draw at: the record's own picture's."""
    return self.scene.canvas


def _wanted(rng: Rng, tag: str, pair: tuple[str, str] | None) -> list[Wanted]:
  """The things of a caption, sizes open; `pair` is a held-out one to name."""
  first, second = draws.several(rng, SHAPES, 2)
  if tag == "single_object":
    return [Wanted(first)]
  if tag == "counting":
    return [Wanted(first)] * int(rng.integers(2, 5))
  if tag == "two_object":
    return [Wanted(first), Wanted(second)]
  colour, shape = pair or pick(rng, ORDINARY)
  named = [Wanted(shape, colour)]
  if tag == "colours":
    return named
  # Two shapes and two colours, so that swapping the colours is an error.
  colour, shape = pick(
    rng, [p for p in ORDINARY if p[0] != colour and p[1] != shape]
  )
  named.append(Wanted(shape, colour))
  if tag == "position" and not pair and chance(rng, 0.5):
    named = [Wanted(item.shape) for item in named]
  # A held-out pair may come second.
  return named[::-1] if chance(rng, 0.5) else named


def _caption(rng: Rng, words: Language, truth: DrawingTruth) -> str:
  """The demand in words, but for the background: "a star above a cross"."""
  items = truth.wanted
  assert items is not None  # as of autoencoder records, which have no text
  nouns = [words.one(item.shape, item.colour, item.size) for item in items]
  if len(items) > 1 and len(set(items)) == 1:
    return words.many(len(items), items[0].shape, items[0].size)
  if truth.relation:
    return say(
      rng,
      words,
      "relation",
      a=nouns[0],
      b=nouns[1],
      relation=words.relations[truth.relation],
    )
  if len(items) == 2:
    return say(rng, words, "and", a=nouns[0], b=nouns[1])
  return nouns[0]


def drawing(
  rng: Rng,
  words: Language,
  tag: str,
  *,
  held_out: bool = False,
  canvas: Canvas = PLAIN,
) -> tuple[str, DrawingTruth]:
  """A caption of `tag` and its truth, with a scene that fulfils it."""
  if tag not in TAGS or (held_out and tag not in PAIR_TAGS):
    raise ValueError(f"{tag=} is none of {PAIR_TAGS if held_out else TAGS}.")
  items = _wanted(rng, tag, pick(rng, HELD_OUT) if held_out else None)
  if chance(rng, 0.2):
    size = pick(rng, SIZES)
    every = range(len(items))
    for at in every if tag == "counting" else (pick(rng, every),):
      items[at] = dataclasses.replace(items[at], size=size)
  # All things of a counting scene have one colour; the caption leaves it open.
  same = draws.colour_for(rng, items[0].shape) if tag == "counting" else None
  things = [
    draws.thing(
      rng, cell, shape=item.shape, colour=item.colour or same, size=item.size
    )
    for item, cell in zip(
      items, draws.several(rng, cells_of(canvas), len(items))
    )
  ]
  relation = None
  if tag == "position":
    holding = [r for r, holds in related(things[0], things[1]).items() if holds]
    relation = pick(rng, holding)
  named = chance(rng, 0.25)
  background = pick(rng, BACKGROUNDS) if named else "white"
  truth = DrawingTruth(
    scene=Scene(tuple(things), background, canvas),
    wanted=tuple(items),
    relation=relation,
    background=background,
  )
  text = _caption(rng, words, truth)
  if named:
    ground = words.backgrounds[background]
    text = say(rng, words, "on", text=text, background=ground)
  return text, truth
