"""The same prompts, edits and questions by a model before and after training.

OUT/before_after.png: a line per item, what was held out first; the record's own
picture or answer, its picture through the model's autoencoder (no drawing can
come closer), then the two models'. Noise is of one seed, so what differs
between the two is the weights'. before_after/ has the pictures alone.
"""

from collections.abc import Mapping, Sequence
import json
import pathlib
from typing import Any

import numpy as np

from emma_jax import files
from emma_jax.build import session as build_session
from emma_jax.data.pictures.images import load_picture
from emma_jax.evals import contact_sheet
from emma_jax.evals.samples import Item, Made, first_records, item_of, sample
from emma_jax.sampling.session import Session
from emma_jax.structs import Drawing, Editing, Understanding

SHEET, FOLDER = "before_after.png", "before_after"
_HEAD = ("your own", "by autoencoder", "before", "after")
HELD_OUT, TRAINED = "held out", "trained on"


def write(
  out: pathlib.Path, before: str, config: Mapping[str, Any]
) -> pathlib.Path:
  """Makes the sheet of a finished fine-tuning; returns its path.

  Args:
    out: the run's folder, whose newest weights are "after".
    before: the weights that it began with, see `locate.read`.
    config: of the run.
  """
  items = _items(config)
  steps = config["evaluate"]["steps"]
  tokens = config["train"]["sample_tokens"]
  asked = [item for _, item in items]
  made: list[list[Made]] = []
  through: list[np.ndarray | str] = []
  for name in (before, str(out)):  # one after the other: both may be large
    session = build_session.load(name)
    made.append(sample(session, asked, tokens=tokens, steps=steps))
    through = _through(session, asked)  # by what the newer one has
    del session
  rows = [
    _row(part, item, through[n], [of[n] for of in made])
    for n, (part, item) in enumerate(items)
  ]
  path = out / SHEET
  contact_sheet.save(path, contact_sheet.sheet(rows, head=_HEAD))
  _keep(out / FOLDER, items, made)
  return path


def _items(config: Mapping[str, Any]) -> list[tuple[str, Item]]:
  """Of each task, (part, item): what is held out, and then of the others."""
  count = config["finetune"]["shown"]
  out: list[tuple[str, Item]] = []
  for task, trained in config["data"]["sources"].items():
    held_out = config["evaluate"]["sources"].get(task)
    records = first_records(held_out, count) if held_out else []
    out += [(HELD_OUT, item_of(record)) for record in records]
    more = first_records(trained, max(2, count - len(records)))
    out += [(TRAINED, item_of(record)) for record in more]
  return out


def _through(session: Session, items: Sequence[Item]) -> list[np.ndarray | str]:
  """Each item's own picture through the autoencoder and back; "" of answers."""
  own = [_own(item) for item in items]
  places = [n for n, x in enumerate(own) if not isinstance(x, str)]
  made = session.reconstruct([own[n] for n in places])
  found = dict(zip(places, made))
  return [found.get(n, "") for n in range(len(items))]


def _own(item: Item) -> Any:
  """What a record has for truth: a picture, or a text."""
  record = item.record
  if isinstance(record, Understanding):
    return record.turns[0][1] or ""
  picture = record.picture if isinstance(record, Drawing) else record.target
  assert picture is not None  # of a record that is trained on
  return load_picture(picture)


def _row(
  part: str, item: Item, through: np.ndarray | str, made: Sequence[Made]
) -> contact_sheet.Row:
  record = item.record
  shown: list[np.ndarray] = []
  if isinstance(record, Understanding):
    shown = [load_picture(picture) for picture in record.pictures]
  elif isinstance(record, Editing):
    shown = [load_picture(picture) for picture in record.sources]
  cells = [
    _enlarged(one.picture)
    if one.picture is not None
    else " / ".join(one.answers)
    for one in made
  ]
  own = [
    x if isinstance(x, str) else _enlarged(x) for x in (_own(item), through)
  ]
  text = f"({part}) {item.text}"
  return contact_sheet.Row(text, shown, [*own, *cells])


def _enlarged(picture_YXC: np.ndarray) -> np.ndarray:
  """As large as a cell by whole factors: each pixel stays a square."""
  factor = max(1, contact_sheet.SIDE // max(picture_YXC.shape[:2]))
  return picture_YXC.repeat(factor, axis=0).repeat(factor, axis=1)


def _keep(
  folder: pathlib.Path,
  items: Sequence[tuple[str, Item]],
  made: Sequence[Sequence[Made]],
) -> None:
  """The pictures, and before_after.json of all that was asked and said."""
  lines: list[dict[str, Any]] = []
  for n, (part, item) in enumerate(items):
    entry: dict[str, Any] = dict(part=part, task=item.task, text=item.text)
    for name, of in zip(("before", "after"), made, strict=True):
      one = of[n]
      if one.picture is None:
        entry[name] = list(one.answers)
        continue
      entry[name] = f"{name}-{n}.png"
      contact_sheet.save(folder / entry[name], one.picture)
    lines.append(entry)
  files.write_text(
    folder / "items.json",
    json.dumps(lines, indent=1, ensure_ascii=False) + "\n",
  )
