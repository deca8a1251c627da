"""A judge is asked only where rules fail, and three times at most."""

import pytest

from emma_jax.benchmarks.scoring import choice, choice_judge

ROW = {
  "question": "What color is the car?",
  "A": "red",
  "B": "green",
  "C": None,
  "D": "NaN",
  "prediction": "like grass",
  "GT": "B",
}


def fallback(replies: list[str], **changed) -> dict[str, int]:
  scorer = choice_judge.SCORERS["MMBench", "llm_fallback", "vlmevalkit"]
  return scorer(item=ROW | changed, judge_outputs=replies)


@pytest.mark.smoke
@pytest.mark.parametrize(
  "replies, expected",
  [
    (["B"], {"calls": 1, "hit": 1}),
    (["hmm", "B"], {"calls": 2, "hit": 1}),
    (["hmm", "Failed to obtain answer via API.", "B"], {"calls": 3, "hit": 1}),
    (["Z", "B"], {"calls": 1, "hit": 0}),
    (["A"], {"calls": 1, "hit": 0}),
    # Where the original draws a letter: nobody can say, so it is wrong.
    (["hmm", "well", "C", "B"], {"calls": 3, "hit": 0}),
    ([], {"calls": 3, "hit": 0}),
  ],
)
def test_replies(replies, expected):
  assert fallback(replies) == expected


def test_a_prediction_that_can_be_read_asks_nobody():
  assert fallback(["A"], prediction="(B)") == {"calls": 0, "hit": 1}
  assert fallback(["B"], prediction="A") == {"calls": 0, "hit": 0}


def test_without_a_judge_it_is_none_of_them():
  assert choice_judge.resolve(ROW, None) == choice.NO_OPTION


def test_nobody_guesses():
  for judge in (choice_judge.Script([]), choice_judge.Script(["?"] * 9)):
    assert choice_judge.resolve(ROW, judge) is None
    assert judge.calls == choice_judge.TRIES


def test_what_the_judge_is_asked():
  asked = []

  def judge(prompt):
    asked.append(prompt)
    return "B"

  choice_judge.resolve(ROW, judge)
  choice_judge.resolve(ROW | {"question": "汽车是什么颜色?"}, judge)
  choice_judge.resolve_lmms(ROW, judge)
  english, chinese, lmms = asked
  end = (
    "Question: What color is the car??\nOptions: There are several options: \n"
    "A. red\nB. green\n\nAnswer: like grass\nYour output: "
  )
  assert english.endswith(end) and lmms.endswith(end)
  assert "output Z" in english and "output E" in lmms
  assert chinese.startswith("你是") and chinese.endswith("\n输出: ")
  assert "问题: 汽车是什么颜色??\n选项: There are" in chinese


def test_lmms_eval_shows_options_up_to_the_first_that_is_missing():
  row = ROW | {"B": None, "C": "green", "prediction": "?"}
  asked = []
  choice_judge.resolve_lmms(row, lambda p: asked.append(p) or "C")
  assert "A. red\n\nAnswer" in asked[0]


def test_braces_in_a_question_stay():
  prompt = choice_judge.match_prompt("{x}", "{y}", "{}")
  assert prompt.endswith("{x}?\nOptions: {y}\nAnswer: {}\nYour output: ")
