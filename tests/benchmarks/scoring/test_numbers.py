"""ChartQA: five percent of the reference, and the texts where it does not."""

import math

from hypothesis import given
from hypothesis import strategies as st
import pytest

from emma_jax.benchmarks.scoring import numbers
from tests.laws import laws

IMPLS = ("pix2struct", "lmms_eval", "vlmevalkit")


def score(impl: str, answer: str, prediction: str) -> float:
  scorer = numbers.SCORERS["ChartQA", "relaxed_accuracy", impl]
  return scorer(answer=answer, prediction=prediction)


@pytest.mark.smoke
@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize(
  "answer, prediction, right",
  [
    ("14", "14.0", 1.0),
    ("20", "21", 1.0),  # the edge
    ("20", "21.01", 0.0),
    ("14", "13.3", 1.0),  # the other edge: rounding decides
    ("-20", "-19", 1.0),
    ("-3", "3", 0.0),
    ("10", "10%", 0.0),
    ("10%", "0.1", 1.0),
    ("5%%", "5%", 1.0),  # every sign is taken off
    ("0", "0.0", 0.0),  # no share of nothing: compared as text
    ("0", "0", 1.0),
    ("0%", "0.0", 0.0),
    ("1,000", "1000", 0.0),  # no number
    ("1,000", "1,000", 1.0),
    ("1e3", "1000", 1.0),
    ("1_000", "1000", 1.0),
    ("١٤", "14", 1.0),
    (" 2018", "2018 ", 1.0),
    ("nan", "nan", 0.0),
    ("inf", "inf", 0.0),
    ("5", "nan", 0.0),
    ("Yes", "yEs", 1.0),
    ("%", "%", 1.0),
    ("", "", 1.0),
    ("About 20", "20", 0.0),
  ],
)
def test_one_rule_in_all_implementations(impl, answer, prediction, right):
  assert score(impl, answer, prediction) == right


def test_vlmevalkit_alone_strips_the_prediction():
  assert score("vlmevalkit", "Yes", " yes\n") == 1.0
  assert score("lmms_eval", "Yes", " yes\n") == 0.0
  assert score("pix2struct", "Yes", " yes\n") == 0.0


def test_a_column_that_reads_as_a_list_is_several_references():
  scorer = numbers.SCORERS["ChartQA", "tsv_answer_eval", "vlmevalkit"]
  assert scorer(answer_column="[2014, 'x']", prediction=" X") == {
    "match": [False, True],
    "score": 1.0,
  }
  one = {"match": [True], "score": 1.0}
  assert scorer(answer_column="2014", prediction="2014") == one
  assert scorer(answer_column="[2014", prediction="[2014") == one
  assert scorer(answer_column="(2014, 1)", prediction="(2014, 1)") == one


def test_a_column_is_never_run(tmp_path):
  there = tmp_path / "made"
  code = f"[open({str(there)!r}, 'w')]"
  assert numbers.vlmevalkit_matches(code, "x") == [False]
  assert not there.exists()


@laws(200)
@given(
  st.floats(min_value=0.001, max_value=1e6),
  st.floats(min_value=-0.5, max_value=0.5),
)
def test_a_number_is_right_within_five_percent(reference, change):
  near = math.isclose(abs(change), numbers.TOLERANCE, abs_tol=1e-6)
  if not near:
    said = repr(reference * (1 + change))
    right = abs(change) < numbers.TOLERANCE
    assert numbers.relaxed_match(repr(reference), said) == right


@laws(200)
@given(st.text(max_size=8), st.text(max_size=8))
def test_texts_match_themselves_and_both_ways(one, other):
  number = numbers.parse(one)
  if number is None or not number:
    assert numbers.relaxed_match(one, one)
  if numbers.parse(one) is None and numbers.parse(other) is None:
    assert numbers.relaxed_match(one, other) == numbers.relaxed_match(
      other, one
    )
