"""What the choice sets share: judges, failures, guesses, and lost options."""

from hypothesis import given
from hypothesis import strategies as st
import pytest

from emma_jax.benchmarks import suite
from emma_jax.benchmarks.scoring import choice_judge
from emma_jax.judge.base import Reply
from tests.benchmarks.protocols.answers import (
  COLOURS,
  Judge,
  forbid_luck,
  item,
  score,
)

pytestmark = pytest.mark.smoke
AI2D = suite.find("ai2d")
ITEM = item(options=COLOURS, answers=("B",))
UNREADABLE = "it may be this or that, hard to say from here"


def one(*replies, text=UNREADABLE, impl="vlmevalkit", **fields):
  judge = Judge(*replies)
  (found,) = score(AI2D, impl, ITEM, text, judge=judge, **fields)
  return found, judge.calls


def test_rules_ask_nobody(monkeypatch):
  forbid_luck(monkeypatch)
  assert one("C", text="(B)") == (suite.Score(value=1.0), [])


def test_the_judge_is_asked_with_the_toolkits_prompt():
  found, calls = one("B")
  assert found == suite.Score(value=1.0)
  listed = "There are several options: \nA. red\nB. green\nC. blue\nD. white\n"
  assert calls[0].text == choice_judge.match_prompt("What?", listed, UNREADABLE)
  assert calls[0].text.endswith(
    f"Question: What??\nOptions: {listed}\nAnswer: {UNREADABLE}\nYour output: "
  )
  assert [c.id for c in calls] == ["ai2d/7/0/match"]


def test_every_repeat_has_calls_of_its_own():
  judge = Judge("B", "C")
  found = score(AI2D, "vlmevalkit", ITEM, *[UNREADABLE] * 2, judge=judge)
  assert [s.value for s in found] == [1, 0]
  assert [c.id for c in judge.calls] == ["ai2d/7/0/match", "ai2d/7/1/match"]


@pytest.mark.parametrize(
  "replies, value, failure, calls",
  [
    (["hm", "hm", "B"], 1, "", 3),
    (["hm", "Z"], 0, "", 2),
    (["hm", "hm", "hm", "B"], 0, "judge:unparsable", 3),
    (["hm"], 0, "judge:unparsable", 2),
    (["E", "E", "E"], 0, "judge:unparsable", 3),  # a letter beyond the options
    ([], 0, "judge:absent", 1),
    ([Reply(status="refused")] * 3, 0, "judge:refused", 3),
    ([Reply(status="unreachable"), "B"], 1, "", 2),
    ([Reply(status="unreachable"), "hm", "hm"], 0, "judge:unparsable", 3),
  ],
)
def test_three_tries_then_a_failure(
  monkeypatch, replies, value, failure, calls
):
  forbid_luck(monkeypatch)
  found, asked = one(*replies)
  assert found == suite.Score(value=value, failure=failure)
  assert [c.attempt for c in asked] == list(range(calls))
  assert len({c.id for c in asked}) == calls


def test_a_refusal_means_no_option():
  found, calls = one("B", text="Cannot determine the answer")
  assert found == suite.Score(value=0.0) and not calls


def test_a_guess_is_made_only_where_asked_for_and_is_seeded():
  first, _ = one(guess=True)
  assert first == one(guess=True)[0] and first.parts == {"guessed": 1.0}
  texts = [UNREADABLE] * 400
  found = score(AI2D, "vlmevalkit", ITEM, *texts, guess=True)
  # One of A to D and Z.
  assert 0.12 < sum(s.value for s in found) / len(found) < 0.28
  # The judge comes first.
  assert one("C", guess=True)[0] == suite.Score(value=0.0)


def test_vlmevalkit_loses_an_option_that_pandas_takes_for_missing(monkeypatch):
  forbid_luck(monkeypatch)
  of = item(options=COLOURS | {"B": "None"}, answers=("B",))
  (found,) = score(AI2D, "vlmevalkit", of, "B")
  assert found == suite.Score(value=0.0, failure="judge:absent")
  (found,) = score(AI2D, "lmms_eval", of, "B")
  assert found == suite.Score(value=1.0)
  text = AI2D.prompts["vlmevalkit"](of).text
  assert "B." not in text and "A. red\nC. blue\n" in text
  judge = Judge("C")
  score(AI2D, "vlmevalkit", of, "None", judge=judge)
  assert "\nAnswer: nan\n" in judge.calls[0].text


@pytest.mark.parametrize(
  "name", ["ai2d", "mmstar", "mmbench", "mmmu", "mathvista"]
)
@pytest.mark.parametrize("answers", [(), ("?",), ("",)])
def test_splits_without_answers_cannot_be_scored(name, answers):
  benchmark = suite.find(name)
  meta = {"question_type": "multi_choice", "answer_type": "text"}
  of = item(options=COLOURS, answers=answers, meta=meta)
  for impl in benchmark.impls:
    with pytest.raises(suite.NoAnswers, match="no answers in this split"):
      score(benchmark, impl, of, "B")


def test_two_answers_to_one_letter_are_an_error():
  of = item(options=COLOURS, answers=("A", "B"))
  with pytest.raises(ValueError, match="Item 7 has 2 answers"):
    score(AI2D, "vlmevalkit", of, "B")


@given(
  text=st.text(max_size=60),
  replies=st.lists(st.text(max_size=10), max_size=4),
  name=st.sampled_from(["ai2d", "mmstar", "mmbench", "mmmu"]),
  guess=st.booleans(),
)
def test_any_answer_scores_0_or_1_twice_the_same(text, replies, name, guess):
  benchmark = suite.find(name)
  for impl in benchmark.impls:
    (found,), (again,) = (
      score(benchmark, impl, ITEM, text, judge=Judge(*replies), guess=guess)
      for _ in range(2)
    )
    assert found == again and found.value in (0.0, 1.0)
    assert not (found.failure and found.value)
    if not guess:
      assert "guessed" not in found.parts
