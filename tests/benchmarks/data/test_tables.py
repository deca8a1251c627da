"""Rows come back as they were written, one at a time; damage has a place."""

import csv
import io
import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st
import pytest

from emma_jax.benchmarks.data import columns, tables
from emma_jax.benchmarks.items import BadItem
from tests.laws import laws

TEXTS = st.text(st.sampled_from('ab"\t\n, 世NA'), max_size=8)


def write(path, rows, **options) -> str:
  with open(path, "w", encoding="utf-8", newline="") as file:
    csv.writer(file, delimiter="\t", lineterminator="\n", **options).writerows(
      rows
    )
  return str(path)


@pytest.mark.smoke
@laws(80)
@given(st.lists(st.tuples(TEXTS, TEXTS, TEXTS), max_size=5))
def test_a_table_gives_back_what_csv_wrote(tmp_path_factory, rows):
  path = tmp_path_factory.getbasetemp() / "law.tsv"
  write(
    path,
    [
      ("index", "a", "b"),
      *((f"{n}{x}", y, z) for n, (x, y, z) in enumerate(rows)),
    ],
  )
  table = tables.Tsv(str(path), keep=("a",))
  assert table.columns == ("index", "a", "b") and len(table) == len(rows)
  for n in reversed(range(len(rows))):
    x, y, z = rows[n]
    assert table[n] == {"index": f"{n}{x}", "a": y, "b": z}
  assert table.column("a") == [y for _, y, _ in rows]
  assert table.column("b") == [z for _, _, z in rows]


def test_words_that_pandas_loses_are_texts(tmp_path):
  rows = [("index", "A"), ("1", "NA"), ("2", "None"), ("3", ""), ("4", "null")]
  table = tables.Tsv(write(tmp_path / "a.tsv", rows))
  assert table.column("A") == ["NA", "None", "", "null"]


@pytest.mark.parametrize(
  "text, message",
  [
    ("", "is empty"),
    ("a\tb\n1\n", r"line 2: a row of 1 fields; the header has 2 \(a, b\)"),
    ('a\tb\n1\t"cut', "line 2: the file ends within a quoted field"),
    ('a\tb\n1\t"x\ny"\n2\n', "line 4: a row of 1 fields"),
    ('a\tb\n1\t"x"y"z"\n', "line 2: no row of a table"),
    ('a\tb\n1\ta 5" b\n2\tc 6" d\n', "line 2: a quotation mark within"),
  ],
)
def test_damage_has_its_line_and_its_remedy(tmp_path, text, message):
  path = tmp_path / "a.tsv"
  path.write_text(text, encoding="utf-8")
  with pytest.raises(BadItem, match=message):
    tables.Tsv(str(path))


def test_a_file_without_a_last_line_end_and_with_a_mark(tmp_path):
  path = tmp_path / "a.tsv"
  path.write_bytes(b"\xef\xbb\xbfindex\ta\r\n1\tx\r\n2\ty")
  table = tables.Tsv(str(path))
  assert [table[0], table[1]] == [
    {"index": "1", "a": "x"},
    {"index": "2", "a": "y"},
  ]
  assert table.where(1) == f"{path}, line 3"


# Opens a table larger than what it may take, and reads a row from its end.
MEMORY = """
import sys
from emma_jax import processes
from emma_jax.benchmarks.data import tables
before = processes.peak_memory()
table = tables.Tsv(sys.argv[1], keep=("index",))
row = table[len(table) - 1]
after = processes.peak_memory()
print(len(table), len(row["image"]), (after - before) // 2**20)
"""


def test_a_large_file_is_read_in_little_memory(tmp_path):
  """120 MB of pictures in less than 40 MB."""
  path, image = tmp_path / "large.tsv", "x" * 1_000_000
  with open(path, "w", encoding="utf-8") as file:
    file.write("index\timage\n")
    for n in range(120):
      file.write(f"{n}\t{image}\n")
  out = subprocess.run(
    [sys.executable, "-c", MEMORY, str(path)],
    capture_output=True,
    text=True,
    check=True,
  )
  rows, size, used = map(int, out.stdout.split())
  assert (rows, size) == (120, 1_000_000) and used < 40


def test_json_lines_lists_and_objects(tmp_path):
  lines = tmp_path / "a.jsonl"
  lines.write_text('{"a": 1}\n\n{"a": 2, "b": 3}\n', encoding="utf-8")
  table = tables.Lines(str(lines))
  assert table.columns == ("a", "b") and table.column("b") == [None, 3]
  assert table.where(1).endswith("line 3")
  named = tmp_path / "b.json"
  named.write_text('{"x": {"a": 1}, "y": {"a": 2}}', encoding="utf-8")
  assert tables.Lines(str(named))[1] == {"key": "y", "a": 2}
  lines.write_text('{"a": 1}\n[1]\n', encoding="utf-8")
  with pytest.raises(BadItem, match="line 2: .* is no JSON object"):
    tables.Lines(str(lines))
  lines.write_text('{"a": \n', encoding="utf-8")
  with pytest.raises(BadItem, match="line 1: no JSON"):
    tables.Lines(str(lines))


def _frame(rows):
  pa = pytest.importorskip("pyarrow")
  return pa.Table.from_pylist(rows)


@pytest.mark.parametrize("whole", [2**26, 1])
def test_parquet_rows_of_groups_and_shards(tmp_path, monkeypatch, whole):
  """Small row groups kept whole, and large ones read a few rows at a time."""
  frame = _frame([{"id": n, "image": {"bytes": b"x" * n}} for n in range(25)])
  import pyarrow.parquet as pq

  monkeypatch.setattr(columns, "_WHOLE", whole)
  paths = [str(tmp_path / f"test-{i}.parquet") for i in range(2)]
  pq.write_table(frame.slice(0, 17), paths[0], row_group_size=10)
  pq.write_table(frame.slice(17), paths[1], row_group_size=3)
  table = columns.Columns(paths)
  assert len(table) == 25 and table.column("id") == list(range(25))
  for n in [3, 4, 9, 10, 0, 24, 17, 16, 16, 12, 5]:
    assert table[n] == {"id": n, "image": {"bytes": b"x" * n}}
  assert table.where(18) == f"{paths[1]}[1]"
  with pytest.raises(IndexError):
    table[25]


@pytest.mark.parametrize("stream", [True, False])
def test_arrow_as_datasets_saves_it(tmp_path, stream):
  frame = _frame([{"id": n} for n in range(5)])
  import pyarrow as pa

  path = str(tmp_path / "data-00000-of-00001.arrow")
  new = pa.ipc.new_stream if stream else pa.ipc.new_file
  with pa.OSFile(path, "wb") as sink, new(sink, frame.schema) as writer:
    writer.write_table(frame, max_chunksize=2)
  table = columns.Columns([path])
  assert len(table) == 5 and table[3] == {"id": 3}
  assert table.column("id") == [0, 1, 2, 3, 4]


def test_a_damaged_parquet_and_shards_of_other_sets(tmp_path):
  frame = _frame([{"a": 1}])
  import pyarrow.parquet as pq

  bad = tmp_path / "a.parquet"
  bad.write_bytes(io.BytesIO(b"PAR1nothing").getvalue())
  with pytest.raises(BadItem, match=r"cannot be read.*Download it again"):
    columns.Columns([str(bad)])
  pq.write_table(frame, bad)
  pq.write_table(_frame([{"b": 1}]), tmp_path / "b.parquet")
  with pytest.raises(BadItem, match="they are of different sets"):
    columns.Columns([str(bad), str(tmp_path / "b.parquet")])
