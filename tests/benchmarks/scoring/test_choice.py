"""Which option an answer means, in each implementation."""

from hypothesis import given
from hypothesis import strategies as st
import pytest

from emma_jax.benchmarks.scoring import choice
from tests.laws import laws

ANIMALS = {"A": "teddy bear", "B": "rabbit", "C": "cat", "D": "dog"}
ANSWERS = st.lists(
  st.sampled_from(
    "A B C D E Z a b (B) A. D: :C) **B** C, The answer is cat dog rabbit "
    "bear and not , ! API option".split()
  ),
  max_size=9,
).map(" ".join)


def can_infer(impl: str, prediction: str, choices=ANIMALS):
  scorer = choice.SCORERS["MMBench", "can_infer", impl]
  return scorer(prediction=prediction, choices=dict(choices))


@pytest.mark.smoke
@pytest.mark.parametrize(
  "prediction, vlmevalkit, lmms",
  [
    ("B.", "B", "B"),
    ("(B)", "B", "B"),
    ("{D}", "D", False),  # frames that lmms-eval does not know
    ("**C**", "C", False),
    ("b", False, False),  # a small letter is none
    ("A cat", "A", "A"),  # an article, taken for the option
    ("A cat and dog", "A", False),  # too many words for lmms-eval's "A"
    ("A rabbit is in the image", "B", "B"),  # too far ahead of the end
    ("B it is, so I am sure", False, "B"),
    ("A and B", False, False),
    ("A or A", "A", "A"),
    ("E", False, "E"),  # lmms-eval looks for A to E, whatever there is
    ("Z", "Z", False),
    ("none of it Z", "Z", False),
    ("", False, False),
    ("The cat and the dog", False, False),
    ("the CAT", "C", "C"),
    ("the cat." + " and so on" * 9, False, "C"),  # longer than all options
    ("Failed to obtain answer via API. B", False, False),
    ("I can't process this file. B", "Z", "B"),
    ("Cannot determine the answer", "Z", False),
  ],
)
def test_which_option(prediction, vlmevalkit, lmms):
  assert can_infer("vlmevalkit", prediction) == vlmevalkit
  assert can_infer("ms_vlmeval_0.0.20", prediction) == vlmevalkit
  assert can_infer("lmms_eval", prediction) == lmms


@pytest.mark.parametrize("marked", ["is **B**", "IS **b**", "is  B", "is bear"])
def test_only_the_newest_reads_what_the_answer_is_said_to_be(marked):
  """Far from the end; of a word the first letter, as its pattern has it."""
  said = f"The answer {marked}. All of the others are wrong, as one sees."
  assert can_infer("vlmevalkit", said) == "B"
  assert can_infer("ms_vlmeval_0.0.20", said) is False
  two = {"A": "one", "C": "three"}
  assert can_infer("vlmevalkit", said, two) is False  # no option


def test_options_beyond_d():
  six = {x: str(i) for i, x in enumerate("ABCDEF")}
  assert can_infer("vlmevalkit", "F", six) == "F"
  with pytest.raises(AssertionError, match="A to D"):
    can_infer("lmms_eval", "F", six)


def test_options_that_are_numbers():
  assert can_infer("vlmevalkit", "42", {"A": 4, "B": 42}) is False
  assert can_infer("vlmevalkit", "is 4", {"A": 4, "B": 42}) == "A"
  assert can_infer("vlmevalkit", 4, {"A": 4, "B": 42}) == "A"


@laws(300)
@given(ANSWERS)
def test_a_letter_is_an_option_or_none_of_them(answer):
  for impl in ("vlmevalkit", "ms_vlmeval_0.0.20"):
    assert can_infer(impl, answer) in (*ANIMALS, "Z", False)
  assert can_infer("lmms_eval", answer) in (*"ABCDE", False)
  newest = can_infer("vlmevalkit", answer)
  older = can_infer("ms_vlmeval_0.0.20", answer)
  assert newest == older or "answer is **" in answer


@laws(300)
@given(ANSWERS, st.permutations("ABCD"))
def test_the_order_of_options_does_not_count(answer, order):
  moved = {x: ANIMALS[x] for x in order}
  for impl in ("vlmevalkit", "lmms_eval"):
    assert can_infer(impl, answer, moved) == can_infer(impl, answer)


