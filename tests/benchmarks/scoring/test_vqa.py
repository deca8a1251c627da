"""TextVQA: the normalisers step by step, and ten people."""

import statistics

from hypothesis import given
from hypothesis import strategies as st
import pytest

from emma_jax.benchmarks.scoring import vqa
from tests.laws import laws

IMPLS = ("vqa_official", "lmms_eval", "vlmevalkit")
WORDS = st.lists(
  st.sampled_from(
    "a an the The none two Ten dont couldnt've Im cats 5 5. 1,234 don't Joe's "
    "#1 50% 7:30 -x x- (y) e.g. new\nyork C++ ... ?".split(" ")
  ),
  max_size=6,
).map(" ".join)


def normal(impl: str, text: str) -> str:
  return vqa.SCORERS["TextVQA", "answer_normaliser", impl](text=text)


@pytest.mark.smoke
@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize(
  "text, expected",
  [
    ("The Red Car", "red car"),
    ("TWO of None", "2 of 0"),
    ("dont couldnt've couldn'tve yall'd've", "don't " + "couldn't've " * 2
     + "y'all'd've"),
    ("Im Ive i'dve", "im ive i'dve"),  # keys in capitals never match
    ("somebody'd", "somebodyd"),
    ("twas youd", "'twas you'd"),
    ("a.b.c", "abc"),
    ("v.2", "v.2"),
    ("1.2.3", "1.2.3"),
    ("coca-cola", "coca cola"),  # a space ...
    ("coca -cola", "coca cola"),  # ... but gone beside one
    ("x -y c-d", "x y cd"),  # ... and then everywhere
    ("x- y c-d", "x y cd"),
    ("1,234,567", "1234567"),
    ("path/to/file", "path to file"),
    ("50% 7:30 #1 $5", "50% 7:30 #1 $5"),
    ("“curly”", "“curly”"),
    ("...", ""),
    ("a\tthe\nb", "b"),
  ],
)  # fmt: skip
def test_on_most_texts_all_agree(impl, text, expected):
  assert normal(impl, text) == expected


@pytest.mark.parametrize(
  "text, official, evalai, vlmevalkit",
  [
    ("5.", "5", "5", "5."),
    ("Joe's", "joe's", "joe 's", "joe's"),
    # Commas go first in EvalAI, so that digits about one do not matter later.
    ("1,234 coca-cola", "1234 cocacola", "1234 coca cola", "1234 cocacola"),
    ("a,b", "b", "ab", "b"),
    ("c?d", "c d", "cd", "c d"),
    # White space at the ends, and which kind it is, counts beside a mark.
    (" -x c-d", "x cd", "x c d", "x c d"),
    ("-\tx c-d", "x c d", "x cd", "x cd"),
    ("-\nx c-d", "x c d", "x cd", "x cd"),
    ("ow's'at", "'ow's'at", "ow 's'at", "'ow's'at"),
  ],
)
def test_where_they_part(text, official, evalai, vlmevalkit):
  found = [normal(impl, text) for impl in IMPLS]
  assert found == [official, evalai, vlmevalkit]


@pytest.mark.parametrize("impl", IMPLS)
def test_only_thirty_two_periods_go(impl):
  """The originals pass a flag, 32, where the count stands."""
  assert normal(impl, "x" + "." * 40) == "x" + "." * 8


@laws(300)
@given(WORDS)
def test_words_without_marks_are_settled_once(text):
  """Marks may become articles ("-a"), so that twice is not once for them."""
  plain = "".join(c for c in text if c.isalnum() or c == " ")
  for impl in IMPLS:
    once = normal(impl, plain)
    assert normal(impl, once) == once or "'" in once


@laws(300)
@given(WORDS)
def test_no_article_or_space_or_capital_is_left(text):
  for impl in IMPLS:
    found = normal(impl, text)
    assert found == found.lower() and found == " ".join(found.split())
    assert not vqa.ARTICLES & set(found.split())


def score(impl: str, answers: list[str] | None, prediction: str) -> float:
  return vqa.SCORERS["TextVQA", "vqa_accuracy", impl](
    answers=answers, prediction=prediction
  )


@pytest.mark.parametrize("impl", ["mmf", "lmms_eval", "vlmevalkit"])
def test_ten_people(impl):
  for agree, expected in enumerate((0.0, 0.3, 0.6, 0.9, 1.0, 1.0)):
    answers = ["Nokia"] * agree + ["toshiba"] * (10 - agree)
    assert score(impl, answers, "nokia.") == pytest.approx(expected)


def test_other_numbers_of_people():
  with pytest.raises(AssertionError, match="ten"):
    score("mmf", ["a"] * 9, "a")
  assert score("lmms_eval", ["b"], "b") == 0.0  # nobody else says so
  assert score("lmms_eval", None, "b") == 0.0
  with pytest.raises(statistics.StatisticsError):
    score("lmms_eval", [], "b")
  assert score("vlmevalkit", [], "b") != score("vlmevalkit", [], "b")  # nan


@laws(100)
@given(st.lists(st.sampled_from("bcd"), min_size=10, max_size=10))
def test_more_who_agree_never_score_less(answers):
  scores = {x: score("mmf", answers, x) for x in "bcde"}
  assert all(0 <= s <= 1 for s in scores.values()) and scores["e"] == 0
  ranked = sorted("bcd", key=answers.count)
  assert [scores[x] for x in ranked] == sorted(scores[x] for x in "bcd")
  other = {x: score("lmms_eval", answers[::-1], x) for x in "bcde"}
  assert scores == other


def test_the_prompt_lowers_all_but_the_first_letter():
  prompt = vqa.SCORERS["TextVQA", "prompt", "lmms_eval"]
  told = {"pre_prompt": "<", "post_prompt": ">", "ocr": True}
  assert prompt(question="what SIGN?", kwargs={"post_prompt": "!"}) == (
    "What sign?!"
  )
  assert prompt(question="q", kwargs=told, ocr_tokens=["STOP", "1"]) == (
    "<Q\nReference OCR token: STOP, 1>"
  )
  with pytest.raises(UnboundLocalError):
    prompt(question="q", kwargs=None)
