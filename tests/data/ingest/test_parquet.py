"""Sizes of pages are those of their headers, whatever a footer says."""

import pytest

from emma_jax.data.ingest import limits, parquet, thrift
from emma_jax.data.pictures import budget
from emma_jax.data.pictures.images import BadRecord
from tests.data.ingest import bombs

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


@pytest.fixture(autouse=True)
def fresh():
  parquet.opened.cache_clear()
  yield
  parquet.opened.cache_clear()


def _table(rows: int = 50):
  return pa.table(
    {
      "image": [
        {"bytes": bytes([i]) * 3000, "path": f"{i}.png"} for i in range(rows)
      ],
      "texts": [[{"user": f"q{i}", "assistant": "a"}] * 3 for i in range(rows)],
      "n": list(range(rows)),
      "s": [0.5 * i for i in range(rows)],
      "ok": [True] * rows,
    }
  )


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("compression", ["none", "snappy", "zstd"])
def test_pages_are_those_that_were_written(tmp_path, version, compression):
  path = str(tmp_path / "a.parquet")
  table = _table()
  pq.write_table(
    table,
    path,
    compression=compression,
    data_page_version=version,
    data_page_size=10_000,
    row_group_size=30,
    use_dictionary=["texts.list.element.user"],
  )
  meta = parquet.opened(path).metadata
  for group in range(2):
    found = parquet.check(path, meta, group)
    assert len(found) == meta.num_columns
    for i in range(meta.num_columns):
      column = meta.row_group(group).column(i)
      mine = found[column.path_in_schema]
      assert mine.values == column.num_values
      assert 0 < mine.page <= column.total_uncompressed_size
      assert bool(mine.dictionary) == column.has_dictionary_page
  picture = parquet.check(path, meta, 0)["image.bytes"]
  assert 9_000 <= picture.page < 13_000 + 1024 * 3004
  assert [row for _, row in parquet.read(path, 0, 2, 0)] == table.to_pylist()


def test_shared_values_give_the_same_rows(tmp_path, monkeypatch):
  path = str(tmp_path / "a.parquet")
  row = {
    "images": [{"bytes": b"x" * 5000}, {"bytes": b"y" * 7}, None],
    "image": b"z" * 3000,
    "caption": "é",
    "n": 1,
  }
  rows = [row | {"n": i} for i in range(9)]
  pq.write_table(pa.Table.from_pylist(rows), path)
  plain = list(parquet.read(path, 0, 1, 0))
  assert [r for _, r in plain] == rows
  monkeypatch.setattr(budget, "HEAVY", 10)
  columns = parquet.check(path, parquet.opened(path).metadata, 0)
  assert "images.list.element.bytes" in parquet.shared(columns)
  assert list(parquet.read(path, 0, 1, 0)) == plain


def test_a_row_is_measured_with_all_that_it_shares(tmp_path, monkeypatch):
  path = bombs.parquet(tmp_path / "a.parquet", 3, 1000, 5)
  monkeypatch.setattr(budget, "HEAVY", 10)
  monkeypatch.setattr(limits, "ROW", 4_999)
  found = [row for _, row in parquet.read(str(path), 0, 1, 0)]
  assert all(isinstance(r, BadRecord) and "5,000" in r.reason for r in found)
  monkeypatch.setattr(limits, "ROW", 5_200)
  found = [row for _, row in parquet.read(str(path), 0, 1, 0)]
  assert [len(r["images"]) for r in found] == [5] * 3


def test_many_values_are_refused_by_their_number(tmp_path, monkeypatch):
  path = str(tmp_path / "a.parquet")
  pq.write_table(pa.table({"n": [[0] * 10_000] * 10}), path)
  monkeypatch.setattr(limits, "ROW", 10**6)
  ((where, row),) = parquet.read(path, 0, 1, 0)
  assert isinstance(row, BadRecord) and where.endswith("[0]")
  assert "10 rows" in row.reason and "100,000 values" in row.reason


def test_damaged_headers_of_pages(tmp_path):
  path = tmp_path / "a.parquet"
  pq.write_table(pa.table({"n": list(range(1000))}), path)
  good = path.read_bytes()
  for at in range(4, 24):
    for value in (0, 0xFF, good[at] ^ 0x80):
      parquet.opened.cache_clear()
      path.write_bytes(good[:at] + bytes([value]) + good[at + 1 :])
      for _, row in parquet.read(str(path), 0, 1, 0):
        assert isinstance(row, (dict, BadRecord))


def test_structs_that_go_on_or_are_none():
  with pytest.raises(thrift.Short):
    thrift.read(bytes([0x15, 4, 0x15]))
  with pytest.raises(ValueError, match="nested"):
    thrift.read(bytes([0x1C]) * 50)
  with pytest.raises(ValueError, match="kind 13"):
    thrift.read(bytes([0x1D, 0]))
  with pytest.raises(ValueError, match="ten bytes"):
    thrift.read(bytes([0x15]) + b"\xff" * 20)
