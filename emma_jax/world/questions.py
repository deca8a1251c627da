"""Understanding: questions with short answers about scenes and STEM pictures.

Each maker returns (kind, question, answer), or None where a picture doesn't
allow that question. Answers are chosen before questions wherever the picture
leaves a choice, so that guessing the most frequent answer gains little.
"""

import collections
from collections.abc import Callable, Sequence

from emma_jax.world import draws
from emma_jax.world.draws import Rng, chance, pick
from emma_jax.world.language import Language
from emma_jax.world.scene import (
  COLOURS,
  HELD_OUT,
  ORDINARY,
  POLYGONS,
  SHAPES,
  Chart,
  Digit,
  Scene,
  StemPicture,
  Sum,
  Thing,
)

Turn = tuple[str, str, str]

SCENE_KINDS = (
  "count",
  "colour",
  "shape",
  "position",
  "existence",
  "background",
)
# What can be asked of one held-out pair.
PAIR_KINDS = ("colour", "shape", "position", "existence")
STEM_KINDS = ("chart_tallest", "chart_value", "digit", "arithmetic", "sides")


def say(rng: Rng, words: Language, template: str, **fields: str) -> str:
  """A random phrasing of `template` with its fields filled in."""
  return pick(rng, words.templates[template]).format(**fields)


def refer(
  rng: Rng, words: Language, around: Sequence[Thing], item: Thing
) -> str | None:
  """A noun that fits `item` alone: "star", "red star"; None if none does."""
  shapes = sum(other.shape == item.shape for other in around)
  pairs = sum(other.pair == item.pair for other in around)
  if pairs > 1:
    return None
  if shapes > 1 or chance(rng, 0.4):
    return words.noun(item.shape, item.colour)
  return words.noun(item.shape)


def related(first: Thing, second: Thing) -> dict[str, bool]:
  """Which relations hold, by strict comparison of columns and rows."""
  (row, column), (other_row, other_column) = first.cell, second.cell
  return {
    "left": column < other_column,
    "right": column > other_column,
    "above": row < other_row,
    "below": row > other_row,
  }


def count(rng: Rng, words: Language, scene: Scene) -> Turn:
  """How many things, of a shape, or of a colour: "0".."4"."""
  shapes = collections.Counter(thing.shape for thing in scene.things)
  colours = collections.Counter(thing.colour for thing in scene.things)
  options = [(len(scene.things), "count all", "")]
  options += [(shapes[shape], "count shape", shape) for shape in SHAPES]
  options += [(colours[colour], "count colour", colour) for colour in COLOURS]
  answer = pick(rng, sorted({number for number, *_ in options}))
  _, template, name = pick(rng, [o for o in options if o[0] == answer])
  question = say(
    rng,
    words,
    template,
    things=words.plurals.get(name, ""),
    colour=words.colours.get(name, ""),
  )
  return "count", question, str(answer)


def colour(
  rng: Rng, words: Language, scene: Scene, focus: Thing | None = None
) -> Turn | None:
  """The colour of the only thing of its shape."""
  shapes = collections.Counter(thing.shape for thing in scene.things)
  options = [t for t in scene.things if shapes[t.shape] == 1]
  if not options:
    return None
  item = focus or pick(rng, options)
  question = say(rng, words, "colour", thing=words.noun(item.shape))
  return "colour", question, words.colours[item.colour]


def shape(
  rng: Rng, words: Language, scene: Scene, focus: Thing | None = None
) -> Turn | None:
  """The shape of the only thing of its colour."""
  colours = collections.Counter(thing.colour for thing in scene.things)
  options = [t for t in scene.things if colours[t.colour] == 1]
  if not options:
    return None
  item = focus or pick(rng, options)
  question = say(rng, words, "shape", colour=words.colours[item.colour])
  return "shape", question, words.shapes[item.shape]


