"""MathVista: rules before the judge, normal forms, tables, queries."""

from hypothesis import given
from hypothesis import strategies as st
import pytest

from emma_jax.benchmarks.scoring import mathvista, mathvista_query
from tests.laws import laws

OPTIONS = ["3/11", "8/11", "6/11", "3/5"]


def compare(impl: str, extraction, answer: str, kind: str, precision=None):
  scorer = mathvista.SCORERS["MathVista", "normalize_and_compare", impl]
  of_choice = kind == "choice"
  return scorer(
    extraction=extraction,
    choices=OPTIONS if of_choice else None,
    question_type="multi_choice" if of_choice else "free_form",
    answer_type="text" if of_choice else kind,
    precision=precision,
    answer=answer,
  )


@pytest.mark.smoke
@pytest.mark.parametrize("impl", ["original", "lmms_eval"])
@pytest.mark.parametrize(
  "extraction, kind, normal",
  [
    ("B", "choice", "8/11"),
    (" (b) 8/11", "choice", "8/11"),
    ("The answer is (c)", "choice", "6/11"),
    ("8 / 11", "choice", "8/11"),  # the nearest text
    ("b", "choice", "3/5"),  # a small letter is a text
    ("(Z)", "choice", "3/5"),
    ("", "choice", "3/5"),
    ("14.9", "integer", "14"),
    ("-0.5", "integer", "0"),
    ("1e2", "integer", "100"),
    ("1,200", "integer", None),
    ("nan", "integer", None),
    ("inf", "integer", None),
    ("[1, 2]", "list", "[1, 2]"),
    (None, "list", "None"),
  ],
)
def test_normal_forms(impl, extraction, kind, normal):
  found = compare(impl, extraction, normal, kind)
  assert found == {"correct": True, "normalized": normal}


def test_only_lmms_eval_compares_without_white_space_and_types():
  for normal, answer in (("14", " 14"), ("14", 14), (None, "None")):
    found = [
      compare(impl, normal or "x", answer, "integer")
      for impl in ("original", "lmms_eval")
    ]
    assert found == [
      {"correct": correct, "normalized": normal} for correct in (False, True)
    ]


@pytest.mark.parametrize(
  "extraction, precision, original, lmms",
  [
    ("1.25", 1, "1.2", "1.2"),
    ("6", 1.0, "6.0", None),  # round(x, 1.0) is an error: all are wrong
    ("0.605", 2.0, "0.6", None),
    ("x", 1, None, None),
    ("1.25", None, None, "1"),
  ],
)
def test_the_precision_of_a_float(extraction, precision, original, lmms):
  found = [
    compare(impl, extraction, "?", "float", precision)["normalized"]
    for impl in ("original", "lmms_eval")
  ]
  assert found == [original, lmms]


def test_free_texts():
  with pytest.raises(UnboundLocalError):
    compare("original", "x", "x", "text")
  assert compare("lmms_eval", "x", "x", "text")["correct"]


def test_a_choice_needs_choices():
  with pytest.raises(TypeError):
    mathvista.normalise("A", None, "multi_choice", "text", None)
  with pytest.raises(ValueError):
    mathvista.normalise("A", [], "multi_choice", "text", None)


@laws(200)
@given(
  st.text("ab(Bc)1./ ", max_size=6),
  st.lists(st.text("ab1/", min_size=2, max_size=4), min_size=1, max_size=4),
)
def test_a_choice_is_one_of_the_options(extraction, options):
  found = mathvista.pick_choice(extraction, options)
  assert found in options
  for option in options:  # two characters and no brackets: no letter
    assert mathvista.pick_choice(option, options) == option


@pytest.mark.parametrize(
  "response, kind, quick, expected",
  [
    ("8/11", "choice", False, "8/11"),
    ("B", "choice", False, None),  # a letter goes to the model
    (" 14 ", "integer", False, "14"),
    ("14.0", "integer", False, None),
    ("1e2", "float", False, "100.0"),
    ("", "integer", False, ""),
    ('The answer is "x".', "list", True, "x"),
    ('The answer is "x".', "list", False, None),
    ("well", "list", True, None),
    (3, "list", True, None),  # there is nothing to search in
  ],
)
def test_rules_before_the_model(response, kind, quick, expected):
  of_choice = kind == "choice"
  found = mathvista.SCORERS["MathVista", "extract_rules", "original"](
    response=response,
    question_type="multi_choice" if of_choice else "free_form",
    answer_type="text" if of_choice else kind,
    choices=OPTIONS if of_choice else None,
    quick_extract=quick,
  )
  asks = expected is None
  extraction = "LLM" if asks else expected
  assert found == {"extraction": extraction, "llm_calls": int(asks)}


def line(kind: str, answer: str, **more) -> dict:
  of_choice = kind == "choice"
  return {
    "question_type": "multi_choice" if of_choice else "free_form",
    "answer_type": "text" if of_choice else kind,
    "choices": str(OPTIONS if of_choice else None),
    "answer": answer,
    "answer_option": "B" if of_choice else "",
  } | more


