"""`emma-benchmark cases FILE`: what it prints, and its exit code."""

import json

import pytest

from emma_jax.cli import benchmark

CASE = {
  "id": "DocVQA.anls.1",
  "benchmark": "DocVQA",
  "metric": "anls",
  "impl": "vlmevalkit",
  "inputs": {"answers": ["abcde"], "prediction": "abcdx"},
  "expected": 0.8,
}


def run(tmp_path, *entries) -> int:
  path = tmp_path / "cases.json"
  path.write_text(json.dumps({"cases": entries}))
  return benchmark.main(["cases", str(path)])


@pytest.mark.smoke
def test_all_passed(tmp_path, capsys):
  assert run(tmp_path, CASE, CASE | {"impl": "pix2struct"}) == 0
  assert capsys.readouterr().out.splitlines() == [
    "1/1  DocVQA anls pix2struct",
    "1/1  DocVQA anls vlmevalkit",
    "",
    "2/2 passed",
  ]


def test_a_failure_is_shown_in_full(tmp_path, capsys):
  assert run(tmp_path, CASE, CASE | {"id": "other", "expected": "x"}) == 1
  out = capsys.readouterr().out
  assert "1/2  DocVQA anls vlmevalkit" in out
  assert "FAILED other\n  expected: 'x'\n  got:      0.8\n" in out
  assert out.endswith("1/2 passed\n")


def test_an_unknown_triple_names_what_there_is(tmp_path, capsys):
  assert run(tmp_path, CASE | {"impl": "nobody"}) == 1
  out = capsys.readouterr().out
  assert "No scorer for DocVQA anls nobody" in out and "pix2struct" in out


def test_mistakes_are_one_line(tmp_path, capsys):
  assert benchmark.main(["cases", str(tmp_path / "none.json")]) == 2
  assert "none.json" in capsys.readouterr().err
  assert benchmark.main(["cases", "x.json", "--config.a=1"]) == 2
  assert "no --config keys" in capsys.readouterr().err