def position(
  rng: Rng, words: Language, scene: Scene, focus: Thing | None = None
) -> Turn | None:
  """Where a thing is, or whether it stands so to another one."""
  things = scene.things
  named = [(item, refer(rng, words, things, item)) for item in things]
  nouns = [(item, noun) for item, noun in named if noun]
  if focus:
    nouns.sort(key=lambda pair: pair[0] != focus)  # the focus comes first
  else:
    nouns = draws.several(rng, nouns, len(nouns))
  if not nouns:
    return None
  item, noun = nouns[0]
  if len(nouns) == 1 or chance(rng, 0.5):
    question = say(rng, words, "where", thing=noun)
    return "position", question, words.places[scene.place(item.cell)]
  other, other_noun = nouns[1]
  truth = chance(rng, 0.5)
  names = [r for r, holds in related(item, other).items() if holds == truth]
  question = say(
    rng,
    words,
    "ordered",
    a=noun,
    b=other_noun,
    relation=words.relations[pick(rng, names)],
  )
  return "position", question, words.answers["yes" if truth else "no"]


def existence(
  rng: Rng, words: Language, scene: Scene, focus: Thing | None = None
) -> Turn:
  """Whether a shape, or a shape of a colour, is there; yes as often as no."""
  truth = chance(rng, 0.5)
  answer = words.answers["there" if truth else "absent"]
  present = {thing.pair for thing in scene.things}
  if focus is None and chance(rng, 0.4):
    shapes = {thing.shape for thing in scene.things}
    name = pick(rng, [s for s in SHAPES if (s in shapes) == truth])
    return "existence", say(rng, words, "existence", a=words.one(name)), answer
  pairs = HELD_OUT if focus else ORDINARY
  options = [pair for pair in pairs if (pair in present) == truth]
  if not truth:
    # Wrong pairs of colours and shapes that are there test their binding.
    near = [
      (c, s)
      for c, s in options
      if any(c == thing.colour or s == thing.shape for thing in scene.things)
    ]
    options = near if near and chance(rng, 0.7) else options
  named_colour, named_shape = pick(rng, options)
  noun = words.one(named_shape, named_colour)
  return "existence", say(rng, words, "existence", a=noun), answer


def background(rng: Rng, words: Language, scene: Scene) -> Turn:
  """The colour of the background: the one question that needs no object."""
  return (
    "background",
    say(rng, words, "its background"),
    words.backgrounds[scene.background],
  )


# Some also take the thing to ask about.
_MAKERS: dict[str, Callable[..., Turn | None]] = {
  "background": background,
  "count": count,
  "colour": colour,
  "shape": shape,
  "position": position,
  "existence": existence,
}


def about_scene(
  rng: Rng, words: Language, scene: Scene, number: int
) -> list[Turn]:
  """Up to `number` turns of different kinds."""
  turns = []
  for kind in draws.several(rng, SCENE_KINDS, len(SCENE_KINDS)):
    turn = _MAKERS[kind](rng, words, scene)
    if turn:
      turns.append(turn)
    if len(turns) == number:
      break
  return turns


def about_pair(
  rng: Rng, words: Language, scene: Scene, focus: Thing, number: int
) -> list[Turn]:
  """Up to `number` turns, each about the thing with the held-out pair."""
  kinds = draws.several(rng, PAIR_KINDS, number)
  turns = [_MAKERS[kind](rng, words, scene, focus) for kind in kinds]
  return [turn for turn in turns if turn]


def about_stem(
  rng: Rng, words: Language, picture: StemPicture, number: int
) -> list[Turn]:
  """Up to `number` different turns, in random order."""
  match picture:
    case Chart(bars):
      tallest = max(bars, key=lambda bar: bar[1])[0]
      options = [
        ("chart_tallest", say(rng, words, "tallest"), words.colours[tallest])
      ]
      for name, value in bars:
        question = say(rng, words, "value", colour=words.colours[name])
        options.append(("chart_value", question, str(value)))
    case Digit(value, name):
      options = [
        ("digit", say(rng, words, "digit"), str(value)),
        ("colour", say(rng, words, "its colour"), words.colours[name]),
      ]
    case Sum(left, right):
      options = [
        ("arithmetic", say(rng, words, "arithmetic"), str(left + right)),
        ("digit", say(rng, words, "left digit"), str(left)),
        ("digit", say(rng, words, "right digit"), str(right)),
      ]
    case _:
      name = words.shapes[POLYGONS[picture.sides]]
      tint = words.colours[picture.colour]
      options = [
        ("sides", say(rng, words, "sides"), str(picture.sides)),
        ("shape", say(rng, words, "its shape"), name),
        ("colour", say(rng, words, "its colour"), tint),
      ]
  return draws.several(rng, options, number)
