"""Tables of text, .csv and .tsv: a head of column names, then a row a record.

Cells are texts, but for those of keys that mean something else (`weight`,
`stem`), and lists and objects in JSON of keys that hold several things. The
sign between cells is a tab in .tsv; in .csv whichever of comma, semicolon (as
spreadsheets of some languages write) and tab gives the head most columns, or
what Excel's own first line says, `sep=;`. What spreadsheets leave behind, empty
lines, empty cells at the ends of lines, spaces around texts, is passed over.
"""

from collections.abc import Iterator, Mapping
import csv
import json
from typing import IO, Any

from emma_jax.data.ingest import limits, suffixes
from emma_jax.data.pictures.images import BadRecord

_SIGNS = {"csv": ",;\t", "tsv": "\t"}
# Keys whose cells are JSON where they begin with a bracket.
_LISTS = (
  "conversations",
  "messages",
  "texts",
  "images",
  "source",
  "input_images",
  "edited_prompt_list",
)
# What a line is made of that holds nothing.
_NOTHING = b" \t,;\r\n\xef\xbb\xbf"
_STEM = {"true": True, "1": True, "false": False, "0": False, "": None}

Item = tuple[str, dict[str, Any] | BadRecord]


class _Lines:
  """Text lines of a file, with the bytes that were read for them."""

  def __init__(self, file: IO[bytes], path: str, stop: int | None = None):
    self._lines, self._path, self.size = limits.lines(file, stop), path, 0

  def __iter__(self) -> "_Lines":
    return self

  def __next__(self) -> str:
    size, line = next(self._lines)
    self.size += size
    if line is None:
      raise csv.Error(limits.too_long(size))
    try:
      return line.decode("utf-8-sig")
    except UnicodeDecodeError as error:
      raise csv.Error(
        f"not UTF-8 (byte {line[error.start]:#x}); save the table as UTF-8 "
        f"({limits.ICONV})"
      ) from error


def head(kind: str, path: str) -> tuple[list[str], str, int]:
  """(names of the columns, the sign between cells, bytes of the head).

  Raises ValueError for a head that names no columns: none at all, one that is
  a row, a name that is there twice.
  """
  limits.check_encoding(path, by_lines=True)
  begin, signs = _before_head(path, _SIGNS[kind])
  best: tuple[list[str], str, int] = ([], "", 0)
  wrong: csv.Error | None = None
  for sign in signs:
    with open(path, "rb") as file:
      file.seek(begin)
      lines = _Lines(file, path)
      try:
        names = next(csv.reader(lines, delimiter=sign, strict=True), [])
      except csv.Error as error:  # "a";"b" is no line of commas
        wrong = wrong or error
        continue
    names = [name.strip() for name in names]
    if len(names) > len(best[0]):
      best = names, sign, begin + lines.size
  if wrong and not best[1]:
    raise ValueError(f"{path}: its first line: {wrong}.") from wrong
  _check(best[0], path)
  return best


def _before_head(path: str, signs: str) -> tuple[int, str]:
  """(bytes before the head's line, the signs that may part its cells)."""
  begin = 0
  with open(path, "rb") as file:
    for size, line in limits.lines(file):
      told = (line or b"").removeprefix(b"\xef\xbb\xbf").rstrip(b"\r\n")
      told = told.strip(b'"') if told.startswith(b'"sep=') else told
      if told.startswith(b"sep=") and len(told) == 5:
        signs = chr(told[4])
      elif line is None or line.strip(_NOTHING):
        break
      begin += size
  return begin, signs


def _check(names: list[str], path: str) -> None:
  if not any(names):
    raise ValueError(
      f"{path} is empty; a table begins with a line of the columns' names, "
      "such as image,caption."
    )
  twice = sorted({n for n in names if n and names.count(n) > 1})
  if twice:
    raise ValueError(
      f"{path}: its first line names the column {twice[0]} twice."
    )
  if any(suffixes.is_picture(name) for name in names):
    raise ValueError(
      f"{path} begins with a row, {names}; put a line with the columns' names "
      "first, such as image,caption."
    )


