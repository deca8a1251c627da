"""A run's samples for its report: a line per prompt, a column per look."""

from collections.abc import Sequence
import json
import pathlib
from typing import Any

from emma_jax.evals.grids import SIDE, Cell, Grid, Line
from emma_jax.evals.samples import WEIGHTS
from emma_jax.pages import formats
from emma_jax.pages.pictures import Picture, thumbnail

# Looks that are shown: the first, the last, and some evenly between.
COLUMNS = 8
_NAMES = {
  "understanding": "Questions",
  "drawing": "Text to image",
  "editing": "Edits",
  "autoencoder": "Autoencoder",
}


def tables(workdir: str | pathlib.Path, most: int = COLUMNS) -> list[Grid]:
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


def _table(task: str, columns: Sequence[tuple]) -> Grid:
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
      lines.append(Line(text=name, beside=weights, cells=cells))
  heads = [formats.thousands(content["step"]) for _, content, _ in columns]
  return Grid(title=_NAMES[task], heads=heads, lines=lines)


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
        return Cell(answers=[(answer, "") for answer in made["answers"]])
      try:
        data = (folder / made["picture"]).read_bytes()
        alt = f"{weights} weights: {text}"
        return Cell(picture=Picture(thumbnail(data, SIDE), alt))
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
