"""MMMU: letters and short answers, in each implementation."""

from hypothesis import given
from hypothesis import strategies as st
import pytest

from emma_jax.benchmarks.scoring import mmmu
from tests.laws import laws

OPTIONS = ["$6", "$7", "$8", "$9"]
LONG = "of all that is here only"
ANSWERS = st.lists(
  st.sampled_from(
    "(A) (B) A B C D. Answer:B is so answer = , . \n 1,200 3e5 -2.5 12 yes no "
    "$7 $9 the one which I took".split(" ")
  ),
  max_size=10,
).map(" ".join)


@pytest.mark.smoke
@pytest.mark.parametrize(
  "response, original, lmms",
  [
    ("B", "B", "B"),
    ("B.", "B", "B"),
    ("'B'", "B", "B"),
    ("(A) or rather (B)", "B", "B"),
    ("A (B)", "B", "B"),  # brackets come first
    ("B or A or B so", "B", "B"),
    ("It's A", "A", "A"),
    ("Answer:B", None, "B"),  # no space before the letter
    ("B.because", None, "B"),
    ("I like NASA more", None, "A"),  # any word that ends so
    ("**B**", None, None),
    ("C: Copper", None, None),
    ("b", None, None),
    ("", None, None),
    (f"{LONG} $8", "C", "C"),
    ("it may be then $8", None, None),  # of more than five words only
    ("it may be then so $8", "C", "C"),
    (f"{LONG} $9 not $8", "C", "C"),  # the last text
  ],
)
def test_which_letter(response, original, lmms):
  assert mmmu.parse_choice(response, OPTIONS) == original
  assert mmmu.parse_choice_lmms(response, OPTIONS) == lmms


def test_of_several_without_a_place_the_first():
  """lmms-eval finds "A." and "B.", and asks where " A " stands: nowhere."""
  assert mmmu.parse_choice_lmms("A.x B.y", OPTIONS) == "A"


def test_a_draw_is_a_function_of_the_answer():
  for impl in ("original", "lmms_eval"):
    scorer = mmmu.SCORERS["MMMU", "parse_multi_choice", impl]
    drawn = [scorer(response=f"?{n}", options=OPTIONS) for n in range(40)]
    again = [scorer(response=f"?{n}", options=OPTIONS) for n in range(40)]
    assert drawn == again and set(drawn) == set("ABCD")


@laws(300)
@given(ANSWERS)
def test_a_letter_is_an_option(response):
  for parse in (mmmu.parse_choice, mmmu.parse_choice_lmms):
    assert parse(response, OPTIONS) in (*"ABCD", None)
  if mmmu.parse_choice(response, OPTIONS):
    assert mmmu.parse_choice_lmms(response, OPTIONS)


@pytest.mark.parametrize(
  "answer, response, parsed, correct",
  [
    ("1.06", "1.064", {1.06}, True),
    ("1.06", "So x = 1.1", {1.1}, False),
    ("C", "The site is C in it", {"c in it"}, True),
    ("C", "because", {"because"}, False),  # no letter within a word
    ("12.97", "12,97", {1297.0, 97.0}, False),
    ("1,200", "1200", {1200.0}, True),
    ("3e5", "The result is 3E5", {300000.0, 5.0}, True),
    ("5", "5 or 6", {"5 or 6", 5.0, 6.0}, True),
    (["0.5", "1/2"], "1/2", {"1/2", 1.0, 2.0}, True),
    ("yes", "no, it is not yes", {"not yes"}, True),
    ("0.003", "0.0049", {0.0}, True),  # both round to nothing
    ("7", "seven", {"seven"}, False),
    # The shortest tail of a line; "=" counts in the last line alone.
    ("4", "x = 3 is it\nso x = 4", {"it", 4.0}, True),
    ("3", "x = 3\ny", {"x = 3\ny", 3.0}, True),
    # Lower case comes before the cut at ". " and a capital: there is none.
    ("12", "It is 12. Yes it was", {"12. yes it was", 12.0}, True),
  ],
)
def test_short_answers(answer, response, parsed, correct):
  found = mmmu.parse_open(response)
  assert set(found) == parsed and len(found) == len(parsed)
  assert mmmu.open_right(answer, found) == correct
  scorers = mmmu.SCORERS
  original = scorers["MMMU", "open_eval", "original"](answer, response)
  assert original["correct"] == correct
  assert original["parsed"] == sorted(
    f"{value}|{type(value).__name__}" for value in parsed
  )
  assert scorers["MMMU", "open_eval", "lmms_eval"](answer, response) == correct
  old = scorers["MMMU", "open_eval_bug_0_7_2", "lmms_eval_0.7.2"]
  assert old(answer, response) == 0.0


@pytest.mark.parametrize(
  "key",
  ["could be", "so", "is", "thus", "therefore", "final", "answer", "result"],
)
def test_what_stands_behind_a_key_counts(key):
  assert mmmu.parse_open(f"Some {key} five") == ["five"]
  assert mmmu.parse_open(f"some{key}") == [f"some{key}"]


