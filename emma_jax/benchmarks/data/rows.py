"""What rows of every kind of table have in common."""

import ast
from collections.abc import Iterator, Mapping, Sequence
import glob
import json
import os
from typing import Any

from emma_jax.benchmarks.data.tables import Lines, Table
from emma_jax.benchmarks.items import BadItem, Missing

# Circular copies of a question of MMBench follow by that.
ROLL = 1_000_000


def listed(text: Any) -> tuple[str, ...]:
  """References: a list, the text of a Python or JSON list, or one text.

  >>> listed("['a', 'b']"), listed("[1]"), listed("a [b]"), listed(["x"])
  (('a', 'b'), ('1',), ('a [b]',), ('x',))
  """
  if isinstance(text, (list, tuple)):
    return tuple(str(x) for x in text)
  text = str(text)
  if text.startswith("[") and text.endswith("]"):
    for read in (ast.literal_eval, json.loads):
      try:
        found = read(text)
      except (ValueError, SyntaxError):
        continue
      if isinstance(found, list):
        return tuple(str(x) for x in found)
  return (text,)


def check_letter(answer: str, options: Mapping[str, str], where: str) -> None:
  """Raises BadItem for an answer's letter that no option has."""
  if len(answer) == 1 and answer.isupper() and answer not in options:
    raise BadItem(
      f"{where}: the answer is {answer!r}, but the options are "
      f"{', '.join(options)}; the row is damaged."
    )


def circle_of(index: Any, where: str) -> str:
  """What the circular copies of a question have in common.

  Raises:
    BadItem: an index that is no whole number.
  """
  try:
    return str(int(str(index)) % ROLL)
  except ValueError as error:
    raise BadItem(
      f"{where}: the index {index!r} is no whole number, so nothing says which "
      f"rows are copies of one question (they are {ROLL:,} apart)."
    ) from error


def check_columns(table: Table, names: Sequence[str]) -> None:
  """Raises BadItem for a table without some of these columns."""
  twice = sorted({x for x in table.columns if table.columns.count(x) > 1})
  if twice:
    raise BadItem(
      f"{table.path} has several columns {', '.join(twice)}; nothing says "
      "which one counts."
    )
  missing = [name for name in names if name not in table.columns]
  if missing:
    raise BadItem(
      f"{table.path} lacks the columns {', '.join(missing)}; it has "
      f"{', '.join(table.columns)}. It is of another set or revision."
    )


def check_kinds(row: Mapping[str, Any], where: str, **kinds: type) -> None:
  """Raises BadItem for a value that is missing, or is of another kind."""
  for name, kind in kinds.items():
    if not isinstance(row.get(name), kind):
      raise BadItem(
        f"{where}: {name!r} is {row.get(name)!r:.40}; a {kind.__name__} is "
        "needed."
      )


def rows_of(*paths: str) -> Iterator[tuple[Mapping[str, Any], str]]:
  """(row, where it stands) of files of JSON, one after another."""
  for path in paths:
    table = Lines(path)
    for n in range(len(table)):
      yield table[n], table.where(n)


def check_once(seen: dict[Any, str], name: str, value: Any, where: str) -> None:
  """Raises BadItem for a value that another row had; keeps it in `seen`."""
  if value in seen:
    raise BadItem(
      f"{where}: the {name} {value!r:.80} is also that of {seen[value]}; the "
      "file is damaged, or two were joined. Download it again."
    )
  seen[value] = where


def one_file(folder: str, *patterns: str) -> str:
  """The file of a folder that fits a pattern, the first that any does.

  Raises:
    Missing: none fits.
    BadItem: several fit the same pattern.
  """
  for pattern in patterns:
    found = sorted(glob.glob(os.path.join(glob.escape(folder), pattern)))
    if len(found) > 1:
      raise BadItem(
        f"{folder} has several files {pattern}: {', '.join(found)}. Leave one."
      )
    if found:
      return found[0]
  raise Missing(f"{folder} has no {' or '.join(patterns)}.")
