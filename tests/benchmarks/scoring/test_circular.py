"""A question of MMBench counts only if every roll of it is right."""

import math

from hypothesis import given
from hypothesis import strategies as st
import pytest

from emma_jax.benchmarks.scoring import choice_judge, circular
from tests.laws import laws

COLOURS = ("red", "green", "blue", "white")


def rolls(base: int, said: list[str | None], options=COLOURS, **more) -> list:
  """Rolls of one question about "green"; None is the right letter."""
  rows = []
  for n, prediction in enumerate(said):
    texts = options[n:] + options[:n]
    named = dict(zip("ABCD", texts))
    right = "ABCD"[texts.index("green")]
    rows.append(
      {"index": base + n * circular.ROLL, "question": "What?"}
      | named
      | {"answer": right, "category": "colour", "split": "dev"}
      | {"prediction": right if prediction is None else prediction}
      | more
    )
  return rows


def vlmevalkit(rows: list) -> dict:
  return circular.SCORERS["MMBench", "circular", "vlmevalkit"](rows=rows)


def lmms(rows: list) -> dict:
  scorer = circular.SCORERS["MMBench", "circular", "lmms_eval_static"]
  return scorer(rows=rows)


@pytest.mark.smoke
@pytest.mark.parametrize(
  "said, hit",
  [
    ([None] * 4, 1),
    ([None, None, "the green one", None], 1),
    (["B"] * 4, 0),  # the same place each time
    ([None, None, None, "hmm"], 0),
    (["hmm", None, None, "A"], 0),
    (["A", None, None, None], 0),
    ([None, None], 1),  # rolls that are not there are not missed
  ],
)
def test_every_roll_counts(said, hit):
  rows = rolls(7, said)
  assert vlmevalkit(rows) == {
    "hit_by_g_index": {"7": hit},
    "report": {"split": "dev", "Overall": hit, "colour": hit},
  }
  found = {"overall": hit, "category": {"colour": hit}, "l2": {}}
  assert lmms(rows) == found


def test_lmms_eval_reads_what_vlmevalkit_does_not():
  """Its static variant takes any letter before it gives up."""
  rows = rolls(7, ["A and B", None], ("green", "red"))
  rows = [r | {"C": None, "D": None} for r in rows]
  assert vlmevalkit(rows)["hit_by_g_index"] == {"7": 0}
  assert lmms(rows)["overall"] == 1.0


def test_lmms_eval_needs_a_column_for_each_option():
  rows = rolls(7, [None, None], ("red", "green"))
  assert vlmevalkit(rows)["hit_by_g_index"] == {"7": 1}
  with pytest.raises(KeyError):
    lmms(rows)


def test_rolls_without_their_base_question_are_left_out():
  rows = [*rolls(0, [None, None])[1:], *rolls(1, [None])]
  assert vlmevalkit(rows)["hit_by_g_index"] == {"1": 1}


@pytest.mark.parametrize(
  "name, short",
  [
    ("coarse_perception", "CP"),
    ("finegrained_perception (instance-level)", "FP-S"),
    ("finegrained_perception (cross-instance)", "FP-C"),
    ("logic_reasoning", "LR"),
    ("relation_reasoning", "RR"),
    ("attribute_reasoning", "AR"),
  ],
)
def test_abbreviations(name, short):
  report = circular.report([{"hit": 1, "l2-category": name}])
  assert report == {"split": "none", "Overall": 1, short: 1}


def test_accuracy_per_category():
  first, second, third = (
    {"l2-category": "logic_reasoning", "category": "a"},
    {"l2-category": "logic_reasoning", "category": "b"},
    {"l2-category": "ocr", "category": "b"},
  )
  rows = [
    *rolls(1, [None] * 4, **first),
    *rolls(2, ["hmm"] * 4, **second),
    *rolls(3, [None] * 4, **third),
  ]
  assert vlmevalkit(rows)["report"] == {
    "split": "dev",
    "Overall": pytest.approx(2 / 3),
    "LR": 0.5,
    "ocr": 1.0,
    "a": 1.0,
    "b": 0.5,
  }
  assert lmms(rows)["category"] == {"a": 1.0, "b": 0.5}
  assert lmms(rows)["l2"] == {"logic_reasoning": 0.5, "ocr": 1.0}


def test_a_wrong_roll_ends_a_question_before_the_judge_is_asked():
  judge = choice_judge.Script(["B"])
  assert not circular.all_right(rolls(7, ["hmm", "B", None, None]), judge)
  assert judge.calls == 0
  assert circular.all_right(rolls(7, ["hmm", None, None, None]), judge)
  assert judge.calls == 1


def test_a_judge_that_is_wrong_or_silent_loses_the_question():
  rows = rolls(7, ["hmm", None, None, "hmm"])
  assert not circular.all_right(rows, choice_judge.Script(["A"]))
  assert not circular.all_right(rows, choice_judge.Script(["B"]))
  assert not circular.all_right_lmms(rows, choice_judge.Script([]))
  assert circular.all_right_lmms(rows, choice_judge.Script(["B", "C"]))


@laws(100)
@given(
  st.lists(
    st.lists(st.sampled_from([None, "A", "hmm", "A or B"]), min_size=1,
             max_size=4),
    min_size=1, max_size=4,
  ),
  st.randoms(use_true_random=False),
)  # fmt: skip
def test_the_order_of_rows_does_not_count(questions, random):
  rows = [r for n, said in enumerate(questions) for r in rolls(n, said)]
  moved = random.sample(rows, len(rows))
  for score in (vlmevalkit, lmms):
    assert score(moved) == score(rows)
  right = sum(said == [None] * len(said) for said in questions)
  found = vlmevalkit(rows)
  assert sum(found["hit_by_g_index"].values()) >= right
  assert 0 <= lmms(rows)["overall"] <= 1


def test_a_report_over_splits():
  rows = [
    {"hit": 1, "split": "dev", "category": "x"},
    {"hit": 0, "split": "test", "category": "x"},
    {"hit": 1, "split": "test", "category": "y"},
  ]
  report = circular.SCORERS["MMStar", "aggregate", "vlmevalkit"]
  found = report(rows=rows)
  assert found["split"] == ["dev", "test"] and found["Overall"] == [1, 0.5]
  assert found["x"] == [1, 0] and math.isnan(found["y"][0])
  assert report(rows=[{"hit": 1}]) == {"split": "none", "Overall": 1}


def test_mmstar_is_a_mean_of_means_in_lmms_eval():
  aggregate = circular.SCORERS["MMStar", "aggregate", "lmms_eval"]
  results = [
    {"l2_category": "x", "score": 1.0},
    {"l2_category": "x", "score": 0.0},
    {"l2_category": "y", "score": 1.0},
  ]
  assert aggregate(results=results) == 0.75
