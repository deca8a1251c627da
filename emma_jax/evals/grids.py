"""The same prompts side by side: a line a prompt; a column a stage, a run.

Of `predictions` of the same samples, the first ones in their order.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import pathlib
import re
from typing import Any

from emma_jax.data.pictures.images import BadRecord, load_picture
from emma_jax.evals import predictions, sheets
from emma_jax.evals.files import plain_question
from emma_jax.evals.table import NAMES
from emma_jax.pages.pictures import Picture, thumbnail
from emma_jax.structs import TASKS, Drawing, Editing, Record, Understanding
from emma_jax.world import tasks as world

SIDE = 112  # of a picture, in pixels
# Of a task.
LINES = 4
_MARKS = {True: "right", False: "wrong", None: ""}
_WORLD = re.compile(r"(\w+)/(train|val|test)/(\d+)")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cell:
  """A picture or answers, each with its mark: right, wrong or "" where nothing
  tells; neither where there is none."""

  picture: Picture | None = None
  answers: Sequence[tuple[str, str]] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Line:
  """What became of one prompt in all columns.

  text: the prompt; "" where it is that of the line above. beside: small print.
  shown: pictures that came with the prompt.
  """

  text: str
  beside: str = ""
  shown: Sequence[Picture] = ()
  cells: Sequence[Cell]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Grid:
  """All lines of a task."""

  title: str
  heads: Sequence[str]
  lines: Sequence[Line]


def same_prompts(
  columns: Sequence[tuple[str, pathlib.Path]],
  records: Mapping[tuple[str, int], Record] | None = None,
  most: int = LINES,
) -> list[Grid]:
  """By task, the first prompts that all columns have; [] without any.

  Args:
    columns: (its name, folder of `predictions`); one without any is left out.
    records: (task, number) -> the sample, to show what came with the prompt;
      those of the world are made anew.
    most: lines of a task.
  """
  found = []
  for name, folder in columns:
    there = lines(folder)
    if there:
      found.append((name, folder, there))
  if not found:
    return []
  grids = []
  for task in TASKS:
    of_task = [
      {k: line for k, line in of_column.items() if k[0] == task}
      for _, _, of_column in found
    ]
    having = [(column, some) for column, some in zip(found, of_task) if some]
    if not having:
      continue
    keys = set.intersection(*(set(some) for _, some in having))
    chosen = sorted(keys, key=lambda k: k[1])[:most]
    if chosen:
      grids.append(_grid(task, having, chosen, records or {}))
  return grids


def _grid(
  task: str,
  columns: Sequence[tuple],
  keys: Sequence[tuple],
  records: Mapping[tuple[str, int], Record],
) -> Grid:
  drawn = []
  for key in keys:
    cells = [
      _cell(folder, name, of_column[key])
      for (name, folder, _), of_column in columns
    ]
    first = columns[0][1][key]
    record = records.get(key[:2]) or _of_world(first["id"])
    text = _text(first)
    drawn.append(Line(text=text, shown=_shown(record), cells=cells))
  heads = [name for (name, _, _), _ in columns]
  return Grid(title=NAMES[task], heads=heads, lines=drawn)


def lines(
  folder: pathlib.Path | None,
) -> dict[tuple[str, int, str], dict[str, Any]]:
  """(set, number, id and prompt) -> its line of a folder of predictions; what
  has the same key in two folders is one sample. {} without any."""
  if folder is None:
    return {}
  try:
    found = predictions.read(folder / predictions.LINES)
  except (OSError, ValueError):
    return {}
  return {(x["set"], x["index"], f"{x['id']} {_text(x)}"): x for x in found}


def _text(line: Mapping[str, Any]) -> str:
  if "turns" in line:
    return " / ".join(plain_question(t["question"]) for t in line["turns"])
  return line.get("prompt", line.get("instruction", ""))


def _cell(folder: pathlib.Path, name: str, line: Mapping[str, Any]) -> Cell:
  marks = [_MARKS[mark["right"]] for mark in line["marks"]]
  if "turns" in line:
    answers = [turn["answer"] for turn in line["turns"]]
    return Cell(answers=list(zip(answers, marks)))
  try:
    source = thumbnail((folder / line["picture"]).read_bytes(), SIDE)
  except (OSError, ValueError, KeyError):
    return Cell()  # somebody made room: the others are shown
  alt = ", ".join(filter(None, [f"{name}: {_text(line)}", marks[0]]))
  return Cell(picture=Picture(source, alt, marks[0]))


def _of_world(name: str) -> Record | None:
  """The record of the embedded world of that id; None of any other."""
  match = _WORLD.fullmatch(name)
  if match is None or match[1] not in world.TASKS:
    return None
  return world.sample(match[1], match[2], int(match[3]))


def _shown(record: Record | None) -> list[Picture]:
  """What came with a prompt: sources of an edit, pictures of a question."""
  if isinstance(record, Editing):
    raws, alt = record.sources, "source"
  elif isinstance(record, Understanding):
    raws, alt = record.pictures, "asked about"
  else:
    assert record is None or isinstance(record, Drawing)
    return []
  try:
    return [sheets.picture(load_picture(raw), alt, "small") for raw in raws]
  except BadRecord:
    return []  # the file has gone meanwhile