@pytest.mark.parametrize(
  "prediction, expected",
  [
    ("", ""),
    (" .!", ""),
    ("D\n", "D"),
    ("b", ""),
    ("(B)", "B"),
    ("C.cat", "C"),
    ("A and B", "A"),  # the start outranks the end
    ("I think it is B, not A", "A"),  # the end outranks a phrase
    ("The best option is C here", "C"),
    ("option B) or (C) or D. then", "C"),  # brackets, period, half a bracket
    ("(A) or rather (D) here", "D"),  # the last of one form
    ("정답은 C 입니다", "C"),
    ("an API thing", "A"),  # any letter, if there is no form at all
    ("Bear", "B"),
    ("the bear", ""),
    ("ABBA", "A"),  # before a space, though in a word
  ],
)
def test_extract_letter(prediction, expected):
  scorer = choice.SCORERS["MMBench", "extract_mcq_answer", "lmms_eval"]
  assert scorer(prediction=prediction, choices=list("ABCD")) == expected


@pytest.mark.parametrize(
  "higher, lower",
  [("x (A) x", "B."), ("x A. x", "B:"), ("x A: x", "B)"), ("x A) x", "B x")],
)
def test_forms_of_a_letter_have_ranks(higher, lower):
  """Whichever is the last."""
  assert choice.extract_letter(f"{higher} x {lower} x", "AB") == "A"
  assert choice.extract_letter(f"x {lower} x {higher}", "AB") == "A"


@pytest.mark.parametrize(
  "phrase",
  [
    *(f"{x} is" for x in ("answer", "choice", "My answer", "my choice")),
    *(
      f"the {quality} {noun} is"
      for quality, noun in (
        *(("correct", "answer"), ("best", "answer"), ("correct", "option")),
        *(("best", "option"), ("correct", "choice")),
      )
    ),
    *("I choose", "i select", "I PICK", "옵션", "정답은", "답은", "답:"),
    *("答案是", "答案为", "选", "答えは"),
  ],
)
def test_phrases_outrank_forms_of_letters(phrase):
  said = f"x (A) x {phrase} xCx"
  assert choice.extract_letter(said, "AC") == "C"


@laws(300)
@given(ANSWERS, st.sampled_from("ABCD"))
def test_a_bare_letter_is_always_read(answer, letter):
  assert choice.extract_letter(answer, "ABCD") in ("", *"ABCD")
  assert choice.extract_letter(f" {letter}.\n", "ABCD") == letter
  assert choice.extract_letter(f"{letter}: {answer}", "ABCD") == letter


@pytest.mark.parametrize(
  "prediction, filtered, score",
  [
    ("D", "D", 1.0),
    ("d", "d", 1.0),
    ("(D)", "(D)", 1.0),
    ("  D. x", "D", 1.0),
    ("D.B.", "D", 1.0),
    ("**D**", "**D**", 1.0),
    ("D \n", "D \n", 0.0),
    ("D) Thorax", "D) Thorax", 0.0),
    ("The answer is D", "The answer is D", 0.0),
    ("", "", 0.0),
    ("D\0", "D\0", 1.0),  # an array of texts has no NULs at the end
    ("D\0.", "D\0.", 1.0),
    ("\0D", "\0D", 0.0),
  ],
)
def test_ai2d_in_lmms_eval(prediction, filtered, score):
  scorer = choice.SCORERS["AI2D", "exact_match", "lmms_eval"]
  found = scorer(answer="D", prediction=prediction)
  assert found == {"filtered": filtered, "score": score}


def test_ai2ds_answer_is_an_index():
  target = choice.SCORERS["AI2D", "target", "lmms_eval"]
  assert target(options=["x", "y", "z"], answer="2") == "C"
  with pytest.raises(IndexError):
    target(options=["x"], answer="1")


@pytest.mark.parametrize(
  "prediction, original, lmms, vlmevalkit",
  [
    ("A", 1, 1.0, 1),
    ("a", 1, 0.0, 0),
    ("An apple", 1, 1.0, 0),
    ("(a", 1, 0.0, 0),
    ("(A)", 1, 1.0, 1),
    ("Option A", 1, 1.0, 1),
    ("The answer is a", 1, 0.0, 1),
    ("It is A", 0, 1.0, 1),
    ("The correct answer is A", 0, 1.0, 1),
    ("**A**", 0, 1.0, 1),
    ("opt one", 0, 0.0, 1),
    ("", 0, 0.0, 0),
    ("(", 0, 0.0, 0),
  ],
)
def test_mmstar(prediction, original, lmms, vlmevalkit):
  options = {"A": "opt one", "B": "opt two", "C": "opt three"}
  inputs = {"answer": "A", "prediction": prediction}
  scorers = choice.SCORERS
  assert scorers["MMStar", "letter_match", "original"](**inputs) == original
  assert scorers["MMStar", "letter_match", "lmms_eval"](**inputs) == lmms
  for name in (("MMStar", "letter_match"), ("AI2D", "can_infer")):
    found = scorers[*name, "vlmevalkit"](**inputs, choices=options)
    assert found == vlmevalkit
