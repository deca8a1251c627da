"""What reads a finished run: compare, gate, rescore, report."""

import json
import xml.etree.ElementTree as ET

import pytest

from emma_jax.cli import benchmark
from tests import programs
from tests.benchmarks import finished
from tests.benchmarks.finished import Finished


@pytest.fixture
def runs(tmp_path):
  """Two runs of ChartQA, the second worse; their folders."""
  finished.charts(tmp_path / "data", 60)
  made = []
  for name, wrong in (("a", ()), ("b", range(20))):
    one = Finished(tmp_path / name, tmp_path / "data")
    # A limit, since the whole set has more rows.
    one.add("chartqa", finished.says(wrong=wrong, spaced=[41]), limit=60)
    made.append(one.save())
  return made


def run(*arguments: str) -> int:
  return benchmark.main(list(arguments))


def read(folder: str, name: str):
  with open(f"{folder}/{name}", encoding="utf-8") as file:
    return json.load(file)


def test_compare(runs, capsys):
  assert run("compare", *runs) == 0
  out = capsys.readouterr().out
  assert "98.3    65.0    -33.3" in out and "worse" in out
  assert run("compare", runs[0], "--published") == 0
  out = capsys.readouterr().out
  assert "EMMA: not comparable: split, implementation and prompts" in out
  assert "88.0    +10.3" in out


def test_compare_needs_something_to_compare_with(runs, capsys):
  assert run("compare", runs[0]) == 2
  assert run("compare", *runs, "--published") == 2
  assert "a second folder of results, or --published" in capsys.readouterr().err
  assert run("compare", *runs, "--sets", "mmmu") == 2
  assert "no results of 'mmmu'" in capsys.readouterr().err


def test_gate(runs, tmp_path, capsys):
  a, b = runs
  assert run("gate", a, "--against", b) == 0
  junit = tmp_path / "gate.xml"
  assert run("gate", b, "--against", a, "--junit", str(junit)) == 1
  assert "failed" in capsys.readouterr().out
  assert ET.parse(junit).getroot().get("failures") == "1"
  assert run("gate", b, "--against", a, "--margin", "50") == 0
  for margin in ("-1", "nan"):
    with pytest.raises(SystemExit) as stop:
      run("gate", b, "--against", a, "--margin", margin)
    assert stop.value.code == 2
  assert "is not a number from 0 to 100" in capsys.readouterr().err


def test_gate_of_another_yardstick(runs, tmp_path, capsys):
  other = Finished(tmp_path / "c", tmp_path / "data")
  other.add("chartqa", finished.says(), impl="lmms_eval", limit=60)
  assert run("gate", other.save(), "--against", runs[0]) == 2
  assert "implementation: 'lmms_eval', was 'vlmevalkit'" in (
    capsys.readouterr().out
  )


def test_report(runs, capsys):
  assert run("report", "--out", runs[0]) == 0
  path = capsys.readouterr().out.strip()
  with open(path, encoding="utf-8") as file:
    assert "How many of 0?" in file.read()


def test_rescore(runs, capsys):
  """The headline changes; numbers do not, and nothing else is lost."""
  before = read(runs[0], "results.json")
  assert run("rescore", runs[0], "--impl", "lmms_eval") == 0
  assert "lmms_eval" in capsys.readouterr().out
  after = read(runs[0], "results.json")
  (was,), (now,) = before["sets"], after["sets"]
  assert (was["impl"], now["impl"]) == ("vlmevalkit", "lmms_eval")
  assert now["numbers"][0]["impl"] == "lmms_eval"

  def by_impl(entry):
    return {n["impl"]: n for n in entry["numbers"]}

  assert by_impl(now) == by_impl(was)
  assert now.keys() == was.keys()
  assert after["config"]["sets"]["chartqa"]["impl"] == "lmms_eval"
  config = read(runs[0], "config.json")
  assert config["sets"]["chartqa"]["impl"] == "lmms_eval"
  assert run("rescore", runs[0], "--impl", "vlmevalkit") == 0
  back = read(runs[0], "results.json")
  assert by_impl(back["sets"][0]) == by_impl(was)


def test_rescore_by_what_is_not_there(runs, capsys):
  assert run("rescore", runs[0], "--impl", "mmf") == 2
  assert "No set has an implementation 'mmf'" in capsys.readouterr().err
  assert run("rescore", runs[0], "--impl", "mmf", "--sets", "chartqa") == 2
  assert "it has vlmevalkit, pix2struct, lmms_eval" in capsys.readouterr().err


def test_folders_without_results(tmp_path, capsys):
  folder = str(tmp_path)
  for command in (
    ("compare", folder, folder),
    ("gate", folder, "--against", folder),
    ("rescore", folder, "--impl", "original"),
    ("report", "--out", folder),
  ):
    assert run(*command) == 2
    assert "no benchmark has been run into this folder" in (
      capsys.readouterr().err
    )


def test_no_jax_is_needed(runs):
  program = """
import sys
from emma_jax.cli import benchmark
a, b = sys.argv[1:]
benchmark.main(["compare", a, b])
benchmark.main(["gate", a, "--against", b])
benchmark.main(["rescore", a, "--impl", "lmms_eval"])
benchmark.main(["report", "--out", a])
"""
  assert not programs.loaded(program, *runs) & {"jax", "flax", "torch"}