def rows(
  kind: str, path: str, start: int, stop: int, first: int
) -> Iterator[Item]:
  """The rows between two bytes, of which the first is row `first`, from 0."""
  for where, row, _ in _read(kind, path, start, stop, first):
    yield where, row


def cuts(
  kind: str, path: str, count: int
) -> Iterator[tuple[int, int, int, int]]:
  """(start, stop, first row, rows) of stretches of `count` rows.

  Raises ValueError as `head`.
  """
  start = at = head(kind, path)[2]
  first = row = 0
  for _, _, size in _read(kind, path, start, None, 0):
    at, row = at + size, row + 1
    if row - first == count:
      yield start, at, first, count
      start, first = at, row
  if row > first:
    yield start, at, first, row - first


def _read(
  kind: str, path: str, start: int, stop: int | None, first: int
) -> Iterator[tuple[str, dict[str, Any] | BadRecord, int]]:
  """(where, row, bytes); what is behind an open quote is one bad row."""
  names, sign, _ = head(kind, path)
  with open(path, "rb") as file:
    file.seek(start)
    left = None if stop is None else stop - start
    lines = _Lines(file, path, left)
    reader = csv.reader(lines, delimiter=sign, strict=True)
    row, before = first, 0
    while True:
      where = f"{path}[{row}]"
      try:
        cells = next(reader)
      except StopIteration:
        return
      except csv.Error as error:
        # The reader begins anew with the next line.
        reader = csv.reader(lines, delimiter=sign, strict=True)
        bad = BadRecord(where, f"no row of a table: {_told(error)}")
        yield where, bad, lines.size - before
        row, before = row + 1, lines.size
        continue
      if not any(cell.strip() for cell in cells):  # a blank line
        continue
      size, before = lines.size - before, lines.size
      yield where, _row(names, cells, where), size
      row += 1


def _told(error: csv.Error) -> str:
  text = str(error)
  if "unexpected end" in text or "field limit" in text:
    return f'{text}: a quote (") that is not closed'
  if "expected after" in text:
    return f'{text}: a quote within a text is written twice ("")'
  return text


def _row(
  names: list[str], cells: list[str], where: str
) -> dict[str, Any] | BadRecord:
  while len(cells) > len(names) and not cells[-1].strip():
    cells = cells[:-1]
  if len(cells) != len(names):
    return BadRecord(
      where,
      f"{len(cells)} cells for the {len(names)} columns {names}; a text that "
      'holds the sign between cells stands in quotes (")',
    )
  text = lambda cell: cell.strip().replace("\r\n", "\n")
  row: dict[str, Any] = {n: text(c) for n, c in zip(names, cells) if n}
  try:
    return row | _typed(row)
  except ValueError as error:
    return BadRecord(where, str(error))


def _typed(row: Mapping[str, str]) -> dict[str, Any]:
  """Cells of keys that are no texts; ValueError for what they cannot be."""
  out: dict[str, Any] = {}
  for key in _LISTS:
    cell = row.get(key, "")
    # "[1].png" is the name of a file.
    if cell.startswith(("[", "{")) and not suffixes.is_picture(cell):
      try:
        out[key] = json.loads(cell)
      except (ValueError, RecursionError) as error:
        raise ValueError(f"{key}: no JSON: {error}") from error
  if "weight" in row:
    # Where cells are parted by semicolons, numbers have a comma.
    text = row["weight"].strip().replace(",", ".")
    out["weight"] = float(text) if text else None
  if "stem" in row:
    stem = row["stem"].strip().lower()
    if stem not in _STEM:
      raise ValueError(f"stem is {row['stem']!r}, not true or false")
    out["stem"] = _STEM[stem]
  return out
