"""MM-Vet: the judge's table, its replies, and how capabilities count."""

import math

from hypothesis import given
from hypothesis import strategies as st
import pytest

from emma_jax.benchmarks.scoring import mmvet
from tests.laws import laws


def judged(impl: str, replies: list[str]) -> tuple[float, int]:
  found = mmvet.SCORERS["MM-Vet", "judge_parse", impl](judge_outputs=replies)
  warmer = [0.0, 0.5, 1.0, 1.5, 2.0][: found["calls"]]
  assert found["temperatures"] == warmer
  return found["score"], found["calls"]


@pytest.mark.smoke
@pytest.mark.parametrize(
  "replies, vlmevalkit, original",
  [
    (["0.5"], (0.5, 1), (0.5, 1)),
    (["0", "0.5"], (0.0, 1), (0.0, 1)),
    (["1", "0.5"], (1.0, 1), (1.0, 1)),
    ([" 1.0\n"], (1.0, 1), None),
    (["0.7 | good", "1.0"], (1.0, 2), (0.7, 1)),
    (["1.5", "-0.1", "0.2"], (0.2, 3), (0.2, 3)),
    (["x"] * 5 + ["1.0"], (0.0, 5), (0.0, 5)),
    ([], (0.0, 5), (0.0, 5)),
  ],
)
def test_replies(replies, vlmevalkit, original):
  assert judged("vlmevalkit", replies) == vlmevalkit
  if original:
    assert judged("original", replies) == original


def test_not_a_number_passes_for_a_score():
  score, calls = judged("vlmevalkit", ["nan"])
  assert math.isnan(score) and calls == 1


def test_who_never_answers_is_a_failure():
  score, _, answered = mmvet.score(lambda t: "?", mmvet.whole_number)
  assert (score, answered) == (0.0, False)


@laws(100)
@given(st.text("0.1| x-", max_size=6))
def test_a_score_is_between_nothing_and_all(reply):
  for read in (mmvet.whole_number, mmvet.first_word):
    found = read(reply)
    assert found is None or 0 <= found <= 1


def test_the_table_is_the_authors_own():
  digest = mmvet.SCORERS["MM-Vet", "judge_prompt_sha256", "original"]()
  assert digest == (
    "d1b3e0a5b4e72c888b77164489d705bba4dd149934fff564dfba6443d81afe3f"
  )


def test_the_row_that_the_judge_fills_in():
  tail = mmvet.SCORERS["MM-Vet", "judge_prompt_tail", "vlmevalkit"]
  row = {"question": "q?", "answer": "a<AND>b<OR>c", "prediction": 7}
  assert tail(**row) == "q? | a <AND> b <OR> c | 7 | "
  assert mmvet.lmms_prompt(**row).endswith("\nq? | a <AND> b <OR> c | 7 |")


def test_tables_of_the_toolkits_are_the_authors_text():
  """VLMEvalKit wraps lines, lmms-eval calls the first column otherwise."""
  original = mmvet.prompt_texts.read("mmvet_judge")
  wrapped = mmvet.prompt_texts.read("mmvet_judge_vlmevalkit")
  assert wrapped.split() == original.split()
  lmms = mmvet.lmms_prompt("q", "a", "p")
  assert "\ngpt_query_prompt | Ground truth" in lmms and "\n\nQ" not in lmms


def rows(*samples: tuple[str, float]) -> list[dict]:
  return [{"category": c, "score": s} for c, s in samples]


def test_a_single_capability_counts_twice():
  aggregate = mmvet.SCORERS["MM-Vet", "aggregate", "vlmevalkit"]
  found = aggregate(
    rows=rows(
      *(("rec,ocr", 1.0), ("ocr", 0.5), ("ocr,rec", 0.0)),
      *(("know,gen", 0.5), ("spat,math", 1.0)),
    )
  )
  assert [row["Category"] for row in found["capability"]] == [
    *mmvet.CAPABILITIES,
    "Overall",
  ]
  by_name = {
    row["Category"]: (row["tot"], row["acc"])
    for table in found.values()
    for row in table
  }
  assert by_name["rec"] == (2, 50.0)
  assert by_name["ocr"] == (4, 50.0)  # three samples
  assert by_name["rec_ocr"] == (1, 100.0) and by_name["ocr_rec"] == (1, 0.0)
  assert by_name["Overall"] == (5, 60.0)


def test_an_absent_capability_divides_by_zero():
  name = ("MM-Vet", "aggregate_missing_capability", "vlmevalkit")
  with pytest.raises(ZeroDivisionError):
    mmvet.SCORERS[name](rows=rows(("rec", 1.0)))


@laws(100)
@given(st.lists(st.floats(0, 1), min_size=1))
def test_overall_is_a_mean_in_percent(scores):
  overall = mmvet.SCORERS["MM-Vet", "aggregate", "lmms_eval"]
  found = overall(results=[{"score": s} for s in scores])
  assert found == pytest.approx(100 * math.fsum(scores) / len(scores))
  assert -1e-9 <= found <= 100 + 1e-9
