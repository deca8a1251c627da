"""A run's samples for its report: a line per prompt, a column per look."""

from collections.abc import Sequence
import dataclasses
import json
import pathlib
from typing import Any

from emma_jax.evals.samples import WEIGHTS
from emma_jax.pages.pictures import Picture, thumbnail

# Looks that are shown: the first, the last, and some evenly between.
COLUMNS = 8
_SIDE = 112  # pixels
_NAMES = {
  "understanding": "Questions",
  "drawing": "Text to image",
  "editing": "Edits",
  "autoencoder": "Autoencoder",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cell:
  """A picture or answers of one look; neither where it made none."""

  picture: Picture | None = None
  answers: Sequence[str] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Line:
  """What one kind of weights made of one prompt at all looks."""

  text: str  # of the first line of a prompt; "" of its others
  weights: str
  cells: Sequence[Cell]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table:
  """All lines of a task."""

  title: str
  steps: Sequence[int]
  lines: Sequence[Line]


def tables(workdir: str | pathlib.Path, most: int = COLUMNS) -> list[Table]:
  """Of WORKDIR/samples, by task; [] without any look that can be read."""
  looks = _looks(pathlib.Path(workdir) / "samples")
  out = []
  tasks = dict.fromkeys(i["task"] for _, x in looks for i in x["items"])
  for task in (name for name in _NAMES if name in tasks):
    seen = [
      (folder, content, _of_task(content, task)) for folder, content in looks
    ]
    columns = _spread([one for one in seen if one[2]], most)
    out.append(_table(task, columns))
  return out


def _table(task: str, columns: Sequence[tuple]) -> Table:
  prompts: dict[tuple[int, str], None] = {}
  for _, _, items in columns:
    prompts |= dict.fromkeys((i["number"], i["text"]) for i in items)
  lines = []
  for number, text in sorted(prompts):
    for n, weights in enumerate(reversed(WEIGHTS)):
      cells = [
        _cell(folder, items, number, text, weights)
        for folder, _, items in columns
      ]
      name = text if n == 0 else ""
      lines.append(Line(text=name, weights=weights, cells=cells))
  steps = [content["step"] for _, content, _ in columns]
  return Table(title=_NAMES[task], steps=steps, lines=lines)


def _cell(
  folder: pathlib.Path,
  items: Sequence[dict[str, Any]],
  number: int,
  text: str,
  weights: str,
) -> Cell:
  for item in items:
    if (item["number"], item["text"]) == (number, text):
      made = item["made"][weights]
      if "answers" in made:
        return Cell(answers=made["answers"])
      try:
        data = (folder / made["picture"]).read_bytes()
        return Cell(picture=Picture(thumbnail(data, _SIDE), text))
      except (OSError, ValueError):
        return Cell()  # somebody made room: the others are shown
  return Cell()


def _of_task(content: dict[str, Any], task: str) -> list[dict[str, Any]]:
  return [item for item in content["items"] if item["task"] == task]


def _looks(folder: pathlib.Path) -> list[tuple[pathlib.Path, dict[str, Any]]]:
  """(folder, what its samples.json says) by rising step."""
  out = []
  for path in sorted(folder.glob("step-*/samples.json")):
    try:
      content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
      continue
    out.append((path.parent, content))
  return out


def _spread(looks: Sequence[tuple], most: int) -> list[tuple]:
  """At most so many, first and last among them.

  >>> _spread("abcdefg", 4)
  ['a', 'c', 'e', 'g']
  """
  if len(looks) <= most:
    return list(looks)
  last = len(looks) - 1
  return [looks[round(i * last / (most - 1))] for i in range(most)]
