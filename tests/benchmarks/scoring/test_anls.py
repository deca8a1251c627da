"""DocVQA and InfoVQA: where the implementations of ANLS part."""

from hypothesis import given
from hypothesis import strategies as st
import pytest

from emma_jax.benchmarks.scoring import anls
from emma_jax.benchmarks.scoring.edit_distance import distance
from tests.laws import laws

IMPLS = ("vlmevalkit", "lmms_eval", "pix2struct", "mmf_stvqa")
TEXTS = st.text(alphabet="abAB \n.1ß", max_size=8)


def score(impl: str, answers: list[str], prediction: str) -> float:
  return anls.SCORERS["DocVQA", "anls", impl](
    answers=answers, prediction=prediction
  )


@pytest.mark.smoke
@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize(
  "answers, prediction, expected",
  [
    (["hello world"], "Hello World", 1.0),
    (["0.28"], "0.28.", 0.8),
    (["$1,234"], "1234", 1 - 2 / 6),
    (["itc", "ITC Ltd"], "itc ltd", 1.0),
    (["a"], "", 0.0),
    (["3.0"], "3", 0.0),
  ],
)
def test_on_plain_texts_all_agree(impl, answers, prediction, expected):
  assert score(impl, answers, prediction) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
  "answers, prediction, expected",
  [
    # Exactly half is kept by all but pix2struct.
    (["abcd"], "abxy", (0.5, 0.5, 0.0, 0.5)),
    # White space inside and about: the raw lengths divide.
    (["Hello World"], "  hello   WORLD ", (1.0, 1.0, 0.6875, 11 / 13)),
    (["abcde"], "     abxyz     ", (0.8, 0.8, 0.0, 0.0)),
    # White space is a place that may differ, or is collapsed.
    (["New York\nCity"], "new york city", (1.0, 1.0, 12 / 13, 12 / 13)),
    # "ß" counts twice in a length: it is taken of the text in capitals.
    (["ßß"], "ab", (0.5, 0.5, 0.0, 0.0)),
  ],
)
def test_where_they_part(answers, prediction, expected):
  found = tuple(score(impl, answers, prediction) for impl in IMPLS)
  assert found == pytest.approx(expected, rel=1e-9)


def test_two_empty_texts():
  assert score("vlmevalkit", [""], "") == score("lmms_eval", [""], "") == 1.0
  for impl in ("pix2struct", "mmf_stvqa"):
    with pytest.raises(ZeroDivisionError):
      score(impl, [""], "")


@pytest.mark.parametrize("impl", IMPLS)
def test_a_question_needs_a_reference(impl):
  with pytest.raises(ValueError):
    score(impl, [], "a")


def test_overall_is_a_mean_in_percent():
  overall = anls.SCORERS["DocVQA", "anls_overall_x100", "vlmevalkit"]
  items = [
    {"answers": ["a"], "prediction": "a"},
    {"answers": ["abcde"], "prediction": "abcdx"},
    {"answers": ["abc"], "prediction": "z"},
  ]
  assert overall(items=items) == pytest.approx(60)


@laws(200)
@given(st.lists(TEXTS, min_size=1, max_size=3), TEXTS, TEXTS)
def test_scores_have_bounds_and_grow_with_references(answers, more, said):
  for impl in IMPLS:
    try:
      alone, joined = (
        score(impl, answers, said),
        score(impl, [*answers, more], said),
      )
    except ZeroDivisionError:
      continue
    assert alone == 0 or anls.THRESHOLD <= alone <= 1
    assert joined >= alone


@laws(200)
@given(TEXTS, TEXTS)
def test_case_does_not_count_and_both_sides_are_alike(one, other):
  if one.upper() and other.upper():
    for impl in ("vlmevalkit", "lmms_eval"):
      assert score(impl, [one], other) == score(impl, [other], one)
  if one.isascii():
    assert anls.similarity([one], one.upper()) == 1.0


@laws(200)
@given(TEXTS, TEXTS, TEXTS)
def test_the_distance_is_a_metric(a, b, c):
  assert distance(a, b) == distance(b, a)
  assert (distance(a, b) == 0) == (a == b)
  assert abs(len(a) - len(b)) <= distance(a, b) <= max(len(a), len(b))
  assert distance(a, c) <= distance(a, b) + distance(b, c)


def slow(a: str, b: str) -> int:
  """The distance by its definition."""
  if not a or not b:
    return len(a) + len(b)
  return min(
    slow(a[1:], b[1:]) + (a[0] != b[0]), slow(a[1:], b) + 1, slow(a, b[1:]) + 1
  )


@laws(100)
@given(st.text("ab", max_size=5), st.text("abc", max_size=5))
def test_the_distance_is_the_fewest_edits(a, b):
  assert distance(a, b) == slow(a, b)


@laws(50)
@given(TEXTS, st.integers(0, 8), st.characters(codec="ascii"))
def test_one_edit_is_a_distance_of_one(text, place, letter):
  assert distance(text, text[:place] + letter + text[place:]) == 1
