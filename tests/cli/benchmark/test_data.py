"""emma-benchmark data on folders with some of the sets."""

import json
import subprocess
import sys

from emma_jax.cli import benchmark, common
from tests.benchmarks.data.test_folder import TEXT, tsv


def run(*arguments) -> int:
  return common.run(benchmark.main, list(map(str, arguments)))


def test_what_is_there_and_what_is_not(tmp_path, capsys):
  head = ("index", "image", "question", "answer", "category")
  rows = [(str(n), TEXT, "q", "a", "ocr") for n in range(218)]
  tsv(tmp_path, "MMVet", head, *rows)
  report = tmp_path / "out.json"
  asked = ("data", "--data", tmp_path, "--json", report)
  assert run(*asked, "--sets", "mmvet,docvqa:test") == 1
  out = capsys.readouterr().out
  first, second, *_ = (line.split() for line in out.splitlines())
  assert first[:7] == ["mmvet", "test", "unknown", "218", "of", "218", "tsv"]
  assert second[:6] == ["docvqa", "test", "missing", "-", "of", "5,188"]
  assert "docvqa (test): DocVQA (test) is not in" in out
  assert [e["status"] for e in json.loads(report.read_text())] == [
    "unknown",
    "missing",
  ]
  assert run(*asked, "--sets", "mmvet") == 0


def test_wrong_names_and_folders(tmp_path, capsys):
  assert run("data", "--data", tmp_path / "none") == 2
  assert "is no folder" in capsys.readouterr().err
  assert run("data", "--data", tmp_path, "--sets", "mmve") == 2
  assert "No test set 'mmve'" in capsys.readouterr().err


def test_no_jax_is_needed(tmp_path):
  """Reading sets and telling of them."""
  code = (
    "import sys; from emma_jax.benchmarks.data import folder, sets; "
    "folder.inventory(sys.argv[1], [(n, '') for n in sets.SETS]); "
    "print([m for m in ('jax', 'flax', 'torch') if m in sys.modules])"
  )
  out = subprocess.run(
    [sys.executable, "-c", code, str(tmp_path)],
    capture_output=True,
    text=True,
    check=True,
  )
  assert out.stdout.strip() == "[]"