@laws(300)
@given(ANSWERS)
def test_a_normal_form_is_normal(text):
  for value in mmmu.normalise(text):
    if isinstance(value, str) and len(value.strip()) != 1:
      assert mmmu.normalise(value) == [value]
    elif isinstance(value, float):
      assert mmmu.normalise(repr(value)) == [value]


@laws(300)
@given(ANSWERS, st.sampled_from(["yes", "12", "-2.5", "1,200", "c"]))
def test_more_references_never_lose_an_answer(response, other):
  parsed = mmmu.parse_open(response)
  for answer in ("no", "3e5", "b"):
    alone = mmmu.open_right(answer, parsed)
    assert mmmu.open_right([answer, other], parsed) >= alone


def test_evaluate():
  evaluate = mmmu.SCORERS["MMMU", "evaluate", "original"]
  samples = [
    ("a", "multiple-choice", "B", "B"),
    ("b", "multiple-choice", ["A", "C"], "C"),
    ("c", "multiple-choice", "A", "B"),
    ("d", "short-answer", "2.5", [2.5]),
  ]
  names = ("id", "question_type", "answer", "parsed_pred")
  found = evaluate(samples=[dict(zip(names, s)) for s in samples])
  assert found["metric"] == {"acc": 0.75}
  right, wrong = "Correct", "Wrong"
  assert found["judge"] == {"a": right, "b": right, "c": wrong, "d": right}
  assert evaluate(samples=[]) == {"acc": 0}


def test_subjects_weigh_as_many_examples_as_they_have():
  weighted = mmmu.SCORERS["MMMU", "ins_level_acc", "original"]
  results = {
    "Art": {"acc": 0.5, "num_example": 30},
    "Math": {"acc": 0.25, "num_example": 10},
  }
  assert weighted(results=results) == 0.4375
  assert weighted(results={}) == 0


def test_lmms_accuracy():
  accuracy = mmmu.SCORERS["MMMU", "aggregate", "lmms_eval"]
  options = "['$6', '$7']"
  choice = {"question_type": "multiple-choice", "options": options}
  samples = [
    choice | {"id": "validation_Art_1", "answer": "B", "response": "B"},
    choice | {"id": "validation_Art_2", "answer": "B", "response": "hm"},
    {"id": "validation_Art_Theory_12", "question_type": "open"}
    | {"options": "[]", "answer": "12", "response": "so 12"},
  ]
  assert accuracy(samples=samples) == 0.66667
  with pytest.raises(ValueError, match="Art1"):
    accuracy(samples=[samples[0] | {"id": "Art1"}])


@pytest.mark.parametrize(
  "answer, prediction, right",
  [
    ("1.06", "1.06", 1),
    ("1.06", "A", 1),
    ("1.06", "B", 0),
    ("1.06", "it took so many steps, but the value is then 1.06", 0),
    ("C", "C", 0),  # never right: its letter is no option
    ("B", "B", 1),
    ("B", "Other answers", 1),
  ],
)
def test_a_short_answer_as_a_choice(answer, prediction, right):
  scorer = mmmu.SCORERS["MMMU", "open_as_mcq", "vlmevalkit"]
  assert scorer(answer=answer, prediction=prediction) == right


def test_prompts():
  prompt = mmmu.SCORERS["MMMU", "prompt", "lmms_eval"]
  doc = {"question": "What is <image 1>?", "options": "['x', 'y']"}
  choice = doc | {"question_type": "multiple-choice"}
  assert prompt(choice, "M", "O") == "What is <image 1>?\nA. x\nB. y\n\nM"
  assert prompt(doc | {"question_type": "open"}, "M", "O") == (
    "What is <image 1>?\n\nO"
  )


def text(value: str) -> dict[str, str]:
  return {"type": "text", "value": value}


def picture(value: str) -> dict[str, str]:
  return {"type": "image", "value": value}


def test_pictures_stand_where_the_text_names_them():
  interleave = mmmu.SCORERS["MMMU", "interleave", "vlmevalkit"]
  pictures = [picture("1.png"), picture("2.png")]
  assert interleave([*pictures, text("<image 2> or <image 1>")]) == [
    *(text(""), pictures[1], text(" or "), pictures[0], text(""))
  ]
  plain = [*pictures, text("no name")]
  assert interleave(plain) == plain
  for wrong in ("<image 12>", "<image x>"):
    with pytest.raises(AssertionError):
      interleave([*pictures, text(wrong)])
  with pytest.raises(AssertionError, match="one text"):
    interleave([text("a"), text("b")])
  with pytest.raises(AttributeError, match="one text"):
    interleave(pictures)
  with pytest.raises(IndexError):
    interleave([*pictures, text("<image 3>")])
