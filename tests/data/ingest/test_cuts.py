"""However an input is cut, its rows are all there, once, with their places."""

import json

from hypothesis import given
from hypothesis import strategies as st
import pytest

from emma_jax.data.ingest import containers, files, sequences
from tests.laws import laws

OPTIONS = sequences.Options()
# Brackets, quotes and backslashes in strings, and values of every kind.
VALUES = st.recursive(
  st.none()
  | st.booleans()
  | st.integers(-9, 9)
  | st.text(st.sampled_from('a[]{}"\\,: \n世'), max_size=6),
  lambda x: (
    st.lists(x, max_size=2)
    | st.dictionaries(st.sampled_from('ab"{]'), x, max_size=2)
  ),
  max_leaves=4,
)
ROWS = st.lists(
  st.dictionaries(st.sampled_from(["x", "y[", '"']), VALUES, max_size=2),
  min_size=1,
  max_size=7,
)


def _read(path, count: int) -> list:
  parts = containers.split(str(path), count, OPTIONS)
  assert all(part.rows is not None for part in parts)
  first = 0
  for part in parts:
    assert part.first == first
    first += part.rows
  return [item for part in parts for item in containers.read(part, OPTIONS)]


@laws(40)
@given(
  ROWS,
  st.integers(1, 8),
  st.sampled_from(["\n", "\r\n"]),
  st.booleans(),
  st.booleans(),
)
def test_json_lines(tmp_path_factory, found, count, end, blank, last):
  path = tmp_path_factory.mktemp("j") / "a.jsonl"
  lines, want = [], []
  for row in found:
    if blank:
      lines.append(" ")
    lines.append(json.dumps(row))
    want.append((f"{path}:{len(lines)}", row))
  path.write_bytes((end.join(lines) + end * last).encode())
  assert _read(path, count) == want


@laws(40)
@given(ROWS, st.integers(1, 8), st.sampled_from([None, 1]), st.booleans())
def test_a_json_list(tmp_path_factory, found, count, indent, ascii_):
  path = tmp_path_factory.mktemp("j") / "a.json"
  path.write_text(
    json.dumps(found, indent=indent, ensure_ascii=ascii_), encoding="utf-8"
  )
  assert _read(path, count) == [
    (f"{path}[{i}]", row) for i, row in enumerate(found)
  ]


@pytest.mark.parametrize("count", [1, 3, 4, 9])
def test_a_range(count):
  assert _read("range:8", count) == [
    (f"range:8[{i}]", {"index": i}) for i in range(8)
  ]


@laws(40)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=8), st.integers(1, 20))
def test_row_groups_are_gathered_until_they_reach(groups, count):
  cuts = files.gather("parquet", "x.parquet", groups, count)
  assert [c.start for c in cuts] + [len(groups)] == [0] + [c.stop for c in cuts]
  for cut in cuts:
    mine = groups[cut.start : cut.stop]
    assert cut.rows == sum(mine) and cut.first == sum(groups[: cut.start])
    assert sum(mine[:-1]) < count
    assert cut is cuts[-1] or sum(mine) >= count
