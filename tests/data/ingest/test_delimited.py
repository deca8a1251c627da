"""Tables as spreadsheets and their users leave them."""

from pathlib import Path

import pytest

from emma_jax.data.ingest import delimited, files
from emma_jax.data.pictures.images import BadRecord

ROWS = [{"image": "a.png", "caption": "red"}, {"image": "b.png", "caption": ""}]
TABLES = {
  "Excel's first line": "sep=;\r\nimage;caption\r\na.png;red\r\nb.png;\r\n",
  "in quotes": '"sep=|"\nimage|caption\na.png|red\nb.png|\n',
  "a mark before it": "\ufeffsep=\t\nimage\tcaption\na.png\tred\nb.png\t\n",
  "empty columns": "image,caption,,\na.png,red,,\nb.png,,,\n",
  "empty cells behind": "image,caption\na.png,red,,\nb.png,,\n",
  "quotes in the head": '"image";"caption"\n"a.png";"red"\n"b.png";""\n',
  "spaces": "image, caption\n a.png, red\nb.png , \n",
  "empty lines": "\n,\nimage,caption\n\na.png,red\n,\nb.png,\n,\n,,\n",
}


def _table(folder: Path, text: str, name: str = "t.csv") -> str:
  path = folder / name
  path.write_bytes(text.encode())
  return str(path)


def _rows(path: str, count: int = 100) -> list:
  parts = files.split("csv", path, count)
  return [row for part in parts for _, row in files.read(part)]


@pytest.mark.smoke
@pytest.mark.parametrize("name", TABLES)
def test_what_spreadsheets_leave_is_passed_over(tmp_path, name):
  """In one part or in many: the same rows, of the same numbers."""
  path = _table(tmp_path, TABLES[name])
  assert _rows(path) == _rows(path, 1) == ROWS


@pytest.mark.parametrize("text", ["", "\n\r\n", "\ufeff", ",;\n"])
def test_a_table_of_nothing_is_told(tmp_path, text):
  path = _table(tmp_path, text)
  with pytest.raises(ValueError, match="is empty; a table begins with a line"):
    delimited.head("csv", path)


def test_a_head_that_is_no_line_of_any_sign(tmp_path):
  path = _table(tmp_path, '"image"x,"caption"\n')
  with pytest.raises(ValueError, match="its first line"):
    delimited.head("csv", path)


def test_cells_that_are_no_texts(tmp_path):
  text = (
    "source;instruction;weight\n"
    "[1].png;a;0,5\n"
    '"[""a.png"", ""b.png""]";b;2\n'
    "[a, b];c;\n"
  )
  first, second, third = _rows(_table(tmp_path, text))
  assert (first["source"], first["weight"]) == ("[1].png", 0.5)
  assert (second["source"], second["weight"]) == (["a.png", "b.png"], 2.0)
  assert isinstance(third, BadRecord) and "source: no JSON" in third.reason


def test_a_cell_too_many_is_no_empty_one(tmp_path):
  (row,) = _rows(_table(tmp_path, "image,caption\na.png,red, blue\n"))
  assert isinstance(row, BadRecord) and "3 cells for the 2" in row.reason


def test_ends_of_lines_within_a_cell_are_those_of_any_text(tmp_path):
  path = _table(tmp_path, 'image,caption\r\na.png,"one\r\ntwo"\r\n')
  assert _rows(path) == [{"image": "a.png", "caption": "one\ntwo"}]
