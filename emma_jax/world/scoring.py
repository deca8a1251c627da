"""Exact scores of drawings, edits and answers; baselines; truths in words."""

import collections
from collections.abc import Iterable
import itertools
import unicodedata

import numpy as np

from emma_jax import structs
from emma_jax.world.captions import DrawingTruth, Wanted
from emma_jax.world.detector import read
from emma_jax.world.edits import EditingTruth
from emma_jax.world.language import ENGLISH, is_chinese
from emma_jax.world.questions import related
from emma_jax.world.scene import (
  PLAIN,
  UNKNOWN,
  Canvas,
  Picture,
  Scene,
  Thing,
  name_of,
)

_FINAL = ".!?,;:。！？，；："


def scene_of(record: structs.Drawing | structs.Editing) -> Picture:
  """What the record's own (target) picture shows."""
  truth = record.truth
  if isinstance(truth, DrawingTruth):
    return truth.scene
  if isinstance(truth, EditingTruth):
    return truth.target
  raise ValueError(f"Record {record.id!r} has no truth of the world.")


def canvas_of(record: structs.Record) -> Canvas:
  """(rows, columns) in pixels of a record of the world: of what it asks for,
  or else of what it asks about."""
  if isinstance(record, structs.Understanding):
    picture = record.pictures[0]
    if not isinstance(picture, np.ndarray):
      raise ValueError(f"Record {record.id!r} is not of the world.")
    y, x, _ = picture.shape
    return y, x
  return scene_of(record).canvas


def _read(record: structs.Record, picture: np.ndarray) -> Scene:
  """The scene of `picture`, which must have the size that `record` wants."""
  wanted = canvas_of(record)
  if picture.shape[:2] != wanted:
    raise ValueError(
      f"Record {record.id!r} wants a picture of {name_of(wanted)}, this is of "
      f"shape {picture.shape}; draw at {name_of(wanted)} to score it."
    )
  return read(picture)


def score_scene(scene: Scene, picture: np.ndarray) -> bool:
  """Whether `picture` (Y, X, 3) uint8 reads as exactly `scene`, in its size."""
  return read(picture) == scene


def _matches(thing: Thing, wanted: Wanted) -> bool:
  return (
    thing.shape == wanted.shape
    and wanted.colour in (None, thing.colour)
    and wanted.size in (None, thing.size)
  )


def fulfils(scene: Scene, truth: DrawingTruth) -> bool:
  """Whether a scene shows exactly what a caption names, and nothing else.

  A thing of an unreadable shape or colour fulfils nothing, not even where the
  caption leaves its colour open.
  """
  if truth.wanted is None:
    return scene == truth.scene
  names = [name for thing in scene.things for name in thing.pair]
  if (
    scene.background != truth.background
    or len(scene.things) != len(truth.wanted)
    or UNKNOWN in names
  ):
    return False
  for things in itertools.permutations(scene.things):
    if not all(map(_matches, things, truth.wanted)):
      continue
    if truth.relation is None or related(*things)[truth.relation]:
      return True
  return False


def score_drawing(record: structs.Drawing, picture: np.ndarray) -> bool:
  """Whether `picture` (*canvas_of(record), 3) uint8 shows what is demanded.

  Strict: exactly the named things with the named colours and sizes, in the
  named relation, on the named (else white) background. An autoencoder record
  demands its own scene; records of STEM pictures can't be read back and raise
  ValueError, as does a picture of another size.
  """
  if not isinstance(scene_of(record), Scene):
    raise ValueError(
      f"Record {record.id!r} shows a {record.kind}; only scenes can be read."
    )
  return fulfils(_read(record, picture), record.truth)


def score_editing(record: structs.Editing, picture: np.ndarray) -> bool:
  """Whether the change is there and everything else is as it was.

  Raises ValueError for a picture of another size than `canvas_of(record)`.
  """
  return _read(record, picture) in record.truth.accepted


def _plain(text: str) -> str:
  """What counts of an answer: all of one that is nothing but marks.

  >>> _plain("E\u0301te\u0301. "), _plain("?!"), _plain(" ")
  ('été', '?!', '')
  """
  # Folding may part what was composed, so that the order matters.
  text = unicodedata.normalize("NFD", text).casefold()
  text = unicodedata.normalize("NFC", text).strip()
  return text.rstrip(_FINAL).strip() or text


def score_answer(truth: str, answer: str) -> bool:
  """Equality after strip, casefold and final punctuation.

  How accents are spelt (composed or not) makes no difference. An answer of
  marks alone equals those marks; silence equals silence.

  >>> score_answer("top left", " Top left.")
  True
  >>> score_answer(".", ""), score_answer("?", "!"), score_answer("?", " ?")
  (False, False, True)
  """
  return _plain(truth) == _plain(answer)


def majority_baseline(pairs: Iterable[tuple[str, str]]) -> dict[str, float]:
  """(kind, answer) pairs -> per kind, what constant answers would score.

  Whoever answers can tell the language of the question, so the most frequent
  answer is taken per script, Chinese or other.

  >>> majority_baseline([("count", "1"), ("count", "1"), ("count", "2")])
  {'count': 0.6666666666666666}
  >>> majority_baseline(zip(["is"] * 4, ["yes", "no", "是", "是"]))
  {'is': 0.75}
  >>> majority_baseline(zip(["is"] * 4, ["yes", "no", "café", "50°"]))
  {'is': 0.25}
  """
  # kind -> script -> answer -> count
  counts: dict[str, dict[bool, collections.Counter]] = {}
  for kind, answer in pairs:
    answer = _plain(answer)
    script = is_chinese(answer)
    scripts = counts.setdefault(kind, {})
    scripts.setdefault(script, collections.Counter())[answer] += 1
  return {
    kind: sum(max(counter.values()) for counter in scripts.values())
    / sum(counter.total() for counter in scripts.values())
    for kind, scripts in sorted(counts.items())
  }


def scene_text(scene: Picture) -> str:
  """A scene in words: "large red star (top left) on white of 64x128"."""
  canvas = _sized(scene.canvas)
  if not isinstance(scene, Scene):
    return repr(scene) + canvas
  things = [
    f"{thing.size} {thing.colour} {thing.shape} ({scene.place(thing.cell)})"
    for thing in scene.things
  ]
  return f"{', '.join(things) or 'nothing'} on {scene.background}{canvas}"


def _sized(canvas: Canvas) -> str:
  """ " of 64x128", nothing for a plain canvas."""
  return "" if canvas == PLAIN else f" of {name_of(canvas)}"


def truth_text(record: structs.Record) -> str:
  """What a record demands, in English, for reports."""
  if isinstance(record, structs.Understanding):
    return "; ".join(answer for _, answer in record.turns)
  scene = scene_of(record)
  truth = record.truth
  if isinstance(truth, EditingTruth):
    ways = len(truth.accepted)
    more = f" (or {ways - 1} other places)" if ways > 1 else ""
    return scene_text(scene) + more
  if truth.wanted is None:
    return scene_text(scene)
  nouns = [ENGLISH.one(w.shape, w.colour, w.size) for w in truth.wanted]
  if truth.relation:
    text = f" {ENGLISH.relations[truth.relation]} ".join(nouns)
  else:
    text = " and ".join(nouns)
  return f"exactly {text} on {truth.background}{_sized(truth.canvas)}"
