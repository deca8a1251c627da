"""Editing: instructions, and every scene that fulfils them."""

from collections.abc import Sequence
import dataclasses
from typing import Literal

from emma_jax.world import draws
from emma_jax.world.draws import Rng, chance, pick
from emma_jax.world.language import ENGLISH, LATER, Language
from emma_jax.world.questions import refer, say
from emma_jax.world.scene import (
  BACKGROUNDS,
  HELD_OUT,
  MAX_THINGS,
  ORDINARY,
  PLAIN,
  SIZES,
  Canvas,
  Cell,
  Scene,
  Thing,
)

Pair = tuple[str, str]
# Where a new thing may stand: in its cell, in any free one of its place, or in
# any free one at all.
Reach = Literal["cell", "place", "canvas"]

KINDS = ("recolour", "add", "remove", "replace", "move", "background")
# The kinds whose instruction involves a colour-shape pair.
PAIR_KINDS = KINDS[:5]
# Of edits with two sources: things in the first.
TWO_KINDS = ("one", "several")


@dataclasses.dataclass(frozen=True)
class EditingTruth:
  """The sources, the rendered target, and every scene accepted as a result.

  Several are accepted where the instruction leaves the place open. Scenes
  compare without jitter.
  """

  sources: tuple[Scene, ...]
  target: Scene
  accepted: frozenset[Scene]

  @property
  def source(self) -> Scene:
    """The first one."""
    return self.sources[0]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Step:
  """One instruction and what it does to a scene.

  It takes the thing in `old` away, puts `new` in (where `reach` lets it), and
  sets the background; None leaves as is.
  """

  text: str
  old: Cell | None = None
  new: Thing | None = None
  reach: Reach = "cell"
  background: str | None = None

  def apply(self, scene: Scene) -> tuple[Scene, ...]:
    """Every accepted result; where `new.cell` is free, that one is first."""
    ground = self.background or scene.background
    rest = tuple(item for item in scene.things if item.cell != self.old)
    left = Scene(rest, ground, scene.canvas)
    if self.new is None:
      return (left,)
    wanted = self.new.cell
    cells = [cell for cell in left.free if cell == wanted]
    if self.reach != "cell":
      cells += [
        cell
        for cell in left.free
        if cell != wanted
        and (self.reach == "canvas" or left.place(cell) == left.place(wanted))
      ]
    news = [dataclasses.replace(self.new, cell=cell) for cell in cells]
    return tuple(dataclasses.replace(left, things=(*rest, new)) for new in news)


def _add(rng, words: Language, scene: Scene, pair: Pair | None) -> Step | None:
  if len(scene.things) >= MAX_THINGS or not scene.free:
    return None
  colour, shape = pair or pick(rng, ORDINARY)
  size = pick(rng, SIZES) if chance(rng, 0.2) else None
  cell = pick(rng, scene.free)
  new = draws.thing(rng, cell, shape=shape, colour=colour, size=size or "large")
  noun = words.one(shape, colour, size)
  if chance(rng, 0.6):
    where = words.places[scene.place(cell)]
    text = say(rng, words, "add at", a=noun, place=where)
    return Step(text=text, new=new, reach="place")
  return Step(text=say(rng, words, "add", a=noun), new=new, reach="canvas")


def _background(rng, words: Language, scene: Scene) -> Step:
  name = pick(rng, [b for b in BACKGROUNDS if b != scene.background])
  text = say(rng, words, "background", background=words.backgrounds[name])
  return Step(text=text, background=name)


def _change(rng, words: Language, kind: str, scene: Scene, item: Thing, pair):
  """What `item` becomes, None if it goes, and the fields of the text."""
  if kind == "recolour":
    colour = pair[0] if pair else draws.colour_for(rng, item.shape, item.colour)
    return (
      dataclasses.replace(item, colour=colour),
      {"colour": words.colours[colour]},
    )
  if kind == "replace":
    others = [p for p in ORDINARY if p[1] != item.shape]
    colour, shape = pair or pick(rng, others)
    new = dataclasses.replace(item, colour=colour, shape=shape)
    return new, {"a": words.one(shape, colour)}
  if kind == "move":
    cell = pick(rng, _elsewhere(scene, item))
    where = words.places[scene.place(cell)]
    return dataclasses.replace(item, cell=cell), {"place": where}
  return None, {}


def _elsewhere(scene: Scene, item: Thing) -> list[Cell]:
  """The free cells that aren't in the place where `item` is."""
  here = scene.place(item.cell)
  return [cell for cell in scene.free if scene.place(cell) != here]


