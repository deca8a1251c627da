"""Golden cases: how outcomes are compared, and those of the originals."""

import json
import math
import subprocess
import sys
import time

import numpy as np
import pytest

from emma_jax.benchmarks import cases
from emma_jax.benchmarks.scoring import registry

UNDERSTANDING = (
  *("ChartQA", "DocVQA", "InfoVQA", "TextVQA", "OCRBench", "MMBench", "MMMU"),
  *("MathVista", "AI2D", "MMStar", "MM-Vet"),
)


@pytest.mark.parametrize("benchmark", UNDERSTANDING)
def test_what_the_originals_gave(shared_dir, benchmark):
  path = shared_dir / "data" / "benchmarks" / "metric_cases.json"
  some = [c for c in cases.read(path) if c.triple[0] == benchmark]
  tallies = cases.run(some)
  assert some and sum(t.passed for t in tallies.values()) == len(some), [
    (f.case.id, f.case.expected, str(f.got))
    for tally in tallies.values()
    for f in tally.failures
  ]


def test_scorers_leave_their_inputs_alone(shared_dir):
  """The same inputs again give the same, whoever has them."""
  path = shared_dir / "data" / "benchmarks" / "metric_cases.json"
  for case in cases.read(path):
    if case.triple[0] in UNDERSTANDING:
      before = json.dumps(case.inputs)
      try:
        registry.find(*case.triple)(**case.inputs)
      except Exception:
        assert set(case.expected) == {"raises"}, case.id
      assert json.dumps(case.inputs) == before, case.id


NAN = float("nan")


@pytest.mark.smoke
@pytest.mark.parametrize(
  "expected, got, alike",
  [
    (1.0, 1, True),
    (1.0, 1 + 5e-10, True),
    (1.0, 1 + 5e-9, False),
    (1e-6, 1.1e-6, False),
    (0.19999998807907104, 0.2, True),  # a float32: 1e-6
    (0.19999998807907104, 0.200001, False),
    (0.2, 0.19999998807907104, False),
    (1e300, 1e300, True),
    (0.0, 0, True),
    (0.0, 1e-9, False),
    (1, True, False),
    (True, True, True),
    (False, None, False),
    (None, None, True),
    ("a", "a", True),
    ("1", 1, False),
    ("NaN", NAN, True),
    ("NaN", np.float32("nan"), True),
    (NAN, NAN, True),
    ("NaN", 1.0, False),
    (1.0, NAN, False),
    ([1, 2], (1, 2), True),
    ([1, 2], np.array([1, 2]), True),
    ([1, 2], [1, 2, 3], False),
    ([], "", False),
    ("ab", ["a", "b"], False),
    ({"x": [1, {"y": "NaN"}]}, {"x": (1.0, {"y": NAN})}, True),
    ({"x": 1}, {"x": 1, "y": 2}, False),
    ({"x": 1}, {"z": 1}, False),
    ({"x": "<order of a python set>", "y": 1}, {"x": "any", "y": 1}, True),
    ({"x": "<order of a python set>"}, {}, False),
    ({"random_choice_among": ["A", "B"]}, "B", True),
    ({"random_choice_among": ["A", "B"]}, "C", False),
    ({"hit": {"random_choice_among": [0, 1]}}, {"hit": 0}, True),
    ({"raises": "KeyError"}, cases.Raised(KeyError("x")), True),
    ({"raises": "LookupError"}, cases.Raised(KeyError("x")), True),
    ({"raises": "KeyError"}, cases.Raised(ValueError("x")), False),
    ({"raises": "KeyError"}, 1, False),
    (1, cases.Raised(KeyError("x")), False),
    (1.0, np.float32(1), True),
    (True, np.bool_(True), True),
  ],
)
def test_same(expected, got, alike):
  assert cases.same(expected, got) == alike


def entry(**more) -> dict:
  return {
    "id": "one",
    "benchmark": "DocVQA",
    "metric": "anls",
    "impl": "vlmevalkit",
    "inputs": {"answers": ["abcde"], "prediction": "abcdx"},
    "expected": 0.8,
  } | more


def write(path, *entries):
  path.write_text(json.dumps({"_readme": {}, "cases": entries}))
  return path


def test_tallies_are_per_triple(tmp_path):
  other = {"impl": "pix2struct", "expected": 0.9}
  path = write(tmp_path / "c.json", entry(), entry(**other), entry(expected=1))
  tallies = cases.run(cases.read(path))
  assert [(t.passed, t.total) for t in tallies.values()] == [(1, 2), (0, 1)]
  (failure,) = tallies["DocVQA", "anls", "pix2struct"].failures
  assert failure.case.expected == 0.9
  assert math.isclose(failure.got, 0.8)


def test_an_unknown_triple_and_wrong_inputs_fail(tmp_path):
  path = write(
    tmp_path / "c.json", entry(impl="nobody"), entry(inputs={"text": "x"})
  )
  unknown, wrong = (
    str(failure.got)
    for tally in cases.run(cases.read(path)).values()
    for failure in tally.failures
  )
  assert "UnknownScorer" in unknown and "vlmevalkit" in unknown
  assert "TypeError" in wrong


def test_no_case_that_expects_an_error_hides_an_unknown_triple(tmp_path):
  raises = {"expected": {"raises": "LookupError"}}
  path = write(tmp_path / "c.json", entry(impl="nobody", **raises))
  (tally,) = cases.run(cases.read(path)).values()
  assert tally.passed == 0


@pytest.mark.parametrize(
  "content, message",
  [
    ("{", "Expecting"),
    ("{}", "no cases"),
    ('{"cases": []}', "no cases"),
    ('{"cases": [3]}', "case 1 lacks id"),
    (json.dumps({"cases": [entry(inputs=[1])]}), "case 1 has no named"),
    (json.dumps({"cases": [entry(), {"id": "x"}]}), "case 2 lacks benchmark"),
  ],
)
def test_a_file_that_is_none_says_where(tmp_path, content, message):
  path = tmp_path / "c.json"
  path.write_text(content)
  with pytest.raises(cases.BadCases, match=message) as error:
    cases.read(path)
  assert str(path) in str(error.value)


def test_a_missing_file_is_named(tmp_path):
  with pytest.raises(cases.BadCases, match="none.json"):
    cases.read(tmp_path / "none.json")


def test_all_cases_take_seconds_and_no_jax(shared_dir):
  path = shared_dir / "data" / "benchmarks" / "metric_cases.json"
  program = f"""
import sys
from emma_jax.cli import benchmark
benchmark.main(["cases", {str(path)!r}])
assert not set(sys.modules) & {{"jax", "jaxlib", "flax", "torch"}}
"""
  start = time.monotonic()
  done = subprocess.run(
    [sys.executable, "-c", program], check=True, capture_output=True, text=True
  )
  assert time.monotonic() - start < 20
  assert f"/{len(cases.read(path))} passed" in done.stdout
