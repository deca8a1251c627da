"""Files of test sets in the shapes in which people have them."""

import base64
from collections.abc import Mapping, Sequence
import csv
import json
import os
from typing import Any, TextIO

from PIL import Image

from emma_jax.benchmarks.smoke import pictures


def tsv(path: str, rows: Sequence[Mapping[str, Any]]) -> None:
  """A table as VLMEvalKit has them; .csv has commas.

  Args:
    path: its folder is made.
    rows: columns of all are in the order in which they first come; what a row
      lacks is left empty.
  """
  columns = list(dict.fromkeys(name for row in rows for name in row))
  comma = "," if path.endswith(".csv") else "\t"
  with _open(path) as file:
    table = csv.DictWriter(
      file, columns, restval="", delimiter=comma, lineterminator="\n"
    )
    table.writeheader()
    table.writerows(rows)


def lines(path: str, rows: Sequence[Mapping[str, Any]]) -> None:
  """JSON lines."""
  with _open(path) as file:
    for row in rows:
      file.write(json.dumps(row, ensure_ascii=False) + "\n")


def whole(path: str, content: Any) -> None:
  """One JSON value."""
  with _open(path) as file:
    json.dump(content, file, ensure_ascii=False, indent=1)
    file.write("\n")


def picture(path: str, drawn: Image.Image | bytes) -> None:
  """A picture's file."""
  os.makedirs(os.path.dirname(path), exist_ok=True)
  with open(path, "wb") as file:
    file.write(drawn if isinstance(drawn, bytes) else pictures.png(drawn))


def own(
  folder: str,
  name: str,
  drawn: Mapping[str, Image.Image | bytes],
  rows: Sequence[Mapping[str, Any]],
) -> None:
  """A set in our own form: items.jsonl, and its pictures beside it.

  Args:
    folder: of all sets.
    name: of the set.
    drawn: file -> picture.
    rows: of items.jsonl.
  """
  place = os.path.join(folder, name)
  for file, one in drawn.items():
    picture(os.path.join(place, file), one)
  lines(os.path.join(place, "items.jsonl"), rows)


def base64_of(drawn: Image.Image) -> str:
  """A picture as a cell of a table holds it."""
  return base64.b64encode(pictures.png(drawn)).decode()


def _open(path: str) -> TextIO:
  os.makedirs(os.path.dirname(path), exist_ok=True)
  return open(path, "w", encoding="utf-8", newline="\n")
