"""Files are cut into parts whose rows, put together, are the file's."""

import importlib
import io
import json
import sys
import tarfile

import numpy as np
import pytest

from emma_jax.data.ingest import containers, files, parquet, sequences
from emma_jax.data.pictures.images import BadRecord
from tests.data import made

OPTIONS = sequences.Options()


def _read(path, rows: int) -> list:
  parts = containers.split(str(path), rows, OPTIONS)
  found = [list(containers.read(part, OPTIONS)) for part in parts]
  if all(part.rows is not None for part in parts):
    assert [p.rows for p in parts] == [len(f) for f in found]
  return [item for items in found for item in items]


def test_json_lines_in_parts(tmp_path):
  lines = {"n": 1}, "{", {"n": 2}, b"\xff\xfe", "[1]", {"n": 3}
  path = made.jsonl(tmp_path / "a.jsonl", *lines)
  whole = _read(path, 100)
  good = [row["n"] for _, row in whole if isinstance(row, dict)]
  assert good == [1, 2, 3]
  bad = [
    (w.rpartition(":")[2], r.reason)
    for w, r in whole
    if isinstance(r, BadRecord)
  ]
  assert [line for line, _ in bad] == ["2", "4", "5"]
  assert "codec" in bad[1][1] and "list instead" in bad[2][1]
  for rows in (1, 2, 4):
    assert str(_read(path, rows)) == str(whole)


@pytest.mark.parametrize("indent", [None, 2])
def test_a_json_list_in_parts(tmp_path, indent):
  values = [{"n": i, "s": '"}]{[\\', "l": [{"k": [i]}]} for i in range(7)]
  path = tmp_path / "a.json"
  path.write_text(json.dumps(values, indent=indent))
  for rows in (1, 3, 7, 100):
    found = _read(path, rows)
    assert [row for _, row in found] == values
    assert found[4][0] == f"{path}[4]"


def test_a_json_list_that_breaks_off(tmp_path):
  values = [{"n": i} for i in range(5)]
  path = tmp_path / "a.json"
  path.write_text(json.dumps(values)[:-6])
  *good, (_, last) = _read(path, 2)
  assert [row for _, row in good] == values[:4]
  assert isinstance(last, BadRecord) and "no JSON" in last.reason
  path.write_text('{"a":\n1}')
  with pytest.raises(ValueError, match="'\\[' of a JSON list"):
    _read(path, 2)


def _tar(path, members: dict[str, bytes]):
  with tarfile.open(path, "w") as tar:
    for name, data in members.items():
      member = tarfile.TarInfo(name)
      member.size = len(data)
      tar.addfile(member, io.BytesIO(data))
  return path


_A, _B = '{"n": 1}', '{"n": 2, "t": "[{"}'
_AS_ONE = {
  "a list": f"[{_A}, {_B}]",
  "a list of lines": f"[\n{_A},\n{_B},\n]\n",
  "a list with indents": json.dumps([json.loads(_A), json.loads(_B)], indent=1),
  "lines": f"{_A}\r\n{_B}",
  "a mark, then a list": f"\ufeff[{_A},{_B}]",
  "a mark, then lines": f"\ufeff{_A}\n{_B}\n",
}


@pytest.mark.parametrize("end", [".json", ".jsonl", ".ndjson"])
@pytest.mark.parametrize("text", _AS_ONE.values(), ids=_AS_ONE)
@pytest.mark.parametrize("rows", [1, 9])
def test_a_list_and_lines_are_known_by_their_begin(tmp_path, end, text, rows):
  """Each is often written under the other's name."""
  path = tmp_path / f"x{end}"
  path.write_text(text)
  found = [row for _, row in _read(path, rows)]
  assert found == [json.loads(_A), json.loads(_B)]


def test_lines_that_are_lists_are_lines(tmp_path):
  path = tmp_path / "x.jsonl"
  path.write_text(f'["a"]\n{_A}\n')
  (_, bad), (_, good) = _read(path, 9)
  assert isinstance(bad, BadRecord) and good == json.loads(_A)


@pytest.mark.parametrize("rows", [1, 2, 9])
@pytest.mark.parametrize(
  "text, wanted",
  [
    (f"[{_A}, null, {_B}]", "1 NoneType 2"),
    (f'["a{{", {_A}, 3, {_B}, true]', "str 1 int 2 bool"),
    (f"[{_A}, 3, 4, {_B}]", "1 JSON: 2"),
    (f"[{_A}, {_B}] and more", "1 2 JSON:"),
    (f"[{_A}]\n[{_B}]", "1 2"),
    ("[1, 2]", "JSON:"),
    (f"[{_A},,{_B},]", "1 2"),
  ],
)
def test_what_stands_between_objects_is_told(tmp_path, rows, text, wanted):
  """Of a list nothing is passed over, in one part or in many."""
  path = tmp_path / "x.json"
  path.write_text(text)
  found = [
    row.reason.removeprefix("no ").split()[0]
    if isinstance(row, BadRecord)
    else str(row["n"])
    for _, row in _read(path, rows)
  ]
  assert " ".join(found) == wanted


@pytest.mark.parametrize("end", [".tar.bz2", ".tbz2", ".tar.xz", ".TXZ"])
def test_archives_of_every_compression_go_by_their_names(end):
  assert files.kind_of(f"a{end}") == "tar"


