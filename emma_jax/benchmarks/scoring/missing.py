"""Which cells of a table count as missing.

VLMEvalKit reads its tables with pandas as it comes, so that an option whose
text is "None", "NA" or "null" is no option (`load_tsv` in vlmeval/smp/file.py).
`original` reads them as they stand; this is what reproduces the loss.
"""

from collections.abc import Callable, Mapping
import csv
import io
import math
import re
from typing import Any

# What pandas' read_csv takes for missing unless told otherwise (3.1).
NA_TEXTS = frozenset(
  (
    *("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan"),
    *("1.#IND", "1.#QNAN", "<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a"),
    *("nan", "null"),
  )
)
MISSING = "<missing>"
_WHOLE = re.compile(r"\s*[+-]?[0-9]+\s*")
_REAL = re.compile(
  r"\s*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?\s*"
  r"|\s*[+-]?inf(inity)?\s*",
  re.IGNORECASE,
)
_TRUTH = {name: True for name in ("True", "TRUE", "true")} | {
  name: False for name in ("False", "FALSE", "false")
}


def is_missing(value: Any) -> bool:
  """None, not-a-number, or the text "NaN" that stands for it in JSON.

  >>> is_missing(None), is_missing("NaN"), is_missing("nan"), is_missing("")
  (True, True, False, False)
  """
  if isinstance(value, float):
    return math.isnan(value)
  return value is None or value == "NaN"


def _reader(texts: list[str]) -> Callable[[str], Any]:
  """How pandas reads a column, from its cells that are not missing."""
  if all(text in _TRUTH for text in texts):
    return lambda text: _TRUTH[text]
  if all(_WHOLE.fullmatch(text) for text in texts):
    return int
  if all(_REAL.fullmatch(text) for text in texts):
    return float
  return str


def read_tsv(text: str) -> list[dict[str, Any]]:
  """Rows of a tab-separated table as pandas' defaults read it.

  A column is whole numbers, numbers, truth values or text as a whole; whole
  numbers with a missing cell are floats. Missing cells are `MISSING`.

  >>> read_tsv("index\\tA\\n1\\tNone\\n2\\tnone\\n")
  [{'index': 1, 'A': '<missing>'}, {'index': 2, 'A': 'none'}]

  Args:
    text: with a line of names first; cells may be in double quotes.

  Raises:
    ValueError: no line of names, or a row longer than it.
  """
  lines = [
    line for line in csv.reader(io.StringIO(text), delimiter="\t") if line
  ]
  if not lines:
    raise ValueError("The table has no line of names.")
  names, rows = lines[0], lines[1:]
  for row in rows:
    if len(row) > len(names):
      raise ValueError(f"A row has {len(row)} cells, not {len(names)}: {row}")
    row += [""] * (len(names) - len(row))
  columns: dict[str, list[Any]] = {}
  for name, *cells in zip(names, *rows):
    texts = [cell for cell in cells if cell not in NA_TEXTS]
    read = _reader(texts)
    if read is int and len(texts) < len(cells):
      read = float
    columns[name] = [MISSING if c in NA_TEXTS else read(c) for c in cells]
  return [
    {name: cells[i] for name, cells in columns.items()}
    for i in range(len(rows))
  ]


SCORERS: Mapping[tuple[str, str, str], Callable[..., Any]] = {
  ("MMBench", "tsv_na_trap", "vlmevalkit"): lambda tsv: read_tsv(tsv)
}
