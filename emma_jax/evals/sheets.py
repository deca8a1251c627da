"""Contact sheets: what came out, what was asked, whether it is right.

The first samples in their order, never a choice of the best.
"""

from collections.abc import Sequence
import dataclasses

import numpy as np

from emma_jax.data.pictures.images import load_picture
from emma_jax.data.pictures.preprocess import resized
from emma_jax.evals.files import plain_question
from emma_jax.evals.outcomes import Outcome, pixels
from emma_jax.pages.pictures import Picture, embedded
from emma_jax.structs import Drawing, Editing, Understanding
from emma_jax.world import scoring
from emma_jax.world.detector import read

# Larger pictures are shrunk: a report of megabytes opens slowly.
SIDE = 192
_MARKS = {True: "right", False: "wrong", None: "open"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Turn:
  """A question, what was answered, and the truth where that is another."""

  question: str
  answer: str
  truth: str | None
  mark: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Card:
  """An outcome: pictures with a caption, or else with a conversation."""

  classes: str
  pictures: Sequence[Picture]
  arrow: int = 0  # stands behind so many of the pictures
  read: str = ""  # what the scorer wanted and read
  caption: str | None = None
  turns: Sequence[Turn] = ()


@dataclasses.dataclass(frozen=True)
class Sheet:
  """Cards; the classes say how wide they are."""

  classes: str
  cards: Sequence[Card]


def picture(picture_YXC: np.ndarray, alt: str, classes: str = "") -> Picture:
  """A picture for a page, shrunk to SIDE; `alt`: what it is, in words."""
  y, x, _ = picture_YXC.shape
  scale = min(1.0, SIDE / max(y, x))
  size = (max(1, round(y * scale)), max(1, round(x * scale)))
  return Picture(embedded(resized(picture_YXC, size)), alt, classes)


def sheet(outcomes: Sequence[Outcome], most: int = 24) -> Sheet:
  """The first `most` outcomes, each by its kind of record."""
  first = outcomes[0].record
  classes = "sheet"
  if isinstance(first, (Editing, Understanding)):
    classes += " wide"
  elif _has_original(first):
    classes += " pairs"
  return Sheet(classes, [_card(outcome) for outcome in outcomes[:most]])


def _card(outcome: Outcome) -> Card:
  if isinstance(outcome.record, Understanding):
    return _understanding(outcome)
  if isinstance(outcome.record, Editing):
    return _editing(outcome)
  return _drawing(outcome)


def _seen(outcome: Outcome[Drawing] | Outcome[Editing]) -> str:
  """What the detector makes of a picture of the world; "" elsewhere."""
  if outcome.record.truth is None:
    return ""
  wanted = scoring.truth_text(outcome.record)
  seen = scoring.scene_text(read(pixels(outcome.picture)))
  return f"wanted: {wanted}\nread: {seen}"


def _alt(what: str, mark: str) -> str:
  """Of a picture that was made; "open" says nothing."""
  return what if mark == "open" else f"{what} ({mark})"


def _has_original(record: Drawing) -> bool:
  """Whether its own picture says more than the prompt does: a file's, or one
  that went through the autoencoder (without a prompt)."""
  return record.picture is not None and not (record.truth and record.prompt)


def _drawing(outcome: Outcome[Drawing]) -> Card:
  record = outcome.record
  mark = _MARKS[outcome.marks[0][1]]
  what = f"drawn: {record.prompt}" if record.prompt else "reconstruction"
  shown = [picture(pixels(outcome.picture), _alt(what, mark), mark)]
  if record.picture is not None and _has_original(record):
    shown.append(picture(load_picture(record.picture), "the original", "small"))
  return Card(
    classes=mark, pictures=shown, caption=record.prompt, read=_seen(outcome)
  )


def _editing(outcome: Outcome[Editing]) -> Card:
  record = outcome.record
  mark = _MARKS[outcome.marks[0][1]]
  shown = [picture(load_picture(s), "source") for s in record.sources]
  alt = _alt(f"edited: {record.instruction}", mark)
  shown.append(picture(pixels(outcome.picture), alt, mark))
  if record.target is not None:
    shown.append(picture(load_picture(record.target), "target", "small"))
  return Card(
    classes=mark,
    pictures=shown,
    arrow=len(record.sources),
    caption=record.instruction,
    read=_seen(outcome),
  )


def _understanding(outcome: Outcome[Understanding]) -> Card:
  record = outcome.record
  turns = [
    Turn(
      question=plain_question(question),
      answer=answer,
      truth=None if right else truth,
      mark=_MARKS[right],
    )
    for (question, truth), answer, (_, right) in zip(
      record.turns, outcome.answers, outcome.marks
    )
  ]
  alt = f"asked about: {turns[0].question}"
  shown = [picture(load_picture(p), alt) for p in record.pictures]
  return Card(classes="asked", pictures=shown, turns=turns)
