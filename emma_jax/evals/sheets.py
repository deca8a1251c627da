"""Contact sheets as HTML: what came out, what was asked, whether it is right.

The first samples in their order, never a choice of the best.
"""

import base64
from collections.abc import Sequence
import functools
import html
import io

import numpy as np
from PIL import Image

from emma_jax.data.pictures.images import load_picture
from emma_jax.evals.files import plain_question, resized
from emma_jax.evals.outcomes import Outcome, pixels
from emma_jax.structs import Drawing, Editing, Understanding
from emma_jax.world import scoring
from emma_jax.world.detector import read

# Larger pictures are shrunk: a report of megabytes opens slowly.
SIDE = 192
_MARKS = {True: "right", False: "wrong", None: "open"}

escape = functools.partial(html.escape, quote=True)


def picture(picture_YXC: np.ndarray, alt: str = "", classes: str = "") -> str:
  """An <img> that holds its picture."""
  y, x, _ = picture_YXC.shape
  scale = min(1.0, SIDE / max(y, x))
  size = (max(1, round(y * scale)), max(1, round(x * scale)))
  buffer = io.BytesIO()
  image = Image.fromarray(np.ascontiguousarray(resized(picture_YXC, size)))
  image.save(buffer, format="PNG", optimize=True)
  data = base64.b64encode(buffer.getvalue()).decode()
  return (
    f'<img class="{classes}" alt="{escape(alt)}" title="{escape(alt)}" '
    f'src="data:image/png;base64,{data}">'
  )


def sheet(outcomes: Sequence[Outcome], most: int = 24) -> str:
  """The first `most` outcomes, each by its kind of record."""
  cards = [_card(outcome) for outcome in outcomes[:most]]
  first = outcomes[0].record
  classes = "sheet"
  if isinstance(first, (Editing, Understanding)):
    classes += " wide"
  elif _has_original(first):
    classes += " pairs"
  return f'<div class="{classes}">{"".join(cards)}</div>'


def _card(outcome: Outcome) -> str:
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


def _has_original(record: Drawing) -> bool:
  """Whether its own picture says more than the prompt does: a file's, or one
  that went through the autoencoder (without a prompt)."""
  return record.picture is not None and not (record.truth and record.prompt)


def _drawing(outcome: Outcome[Drawing]) -> str:
  record = outcome.record
  mark = _MARKS[outcome.marks[0][1]]
  truth = ""
  if record.picture is not None and _has_original(record):
    truth = picture(load_picture(record.picture), "the original", "small")
  return (
    f'<figure class="{mark}"><div class="row">'
    f"{picture(pixels(outcome.picture), _seen(outcome), mark)}{truth}</div>"
    f"<figcaption>{escape(record.prompt)}</figcaption></figure>"
  )


def _editing(outcome: Outcome[Editing]) -> str:
  record = outcome.record
  mark = _MARKS[outcome.marks[0][1]]
  source = picture(load_picture(record.source), "source")
  target = ""
  if record.target is not None:
    target = picture(load_picture(record.target), "target", "small")
  return (
    f'<figure class="{mark}"><div class="row">{source}<b>&rarr;</b>'
    f"{picture(pixels(outcome.picture), _seen(outcome), mark)}{target}</div>"
    f"<figcaption>{escape(record.instruction)}</figcaption></figure>"
  )


def _understanding(outcome: Outcome[Understanding]) -> str:
  record = outcome.record
  pictures = "".join(picture(load_picture(p)) for p in record.pictures)
  rows = []
  for (question, truth), answer, (_, right) in zip(
    record.turns, outcome.answers, outcome.marks
  ):
    shown = escape(answer) or "<em>nothing</em>"
    correct = "" if right else f' <span class="truth">{escape(truth)}</span>'
    rows.append(
      f"<dt>{escape(plain_question(question))}</dt>"
      f'<dd class="{_MARKS[right]}"><span>{shown}</span>{correct}</dd>'
    )
  return (
    f'<figure class="asked"><div class="row">{pictures}</div>'
    f"<dl>{''.join(rows)}</dl></figure>"
  )