def _fits(kind: str, scene: Scene, item: Thing, pair: Pair | None) -> bool:
  """Whether `item` allows the edit, and it can involve the held-out `pair`."""
  if kind == "move" and not _elsewhere(scene, item):
    return False
  if pair is None:
    return True
  if kind == "recolour":
    return item.shape == pair[1] and item.colour != pair[0]
  if kind == "replace":
    return item.shape != pair[1]
  return item.pair == pair


def step(
  rng: Rng,
  words: Language,
  kind: str,
  scene: Scene,
  *,
  pair: Pair | None = None,
  crowd: Sequence[Thing] = (),
  avoid: Sequence[Cell] = (),
) -> Step | None:
  """One edit of `scene`; None where it allows none of that kind.

  `pair` is what a recolour, add or replace must result in, and what a remove
  or move must refer to. References are unambiguous among the scene's things
  and those of `crowd`; things in the cells `avoid` are left alone.
  """
  if kind == "add":
    return _add(rng, words, scene, pair)
  if kind == "background":
    return _background(rng, words, scene)
  if kind == "remove" and len(scene.things) < 2:
    return None  # a scene keeps at least one thing
  around = tuple(dict.fromkeys((*scene.things, *crowd)))
  for item in draws.several(rng, scene.things, len(scene.things)):
    if item.cell in avoid or not _fits(kind, scene, item, pair):
      continue
    noun = refer(rng, words, around, item)
    if noun is None:
      continue
    new, fields = _change(rng, words, kind, scene, item, pair)
    text = say(rng, words, kind, thing=noun, **fields)
    reach: Reach = "place" if kind == "move" else "cell"
    return Step(text=text, old=item.cell, new=new, reach=reach)
  return None


def _source(rng: Rng, kind: str, pair: Pair | None, canvas: Canvas) -> Scene:
  """A source scene for an edit, with the held-out pair where it must be."""
  if pair is None:
    return draws.scene(rng, canvas=canvas)
  if kind in ("remove", "move"):
    return draws.with_pair(rng, pair)
  scene = draws.scene(rng)
  if kind == "recolour":
    first, *rest = scene.things
    colour = draws.colour_for(rng, pair[1])
    others = [item for item in rest if item.shape != pair[1]]
    first = dataclasses.replace(first, shape=pair[1], colour=colour)
    return Scene((first, *others), scene.background)
  return scene


def editing(
  rng: Rng,
  words: Language,
  kind: str,
  *,
  held_out: bool = False,
  canvas: Canvas = PLAIN,
) -> tuple[str, EditingTruth]:
  """A single-step instruction and its truth; held-out pairs stand on PLAIN."""
  if kind not in (PAIR_KINDS if held_out else KINDS):
    raise ValueError(f"{kind=} is none of {PAIR_KINDS if held_out else KINDS}.")
  pair = pick(rng, HELD_OUT) if held_out else None
  while True:  # until a scene allows the edit; nearly all do
    source = _source(rng, kind, pair, canvas)
    done = step(rng, words, kind, source, pair=pair)
    if done:
      results = done.apply(source)
      return done.text, EditingTruth((source,), results[0], frozenset(results))


def editing_multi(
  rng: Rng, words: Language, kinds: tuple[str, str]
) -> tuple[str, EditingTruth]:
  """Two steps of different kinds on different things: "... and ..."."""
  while True:
    source = draws.scene(rng, least=2, repeat=0.1)
    first = step(rng, words, kinds[0], source)
    if first is None:
      continue
    middles = first.apply(source)
    # What the second step refers to was there before the first, is left alone
    # by it, and is named so that it's found in either scene.
    fresh = [t.cell for t in middles[0].things if t not in source.things]
    second = step(
      rng, words, kinds[1], middles[0], crowd=source.things, avoid=fresh
    )
    if second is None:
      continue
    targets = second.apply(middles[0])
    accepted = {end for middle in middles for end in second.apply(middle)}
    text = say(rng, words, "then", first=first.text, second=second.text)
    return text, EditingTruth((source,), targets[0], frozenset(accepted))


def editing_two(rng: Rng, kind: str) -> tuple[str, EditingTruth]:
  """ "Place the star of the first picture on the background of the second".

  What is in the first stays where and as it is; nothing of the second comes
  along but the colour of its background, which is another than the first's.
  """
  if kind not in TWO_KINDS:
    raise ValueError(f"{kind=} is none of {TWO_KINDS}.")
  least, most = (1, 1) if kind == "one" else (2, 3)
  first = draws.scene(rng, least=least, most=most)
  others = [name for name in BACKGROUNDS if name != first.background]
  second = dataclasses.replace(draws.scene(rng), background=pick(rng, others))
  noun = refer(rng, ENGLISH, first.things, first.things[0])
  text = pick(rng, LATER[f"two {kind}"]).format(thing=noun)
  target = dataclasses.replace(first, background=second.background)
  return text, EditingTruth((first, second), target, frozenset({target}))
