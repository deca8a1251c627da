import math

from hypothesis import given, settings
from hypothesis import strategies as st
import pytest

from emma_jax.benchmarks.scoring import rise

QUICK = settings(max_examples=60, deadline=None)
MARK = st.integers(1, 5)
TEMPORAL = "temporal_reasoning"


def said(mark) -> str:
  return f"Reasoning ...\n**Final Score:** **{mark}**"


@pytest.mark.parametrize(
  "reply, numbers",
  [
    ("Final Score: 4", [4]),
    ("**Final Score:** **4**", [4]),
    ("**Final Score**: 4", [4]),
    ("final score 4, 5", [4, 5]),
    ("Final Score:\n\n3", [3]),
    ("Final Score: high. Final Score: 2", [2]),
    ("Final Scores: 3", [3]),
    ("Final Scores: none", []),
    ("Score: 4", None),
    ("Final Score: high", None),
    ("", None),
  ],
)
def test_replies(reply, numbers):
  assert rise.extract(reply) == numbers


def test_logical_marks_are_0_or_1_and_become_1_or_5():
  marks = lambda *m: rise.marks(rise.LOGICAL, *map(said, m), None)
  assert marks(1, 0) == rise.Marks(5, 1, None)
  assert marks(7, 1) == rise.Marks(5, 5, None)


def test_marks_that_cannot_be_read():
  assert rise.marks(TEMPORAL, said(5), "sorry", said(5)) is None
  assert rise.marks(TEMPORAL, said("4, 5"), said(5), said(5)) is None
  assert rise.marks(TEMPORAL, None, said(4), said(5)) == rise.Marks(None, 4, 5)


def test_replies_that_do_not_belong():
  with pytest.raises(ValueError, match="with plausibility=None"):
    rise.marks(TEMPORAL, said(5), said(5), None)
  with pytest.raises(ValueError, match="logical edit needs"):
    rise.marks(rise.LOGICAL, None, said(1), None)
  with pytest.raises(ValueError, match="'other' is none of"):
    rise.marks("other", said(1), said(1), None)


@pytest.mark.smoke
def test_the_rule_of_2026_needs_no_consistency_of_free_edits():
  free = rise.Marks(None, 5, 5)
  assert rise.accomplished(TEMPORAL, free, True, "new")
  assert not rise.accomplished(TEMPORAL, free, True, "old")
  kept = rise.Marks(5, 5, 5)
  for rule in ("new", "old"):
    assert rise.accomplished(TEMPORAL, kept, False, rule)
    assert not rise.accomplished(TEMPORAL, rise.Marks(4, 5, 5), False, rule)
    assert rise.accomplished(rise.LOGICAL, rise.Marks(5, 5, None), False, rule)


def test_weighted_scores():
  assert rise.weighted(TEMPORAL, rise.Marks(5, 4, 3), False) == pytest.approx(
    4.1
  )
  assert rise.weighted(TEMPORAL, rise.Marks(None, 4, 3), True) == pytest.approx(
    3.8
  )
  assert rise.weighted(rise.LOGICAL, rise.Marks(5, 1, None), False) == (
    pytest.approx(1.1)
  )
  # Halved, and not below 1.
  assert rise.weighted(TEMPORAL, rise.Marks(5, 1, 5), False) == pytest.approx(
    1.5
  )
  assert rise.weighted(TEMPORAL, rise.Marks(1, 1, 1), False) == 1
  assert math.isnan(rise.weighted(TEMPORAL, rise.Marks(None, 3, 3), False))


def edit(category: str, *marks, free: bool = False) -> dict:
  names = ["judge1", "judge2", "judge3"][: len(marks)]
  row = {name: None if m is None else said(m) for name, m in zip(names, marks)}
  return (
    row | {"category": category} | ({"consistency_free": 1} if free else {})
  )


def test_numbers_of_a_set():
  rows = [
    edit(TEMPORAL, 5, 5, 5),
    edit("causal_reasoning", 5, 4, 5),
    edit(rise.LOGICAL, 1, 1),
    edit("spatial_reasoning", None, 5, 5, free=True),
  ]
  accuracy = lambda rule: {
    name: numbers["accuracy"]
    for name, numbers in rise.aggregate(
      rows, rule, official_quirks=False
    ).items()
  }
  assert accuracy("new") == {
    "overall": 0.75,
    TEMPORAL: 1,
    "causal_reasoning": 0,
    rise.LOGICAL: 1,
    "spatial_reasoning": 1,
  }
  assert accuracy("old")["overall"] == 0.5


def test_one_free_edit_changes_the_score_of_all_officially():
  rows = [edit(TEMPORAL, 1, 5, 5), edit(TEMPORAL, None, 5, 5, free=True)]
  score = lambda rows, quirks: rise.aggregate(
    rows, "new", official_quirks=quirks
  )["overall"]["score"]
  assert score(rows, True) == pytest.approx(5)
  assert score(rows, False) == pytest.approx((3.8 + 5) / 2)
  assert score(rows[:1], True) == pytest.approx(3.8)


def test_unread_edits_are_left_out_of_the_official_score_alone():
  rows = [edit(TEMPORAL, 5, 5, 5), edit(TEMPORAL, 5, "none", 5)]
  numbers = lambda quirks: rise.aggregate(rows, "new", official_quirks=quirks)[
    "overall"
  ]
  assert numbers(True) == {
    "accuracy": 0.5,
    "score": pytest.approx(5),
    "percent": pytest.approx(100),
  }
  assert numbers(False)["score"] == pytest.approx(3)


def test_categories_without_edits_are_nan():
  got = rise.aggregate([edit(TEMPORAL, 5, 5, 5)], "new", official_quirks=True)
  assert math.isnan(got[rise.LOGICAL]["accuracy"])
  assert math.isnan(got[rise.LOGICAL]["score"])


@QUICK
@given(
  st.lists(st.tuples(MARK, MARK, MARK, st.booleans()), min_size=1),
  st.randoms(use_true_random=False),
)
def test_bounds_and_order(marks, rng):
  rows = [
    edit(TEMPORAL, None if free else a, b, c, free=free)
    for a, b, c, free in marks
  ]
  got = rise.aggregate(rows, "new", official_quirks=False)["overall"]
  assert 0 <= got["accuracy"] <= 1
  assert 1 <= got["score"] <= 5 + 1e-9
  assert 0 <= got["percent"] <= 100 + 1e-6
  again = rise.aggregate(
    rng.sample(rows, len(rows)), "new", official_quirks=False
  )
  assert again["overall"] == pytest.approx(got)
  old = rise.aggregate(rows, "old", official_quirks=False)["overall"]
  assert old["accuracy"] <= got["accuracy"]
