import dataclasses
import errno
import json
import os

import pytest

from emma_jax.benchmarks import folders, records
from emma_jax.benchmarks.records import Outcome, Prediction

LINES = [
  Prediction(
    id=str(n), repeat=0, key=f"k{n}", settings="s", prompt="p", text="é\n\u2028"
  )
  for n in range(4)
]


def write(path, lines=LINES):
  with records.Appender(path) as out:
    out.add(lines)
  return path


def test_lines_come_back_as_they_were(tmp_path):
  """Also with a line break, or a line separator, within a text."""
  path = write(tmp_path / "deep" / "part-0.jsonl")
  assert list(records.load(Prediction, path)) == LINES
  assert list(records.load(Prediction, tmp_path / "nothing.jsonl")) == []


def test_a_line_cut_anywhere_is_dropped_and_written_over(tmp_path):
  """Whatever byte a kill stops at, no line before is lost, none is torn."""
  path = write(tmp_path / "part-0.jsonl")
  whole = path.read_bytes()
  starts = [0, *(i + 1 for i, b in enumerate(whole) if b == 10)]
  for end in range(len(whole) + 1):
    path.write_bytes(whole[:end])
    kept = sum(s <= end for s in starts[1:])
    assert list(records.load(Prediction, path)) == LINES[:kept]
    assert records.whole_length(path) == starts[kept]
  path.write_bytes(whole[:-7])
  write(path, LINES[3:])
  assert path.read_bytes() == whole


@pytest.mark.parametrize(
  "line", ['{"id": 1', "[]", '{"id": "1", "new": 2}', ""]
)
def test_a_damaged_line_is_named(tmp_path, line):
  path = write(tmp_path / "part-0.jsonl", LINES[:1])
  with open(path, "a") as file:
    file.write(line + "\n")
  with pytest.raises(records.BadRun, match=r"part-0\.jsonl, line 2: no pred"):
    list(records.load(Prediction, path))


def test_no_number_that_json_lacks_is_written(tmp_path):
  bad = Outcome(id="1", repeat=0, impl="x", score=float("nan"), cluster="1")
  with records.Appender(tmp_path / "o.jsonl") as out, pytest.raises(ValueError):
    out.add([bad])
  assert os.path.getsize(tmp_path / "o.jsonl") == 0


def test_a_file_has_one_writer(tmp_path):
  with (
    records.Appender(tmp_path / "p.jsonl"),
    pytest.raises(records.BadRun, match="another process"),
  ):
    records.Appender(tmp_path / "p.jsonl")
  write(tmp_path / "p.jsonl")  # it is free again


def test_a_full_disk_is_told_with_the_file_and_loses_no_line(
  tmp_path, monkeypatch
):
  path = write(tmp_path / "p.jsonl", LINES[:1])

  def full(_):
    raise OSError(errno.ENOSPC, "No space left on device")

  with records.Appender(path) as out, monkeypatch.context() as disk:
    disk.setattr(records.os, "fsync", full)
    with pytest.raises(records.BadRun, match=r"p\.jsonl cannot be written"):
      out.add(LINES[1:2])
  assert list(records.load(Prediction, path))[:1] == LINES[:1]
  (tmp_path / "file").write_text("")
  with pytest.raises(records.BadRun, match=r"a\.json cannot be written"):
    folders.write_json(str(tmp_path / "file" / "a.json"), {})


@pytest.mark.parametrize(
  "field, value", [("repeat", "0"), ("id", 1), ("text", None), ("tokens", 1.5)]
)
def test_a_value_of_another_kind_is_named(tmp_path, field, value):
  """Else it would be taken for a prediction that is missing."""
  line = dataclasses.asdict(LINES[0]) | {field: value}
  path = tmp_path / "part-0.jsonl"
  path.write_text(json.dumps(line) + "\n")
  with pytest.raises(records.BadRun, match=f"line 1: no pred.*{field} is"):
    list(records.load(Prediction, path))


def test_one_line_for_each_name():
  by = lambda p: p.id
  lines = [(f"file, line {n}", p) for n, p in enumerate(LINES)]
  assert records.once(lines + lines[:1], by) == {p.id: p for p in LINES}
  other = dataclasses.replace(LINES[0], text="other")
  with pytest.raises(records.BadRun, match="again, line 1 and file, line 0"):
    records.once([*lines, ("again, line 1", other)], by)


def test_digests_depend_on_the_content_alone():
  assert records.digest({"a": 1, "b": 2}) == records.digest({"b": 2, "a": 1})
  assert records.digest({"a": 1}) != records.digest({"a": 2})
