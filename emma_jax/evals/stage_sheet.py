"""WORKDIR/stages.png: the same prompts after each stage, a column a stage.

Made of the evaluations' predictions (evaluations/step-N), so that a run that
was killed and goes on has all its columns.
"""

from collections.abc import Mapping, Sequence
import pathlib
from typing import Any

import numpy as np
from PIL import Image

from emma_jax.data.pictures.images import load_picture
from emma_jax.evals import contact_sheet, grids, predictions
from emma_jax.evals.outcomes import Outcome, Scores
from emma_jax.structs import Drawing, Editing, Understanding

NAME = "stages.png"
_ROWS = {"drawing": 4, "editing": 2, "understanding": 2}
_SEARCHED = 16  # the first samples of a task, of which those rows are
_NONE = "-"  # where an evaluation did not have the sample


def write(
  workdir: pathlib.Path,
  history: Sequence[Scores],
  outcomes: Mapping[str, Sequence[Outcome]],
  beside: Mapping[str, Mapping[str, Sequence[Outcome]]] | None = None,
) -> pathlib.Path | None:
  """Writes the sheet; None where nothing was drawn, edited or answered.

  Args:
    workdir: of the run.
    history: its evaluations, oldest first, with "stage" and "step".
    outcomes: of the last of them, by task: the samples that are shown.
    beside: name -> outcomes of other weights, each a column more.

  Raises:
    OSError: the folder cannot be written.
  """
  beside = beside or {}
  columns = [_column(workdir, entry) for entry in history]
  others = [
    {(t, o.record.id): _made(o) for t in _ROWS for o in found.get(t, ())}
    for found in beside.values()
  ]
  rows = []
  for task in _ROWS:
    for outcome in _shown(outcomes.get(task, ()), _ROWS[task]):
      key = task, outcome.record.id
      cells = [found.get(key, _NONE) for found in (*columns, *others)]
      rows.append(contact_sheet.Row(*_asked(outcome), cells))
  if not rows:
    return None
  head = [*(entry["stage"] for entry in history), *beside]
  path = workdir / NAME
  contact_sheet.save(path, contact_sheet.sheet(rows, head))
  return path


def _column(
  workdir: pathlib.Path, entry: Mapping[str, Any]
) -> dict[tuple[str, str], np.ndarray | str]:
  """(task, sample) -> what came of it; {} where the files are gone."""
  folder = workdir / predictions.folder_of(entry["step"])
  out: dict[tuple[str, str], np.ndarray | str] = {}
  for line in grids.lines(folder).values():
    if line["set"] not in _ROWS or line["index"] >= _SEARCHED:
      continue
    key = line["set"], line["id"]
    if "turns" in line:
      out[key] = line["turns"][0]["answer"]
      continue
    try:
      with Image.open(folder / line["picture"]) as picture:
        out[key] = np.asarray(picture.convert("RGB"))
    except (OSError, KeyError):
      continue  # somebody made room: the others are shown
  return out


def _shown(outcomes: Sequence[Outcome], count: int) -> list[Outcome]:
  """The first ones, those first whose words Pillow's own font can write."""
  first = list(outcomes[:_SEARCHED])
  return sorted(first, key=lambda o: not _asked(o)[0].isascii())[:count]


def _asked(outcome: Outcome) -> tuple[str, list[np.ndarray]]:
  """What was said and shown."""
  record = outcome.record
  if isinstance(record, Understanding):
    return record.turns[0][0], [*map(load_picture, record.pictures)]
  if isinstance(record, Editing):
    return record.instruction, [*map(load_picture, record.sources)]
  assert isinstance(record, Drawing)  # there is no other kind of record
  return record.prompt, []


def _made(outcome: Outcome) -> np.ndarray | str:
  if outcome.picture is not None:
    return outcome.picture
  return outcome.answers[0] if outcome.answers else _NONE
