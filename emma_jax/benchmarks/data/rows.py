"""What rows of every kind of table have in common."""

import ast
from collections.abc import Mapping, Sequence
import json
from typing import Any

from emma_jax.benchmarks.data.tables import Table
from emma_jax.benchmarks.items import BadItem

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


def check_columns(table: Table, names: Sequence[str]) -> None:
  """Raises BadItem for a table without some of these columns."""
  missing = [name for name in names if name not in table.columns]
  if missing:
    raise BadItem(
      f"{table.path} lacks the columns {', '.join(missing)}; it has "
      f"{', '.join(table.columns)}. It is of another set or revision."
    )
