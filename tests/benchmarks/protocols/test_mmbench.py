"""MMBench: prompts, rolls and their merging."""

import dataclasses

from hypothesis import given
from hypothesis import strategies as st
import pytest

from emma_jax.benchmarks import suite
from emma_jax.benchmarks.records import BadRun, Outcome
from emma_jax.benchmarks.scoring import circular
from tests.benchmarks.protocols.answers import (
  COLOURS,
  Judge,
  forbid_luck,
  item,
  outcome,
  score,
)

pytestmark = pytest.mark.smoke
MMBENCH = suite.find("mmbench")
META = {"category": "colour", "l2-category": "attribute_reasoning"}


def rolls(base: int = 7, number: int = 4, right: int = 1):
  """Items of one question; the options move on by one each time."""
  found, options = [], list(COLOURS.values())[:number]
  for k in range(number):
    moved = [*options[k:], *options[:k]]
    found.append(
      item(
        str(base + k * circular.ROLL),
        group=str(base),
        options=dict(zip("ABCD", moved)),
        answers=("ABCD"[moved.index(options[right])],),
        meta=META,
      )
    )
  return found


def merged(impl, items, texts, **fields) -> Outcome:
  return MMBENCH.merge(
    [
      outcome(MMBENCH, impl, of, score(MMBENCH, impl, of, text, **fields)[0])
      for of, text in zip(items, texts, strict=True)
    ]
  )


def right_letters(items):
  return [of.answers[0] for of in items]


def test_prompts():
  of = item(options=COLOURS, answers=("B",), meta={"hint": "Look up."})
  assert {n: f(of).text for n, f in MMBENCH.prompts.items()} == {
    "vlmevalkit": (
      "Hint: Look up.\nQuestion: What?\nOptions:\nA. red\nB. green\nC. blue\n"
      "D. white\nPlease select the correct answer from the options above. \n"
    ),
    "lmms_eval": (
      "Look up. What? There are several options:\nA. red\nB. green\nC. blue\n"
      "D. white\n\n"
      "Answer with the option's letter from the given choices directly."
    ),
    "lmms_eval_cn": (
      "Look up. What? There are several options:\nA. red\nB. green\nC. blue\n"
      "D. white\n\n请直接使用所提供的选项字母作为答案回答。"
    ),
  }


@pytest.mark.parametrize("meta", [{}, {"hint": ""}, {"hint": None}])
def test_no_hint_and_two_options(meta):
  of = item(options={"A": "yes", "B": "no"}, answers=("B",), meta=meta)
  assert MMBENCH.prompts["vlmevalkit"](of).text == (
    "Question: What?\nOptions:\nA. yes\nB. no\n"
    "Please select the correct answer from the options above. \n"
  )
  assert MMBENCH.prompts["lmms_eval"](of).text == (
    "What? There are several options:\nA. yes\nB. no\n\n"
    "Answer with the option's letter from the given choices directly."
  )


@pytest.mark.parametrize("impl", MMBENCH.impls)
@pytest.mark.parametrize("number", [2, 3, 4])
def test_all_rolls_right_is_right(monkeypatch, impl, number):
  forbid_luck(monkeypatch)
  items = rolls(number=number)
  assert merged(impl, items, right_letters(items)) == Outcome(
    id="7",
    repeat=0,
    impl=impl,
    score=1.0,
    cluster="7",
    categories=META,
    parts={"rolls": float(number), "right": float(number)},
  )


@pytest.mark.parametrize("impl", MMBENCH.impls)
@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize("text", ["A", "B", "C", "D", "E", "orange"])
def test_any_wrong_roll_makes_a_question_wrong(impl, place, text):
  items = rolls()
  texts = right_letters(items)
  if texts[place] == text:
    return
  texts[place] = text
  found = merged(impl, items, texts)
  assert (found.score, found.parts["right"]) == (0.0, 3.0)


WORDS = ("A", "B", "C", "D", "(A)", "red", "green", "hm", "E", "C, not D")


@given(st.lists(st.sampled_from(WORDS), min_size=4, max_size=4))
def test_scores_are_those_of_the_toolkits(texts):
  items = rolls()
  rows = [
    {
      "index": int(of.id), "question": of.question, **of.options,
      "answer": of.answers[0], "prediction": text, **META,
    }
    for of, text in zip(items, texts)
  ]  # fmt: skip
  wanted = {
    "vlmevalkit": circular.vlmevalkit(rows)["hit_by_g_index"]["7"],
    "lmms_eval_static": circular.lmms(rows)["overall"],
  }
  for impl, value in wanted.items():
    assert merged(impl, items, texts).score == value, impl


