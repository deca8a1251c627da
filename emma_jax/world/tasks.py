"""`sample(task, split, index)`: every record of the world, a pure function.

For the splits "val" and "test" the kinds of drawing and editing tasks go round
with the index, so that a mean over kinds weighs equal counts; in "train" they
are random, so that no stride of the index sees fewer kinds. So do the canvases
of the `*_shapes` tasks: each of them with each kind equally often.
"""

from collections.abc import Sequence
import dataclasses

from emma_jax import structs
from emma_jax.world import captions, draws, edits, questions
from emma_jax.world.draws import Rng, chance, pick
from emma_jax.world.language import CHINESE, ENGLISH
from emma_jax.world.render import render
from emma_jax.world.scene import (
  CANVASES,
  HELD_OUT,
  PLAIN,
  Canvas,
  Picture,
  Scene,
)

TASKS = (
  "understanding",
  "understanding_general",
  "stem",
  "drawing",
  "editing",
  "autoencoder",
  "understanding_pairs",
  "drawing_pairs",
  "editing_pairs",
  "drawing_zh",
  "editing_zh",
  "editing_multi",
  "understanding_shapes",
  "stem_shapes",
  "drawing_shapes",
  "editing_shapes",
  "editing_two",
)
SPLITS = ("train", "val", "test")

# Ordered pairs of different steps.
_TWO_KINDS = tuple((a, b) for a in edits.KINDS for b in edits.KINDS if a != b)


def _kind(rng: Rng, kinds: Sequence, split: str, index: int):
  drawn = pick(rng, kinds)  # drawn in any case: one stream for every split
  return drawn if split == "train" else kinds[index % len(kinds)]


def _canvas(
  rng: Rng, task: str, split: str, index: int, kinds: Sequence = ("",)
) -> Canvas:
  """The canvas of a sample; it goes round slower than its kinds."""
  if not task.endswith("_shapes"):
    return PLAIN  # and takes no number: these streams are older than canvases
  return _kind(rng, CANVASES, split, index // len(kinds))


def _understanding(
  rng: Rng, task: str, split: str, index: int, name: str
) -> structs.Understanding:
  canvas = _canvas(rng, task, split, index)
  family = task.removesuffix("_shapes")
  words = CHINESE if chance(rng, 0.25) else ENGLISH
  number = int(rng.choice((1, 2, 3, 3)))
  picture: Picture
  if task == "understanding_pairs":
    pair = pick(rng, HELD_OUT)
    picture = draws.with_pair(rng, pair)
    focus = next(item for item in picture.things if item.pair == pair)
    turns = questions.about_pair(rng, words, picture, focus, number)
  elif task == "understanding_general" or (
    family == "understanding" and chance(rng, 0.65)
  ):
    picture = draws.scene(rng, canvas=canvas)
    turns = questions.about_scene(rng, words, picture, number)
  else:
    picture = draws.stem_picture(rng, canvas)
    turns = questions.about_stem(rng, words, picture, number)
  general = isinstance(picture, Scene)
  return structs.Understanding(
    pictures=(render(picture),),
    turns=tuple((question, answer) for _, question, answer in turns),
    stem=structs.STEM_GENERAL if general else structs.STEM_SCIENCE,
    kinds=tuple(kind for kind, *_ in turns),
    id=name,
  )


def _drawing(rng: Rng, task: str, split: str, index: int, name: str):
  held_out = task == "drawing_pairs"
  tags = captions.PAIR_TAGS if held_out else captions.TAGS
  canvas = _canvas(rng, task, split, index, tags)
  tag = _kind(rng, tags, split, index)
  words = CHINESE if task == "drawing_zh" else ENGLISH
  text, truth = captions.drawing(
    rng, words, tag, held_out=held_out, canvas=canvas
  )
  return structs.Drawing(
    prompt=text, picture=render(truth.scene), kind=tag, id=name, truth=truth
  )


def _autoencoder(rng: Rng, name: str) -> structs.Drawing:
  general = chance(rng, 0.65)
  picture = draws.scene(rng) if general else draws.stem_picture(rng)
  return structs.Drawing(
    prompt="",
    picture=render(picture),
    kind=type(picture).__name__.lower(),
    id=name,
    truth=captions.DrawingTruth(
      scene=picture, wanted=None, background=picture.background
    ),
  )


def _editing(rng: Rng, task: str, split: str, index: int, name: str):
  words = CHINESE if task == "editing_zh" else ENGLISH
  if task == "editing_multi":
    both = _kind(rng, _TWO_KINDS, split, index)
    kind = "+".join(both)
    text, truth = edits.editing_multi(rng, words, both)
  elif task == "editing_two":
    kind = _kind(rng, edits.TWO_KINDS, split, index)
    text, truth = edits.editing_two(rng, kind)
  else:
    held_out = task == "editing_pairs"
    kinds = edits.PAIR_KINDS if held_out else edits.KINDS
    canvas = _canvas(rng, task, split, index, kinds)
    kind = _kind(rng, kinds, split, index)
    text, truth = edits.editing(
      rng, words, kind, held_out=held_out, canvas=canvas
    )
  return structs.Editing(
    sources=tuple(map(render, truth.sources)),
    instruction=text,
    target=render(truth.target),
    kind=kind,
    id=name,
    truth=truth,
  )


def sample(task: str, split: str, index: int) -> structs.Record:
  """The record of (task, split, index); equal in every process.

  Raises ValueError for a task or split that doesn't exist and IndexError for
  a negative index; there is no last one.
  """
  if task not in TASKS:
    raise ValueError(f"{task=} is none of {TASKS}.")
  if split not in SPLITS:
    raise ValueError(f"{split=} is none of {SPLITS}.")
  if index < 0:
    raise IndexError(f"{index=} is negative; samples start at 0.")
  index = int(index)  # a numpy integer would print differently
  rng = draws.stream(task, split, index)
  name = f"{task}/{split}/{index}"
  if task.startswith(("understanding", "stem")):
    return _understanding(rng, task, split, index, name)
  if task == "autoencoder":
    return _autoencoder(rng, name)
  if task.startswith("drawing"):
    return _drawing(rng, task, split, index, name)
  return _editing(rng, task, split, index, name)


@dataclasses.dataclass(frozen=True)
class WorldSource:
  """The first `length` samples of a task and split, as a source of records.

  `WorldSource("drawing", "train", 100)[7]` is `sample("drawing", "train", 7)`.
  """

  task: str
  split: str
  length: int

  def __post_init__(self):
    if self.task not in TASKS:
      raise ValueError(f"task={self.task!r} is none of {TASKS}.")
    if self.split not in SPLITS:
      raise ValueError(f"split={self.split!r} is none of {SPLITS}.")
    if self.length < 0:
      raise ValueError(f"length={self.length} is negative.")

  def __len__(self) -> int:
    return self.length

  def __getitem__(self, index: int) -> structs.Record:
    if not 0 <= index < self.length:
      raise IndexError(f"{index=} is outside of 0..{self.length - 1}.")
    return sample(self.task, self.split, index)