@pytest.mark.parametrize(
  "res, kind, answer, right",
  [
    ("(B) 8/11", "choice", "8/11", True),
    ("8/11", "choice", "8/11", True),
    ("8 / 11", "choice", "8/11", False),
    ("b", "choice", "8/11", False),
    ("", "choice", "8/11", False),
    (" 14 ", "integer", "14", True),
    ("14.0", "integer", "14", False),
    ("14", "integer", "14.0", False),
    ("0.60", "float", "0.6", True),
    ("1.23", "float", "1.2", False),  # no rounding
    ("[1, 2]", "list", "[1, 2]", False),  # never looked at
    ("None", "list", "None", True),
    ("x", "text", "x", False),
  ],
)
def test_vlmevalkit(res, kind, answer, right):
  scorer = mathvista.SCORERS["MathVista", "post_check", "vlmevalkit"]
  inputs = line(kind, answer, res=res)
  inputs["choices"] = OPTIONS if kind == "choice" else None
  assert scorer(**inputs) is right


def test_what_vlmevalkit_reads_without_a_judge():
  prefetch = mathvista.vlmevalkit_prefetch
  assert prefetch(line("choice", "8/11", prediction="A")) == "A"  # wrong, read
  assert prefetch(line("choice", "8/11", prediction="hm")) is False
  assert prefetch(line("integer", "14", prediction="14")) == 14
  assert prefetch(line("integer", "14", prediction="15")) is False


def test_vlmevalkits_table():
  table = mathvista.SCORERS["MathVista", "aggregate", "vlmevalkit"]
  first = line("choice", "8/11", res="B", task="FQA", skills="['a', 'b']")
  second = line("integer", "14", res="15", task="GPS", skills="two words")
  rows = table(
    rows=[first | {"log": "Prefetch succeed"}, second | {"log": "Succeed"}]
  )
  names = ["Overall", "a", "b", "FQA", "two words", "GPS"]
  assert [row["Task&Skill"] for row in rows] == names
  assert rows[0] == {
    "Task&Skill": "Overall",
    "tot": 2,
    "prefetch": 1,
    "hit": 1,
    "prefetch_rate": 50.0,
    "acc": 50.0,
  }
  assert rows[-1]["acc"] == 0.0
  with pytest.raises(NameError):  # one word is a name for Python
    table(rows=[second | {"log": "", "skills": "geometry"}])


PROBLEM = {
  "question": "How many?",
  "unit": None,
  "choices": None,
  "caption": "",
  "ocr": "",
  "precision": None,
  "question_type": "free_form",
  "answer_type": "integer",
}


def test_queries_of_the_original():
  query = mathvista.SCORERS["MathVista", "query", "original"]
  assert query(problem=PROBLEM | {"unit": "g"}) == (
    "Question: How many? (Unit: g)\nHint: Please answer the question requiring "
    "an integer answer and provide the final value, e.g., 1, 2, 3, at the end."
    "\nSolution:"
  )
  two = {"answer_type": "float", "precision": 2.0}
  assert "two decimal places" in query(problem=PROBLEM | two)
  of_choice = {"question_type": "multi_choice", "answer_type": "text"}
  shown = query(problem=PROBLEM | of_choice | {"choices": ["red", "blue"]})
  assert "\nChoices:\n(A) red\n(B) blue\nHint:" in shown
  with pytest.raises(UnboundLocalError):
    query(problem=PROBLEM | two | {"precision": 3})
  for wrong in ({"answer_type": "text"}, {"question_type": "multi_choice"}):
    with pytest.raises(AssertionError):
      query(problem=PROBLEM | wrong)


def test_queries_of_lmms_eval():
  query = mathvista.SCORERS["MathVista", "query", "lmms_eval"]
  of_choice = {"question_type": "multi_choice", "answer_type": "text"}
  assert query(problem=PROBLEM | of_choice | {"choices": ["red", "blue"]}) == (
    "How many?\nA. red\nB. blue\n"
    "Answer with the option's letter from the given choices directly."
  )
  one = {"answer_type": "float", "precision": 1}
  assert query(problem=PROBLEM | one) == (
    "How many?\nAnswer the question using a single floating-point number with "
    "one decimal place."
  )


def test_other_forms_of_queries():
  seen = PROBLEM | {"caption": "a cup", "ocr": "5"}
  told = mathvista_query.query(
    seen, "reason-first", use_caption=True, use_ocr=True
  )
  hint, *rest = told.split("\n")
  assert hint == (
    "First perform reasoning, then finally answer the question requiring an "
    "integer answer and provide the final value, e.g., 1, 2, 3, at the end in "
    "the following format: Answer: xxx."
  )
  assert rest == [
    "Question: How many?",
    "Image description: a cup",
    "Image detected text: 5",
  ]
  assert mathvista_query.query(seen, "direct") == "Question: How many?"
  assert mathvista_query.query(seen, "code").endswith("\nPython code:")
  with pytest.raises(AssertionError, match="poem"):
    mathvista_query.query(seen, "poem")


def test_what_the_extracting_model_is_asked():
  scorer = mathvista.SCORERS["MathVista", "extract_prompt", "original"]
  asked = scorer(query="q", response="r")
  assert asked == "DEMO\n\nq\n\nr\n\nExtracted answer: "
  prompt = mathvista.extract_prompt("q", "r")
  assert prompt.startswith("Please read the following example.")
  assert prompt.endswith("answer: B\n\nq\n\nr\n\nExtracted answer: ")
  other = mathvista.vlmevalkit_extract_prompt("q", "r")
  assert other.startswith("\nPlease read")
  assert other.endswith("answer: B\n\nq\nModel respone: rExtracted answer:")