@given(
  texts=st.lists(st.sampled_from(WORDS), min_size=4, max_size=4),
  order=st.permutations(range(4)),
  impl=st.sampled_from(MMBENCH.impls),
)
def test_the_order_of_rolls_does_not_matter(texts, order, impl):
  pairs = list(zip(rolls(), texts))
  assert merged(impl, *zip(*pairs)) == merged(
    impl, *zip(*(pairs[i] for i in order))
  )


def test_a_failed_roll_is_a_failure_of_the_question():
  items = rolls()
  texts = right_letters(items)
  texts[2] = "hard to say, this or that, or any other of them all"
  found = merged("vlmevalkit", items, texts)
  assert (found.score, found.failure) == (0.0, "judge:absent")
  read = merged("vlmevalkit", items, texts, judge=Judge(items[2].answers[0]))
  assert (read.score, read.failure) == (1.0, "")
  guessed = merged("vlmevalkit", items, texts, guess=True)
  assert guessed.failure == "" and guessed.parts["guessed"] == 1


def outcomes(items):
  return [
    outcome(
      MMBENCH,
      "vlmevalkit",
      of,
      score(MMBENCH, "vlmevalkit", of, of.answers[0])[0],
    )
    for of in items
  ]


def test_a_roll_that_was_never_answered_fails_the_question():
  found = outcomes(rolls())
  # What a run writes of a crash: no score was asked for, so no parts.
  found[1] = dataclasses.replace(
    found[1], score=0.0, parts={}, failure="predict:crashed"
  )
  whole = MMBENCH.merge(found)
  assert (whole.score, whole.failure) == (0.0, "predict:crashed")


@pytest.mark.parametrize("lost", range(4))
def test_a_missing_roll_is_an_error_and_not_silently_right(lost):
  found = outcomes(rolls())
  del found[lost]
  with pytest.raises(BadRun, match="Question 7 of MMBench has the rolls"):
    MMBENCH.merge(found)


def test_a_roll_twice_is_an_error():
  found = outcomes(rolls())
  with pytest.raises(BadRun, match=r"has the rolls \[0, 0, 1, 2\] of 0 to 3"):
    MMBENCH.merge([*found[:3], found[0]])


def test_lmms_eval_takes_the_nan_of_its_table_for_an_option():
  """Two options: "banana" holds the text of the third and fourth, "nan"."""
  of = item(options={"A": "banana", "B": "apple"}, answers=("A",))
  (found,) = score(MMBENCH, "lmms_eval", of, "a banana", judge=Judge("E"))
  assert found == suite.Score(value=0.0, parts={"options": 2.0})
  (found,) = score(MMBENCH, "vlmevalkit", of, "a banana")
  assert found.value == 1


def test_the_judges_of_the_toolkits_have_calls_of_their_own():
  of = rolls()[0]
  text = "hard to say, this or that, or any other of them all"
  judge = Judge("B")
  (found,) = score(MMBENCH, "lmms_eval", of, text, judge=judge)
  assert found.value == 1 and judge.calls[0].id == "mmbench/7/0/match_lmms"
  assert "output E." in judge.calls[0].text
  judge = Judge("B")
  score(MMBENCH, "ms_vlmeval_0.0.20", of, text, judge=judge)
  assert judge.calls[0].id == "mmbench/7/0/match"
  assert "output Z." in judge.calls[0].text


def test_older_rules_do_not_read_bold_letters():
  of = rolls()[0]
  text = "The correct answer is **B**, since the picture shows nothing else"
  (found,) = score(MMBENCH, "vlmevalkit", of, text)
  assert found.value == 1
  judge = Judge(text, "B")
  (found,) = score(MMBENCH, "ms_vlmeval_0.0.20", of, text, judge=judge)
  assert found.value == 1 and len(judge.calls) == 2


def test_hidden_answers_name_the_file_that_has_them():
  of = item(options=COLOURS)
  with pytest.raises(suite.NoAnswers, match="MMBench_TEST_EN_V11.tsv"):
    score(MMBENCH, "vlmevalkit", of, "B")