def test_web_datasets(tmp_path):
  path = _tar(
    tmp_path / "a.tar",
    {
      "x/1.jpg": b"one",
      "x/1.txt": b" cap \n",
      "x/1.cls": b"3",
      "2.json": b'{"caption": "two", "id": 7}',
      "2.png": b"two",
      "3.txt": b"\xff",
      "3.png": b"3",
      "4.source.png": b"s",
      "4.target.webp": b"t",
      "4.instruction.txt": b"do",
    },
  )
  (_, a), (_, b), (where, bad), (_, d) = _read(path, 1)
  assert a == {"__key__": "x/1", "image": b"one", "caption": "cap", "id": "x/1"}
  assert b["caption"] == "two" and b["image"] == b"two" and b["id"] == 7
  assert isinstance(bad, BadRecord) and where == f"{path}:3"
  assert "codec" in bad.reason
  assert (d["source"], d["target"], d["instruction"]) == (b"s", b"t", "do")


def test_a_tar_that_breaks_off(tmp_path):
  path = _tar(tmp_path / "a.tar", {f"{i}.jpg": b"x" * 2000 for i in range(4)})
  path.write_bytes(path.read_bytes()[:6000])
  found = _read(path, 1)
  good = [row for _, row in found if isinstance(row, dict)]
  assert [row["__key__"] for row in good] == ["0", "1"]
  assert isinstance(found[-1][1], BadRecord)
  path.write_bytes(b"no tar at all")
  ((_, bad),) = _read(path, 1)
  assert "no tar" in bad.reason


def test_sequences_from_python(tmp_path, monkeypatch):
  (tmp_path / "my_rows.py").write_text(
    "class Rows:\n"
    "  def __len__(self): return 3\n"
    "  def __getitem__(self, i):\n"
    "    if i == 1: raise OSError('gone')\n"
    "    return {'n': i, 'b': b'text'}\n"
    "def rows(): return Rows()\n"
  )
  monkeypatch.syspath_prepend(tmp_path)
  (_, a), (where, bad), (_, c) = _read("python:my_rows:rows", 2)
  assert a == {"n": 0, "b": "text"} and c["n"] == 2
  assert where == "python:my_rows:rows[1]" and "gone" in bad.reason


_BUILDER = """
import io
import tensorflow_datasets as tfds
from tests.data import made

class Builder(tfds.core.GeneratorBasedBuilder):
  VERSION = tfds.core.Version("1.0.0")

  def _info(self):
    picture = tfds.features.Image(encoding_format="png")
    features = tfds.features.FeaturesDict({
        "source": picture, "target": picture,
        "instruction": tfds.features.Text()})
    return tfds.core.DatasetInfo(builder=self, features=features)

  def _split_generators(self, manager):
    return {"train": self._generate_examples()}

  def _generate_examples(self):
    for i in range(3):
      yield i, {"source": io.BytesIO(made.picture("red")),
                "target": io.BytesIO(made.picture("blue")),
                "instruction": f"do {i}"}
"""


def test_tensorflow_datasets_without_tensorflow(tmp_path, monkeypatch):
  """A prepared set is read by its name; pictures come as they were encoded."""
  pytest.importorskip("tensorflow_datasets")
  package = tmp_path / "made_edits"
  package.mkdir()
  (package / "made_edits_dataset_builder.py").write_text(_BUILDER)
  monkeypatch.syspath_prepend(tmp_path)
  module = importlib.import_module("made_edits.made_edits_dataset_builder")
  data = str(tmp_path / "data")
  module.Builder(
    data_dir=data, file_format="array_record"
  ).download_and_prepare()
  options = sequences.Options(data_dir=data)
  (part,) = containers.split("tfds:made_edits:train", 10, options)
  found = [row for _, row in containers.read(part, options)]
  assert sorted(row["instruction"] for row in found) == ["do 0", "do 1", "do 2"]
  assert found[0]["source"] == made.picture("red")
  assert "tensorflow" not in sys.modules
  with pytest.raises(ValueError, match="tfds:lost_set:train: Dataset lost_set"):
    containers.split("tfds:lost_set:train", 10, options)


def test_names_that_tell_nothing():
  with pytest.raises(ValueError, match="ends in none of"):
    containers.split("a.xls", 1, OPTIONS)


def test_parquet(tmp_path):
  pa = pytest.importorskip("pyarrow")
  import pyarrow.parquet as pq

  noise = np.random.default_rng(0).bytes(50_000)
  rows = [
    {"n": i, "image": {"bytes": noise[5000 * i :][:5000], "path": None}}
    for i in range(10)
  ]
  path = tmp_path / "a.parquet"
  pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=4)
  for count in (1, 5, 100):
    found = _read(path, count)
    assert [row for _, row in found] == rows
  assert found[7][0] == f"{path}[7]"
  assert len(containers.split(str(path), 5, OPTIONS)) == 2
  # Damage in the second row group; the third is read all the same.
  parquet.opened.cache_clear()
  data = bytearray(path.read_bytes())
  at = data.find(noise[25_100:25_120])
  data[at : at + 9000] = b"\xee" * 9000
  path.write_bytes(data)
  found = _read_all(path)
  good = [row["n"] for _, row in found if isinstance(row, dict)]
  assert {8, 9} <= set(good) and len(good) < 10
  assert any(isinstance(row, BadRecord) for _, row in found)
  parquet.opened.cache_clear()
  path.write_bytes(b"PAR1")
  with pytest.raises(ValueError, match="no Parquet file"):
    _read_all(path)


def _read_all(path) -> list:
  (part,) = containers.split(str(path), 100, OPTIONS)
  return list(containers.read(part, OPTIONS))


def test_parquet_without_pyarrow(tmp_path, monkeypatch):
  parquet.opened.cache_clear()
  monkeypatch.setitem(sys.modules, "pyarrow", None)
  monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
  with pytest.raises(ImportError, match="extra `data`"):
    containers.split(str(tmp_path / "a.parquet"), 1, OPTIONS)
