"""MathVista: prompts from either table, extraction, and the toolkits' traps."""

from hypothesis import given
from hypothesis import strategies as st
import pytest

from emma_jax.benchmarks import suite
from emma_jax.benchmarks.scoring import mathvista, mathvista_query, registry
from emma_jax.judge.base import Reply
from tests.benchmarks.protocols.answers import Judge, item, score

pytestmark = pytest.mark.smoke
MATHVISTA = suite.find("mathvista")
CHOICES = ["3/11", "8/11", "6/11"]
LETTER = (
  "Hint: Please answer the question and provide the correct option letter, "
  "e.g., A, B, C, D, at the end."
)
FLOAT2 = (
  "Hint: Please answer the question requiring a floating-point number with two "
  "decimal places and provide the final value, e.g., 1.23, 1.34, 1.45, at the "
  "end."
)
LISTED = "Choices:\n(A) 3/11\n(B) 8/11\n(C) 6/11"
SKILLS = ["arithmetic reasoning", "geometry reasoning"]


def hub(question: str, answer: str, query: str = "", **meta):
  """An item of the hub's table, without options if it is free."""
  choices = meta.pop("choices", None)
  return item(
    question=question,
    options=dict(zip("ABC", choices or ())),
    answers=(answer,),
    meta={
      "choices": choices,
      "query": query,
      "metadata": {"task": "geometry problem solving", "skills": SKILLS},
      **meta,
    },
  )


def table(query: str, answer: str, **meta):
  """The same of VLMEvalKit's, all of whose columns are text."""
  columns = {"task": "geometry problem solving", "skills": str(SKILLS)}
  return item(question=query, answers=(answer,), meta=columns | meta)


CHOICE = {"question_type": "multi_choice", "answer_type": "text"}
ASKED = f"{LETTER}\nQuestion: Which?\n{LISTED}"
HUB_CHOICE = hub("Which?", "8/11", ASKED, choices=CHOICES, **CHOICE)
TABLE_CHOICE = table(
  ASKED, "8/11", choices=str(CHOICES), answer_option="B", **CHOICE
)
OWN_CHOICE = hub("Which?", "8/11", choices=CHOICES, **CHOICE)
FLOAT = {"question_type": "free_form", "answer_type": "float"}
COST = f"{FLOAT2}\nQuestion: How much? (Unit: $)"
HUB_FLOAT = hub("How much?", "1.45", COST, unit="$", precision=2.0, **FLOAT)
TABLE_FLOAT = table(COST, "1.45", choices="None", unit="$", **FLOAT)


def free(answer: str, answer_type: str, **meta):
  return hub(
    "How many?", answer, question_type="free_form", answer_type=answer_type,
    **meta,
  )  # fmt: skip


@pytest.mark.parametrize(
  "of", [HUB_CHOICE, TABLE_CHOICE, OWN_CHOICE], ids=["hub", "table", "own"]
)
def test_prompts_of_a_choice_are_the_same_from_every_table(of):
  assert {n: f(of).text for n, f in MATHVISTA.prompts.items()} == {
    "vlmevalkit": ASKED,
    "lmms_eval": (
      "Which?\nA. 3/11\nB. 8/11\nC. 6/11\n"
      "Answer with the option's letter from the given choices directly."
    ),
    "lmms_eval_cot": f"Question: Which?\n{LISTED}\n{LETTER}",
    "original": f"Question: Which?\n{LISTED}\n{LETTER}\nSolution:",
  }


@pytest.mark.parametrize("of", [HUB_FLOAT, TABLE_FLOAT], ids=["hub", "table"])
def test_prompts_of_a_float(of):
  assert {n: f(of).text for n, f in MATHVISTA.prompts.items()} == {
    "vlmevalkit": COST,
    "lmms_eval": (
      "How much? (Unit: $)\nAnswer the question using a single floating-point "
      "number with two decimal places."
    ),
    "lmms_eval_cot": f"Question: How much? (Unit: $)\n{FLOAT2}",
    "original": f"Question: How much? (Unit: $)\n{FLOAT2}\nSolution:",
  }
  assert MATHVISTA.prompts["original"](of).pictures == of.pictures


def test_the_originals_prompt_is_its_query():
  problem = {
    "question": "Which?", "unit": "", "choices": CHOICES, "caption": "",
    "ocr": "", "precision": None, **CHOICE,
  }  # fmt: skip
  wanted = mathvista_query.query(problem)
  assert MATHVISTA.prompts["original"](HUB_CHOICE).text == wanted


@pytest.mark.parametrize("impl", MATHVISTA.impls)
@pytest.mark.parametrize(
  "of, text",
  [
    (HUB_CHOICE, "8/11"),
    (TABLE_CHOICE, "8/11"),
    (OWN_CHOICE, "8/11"),
    (free("14", "integer"), "14"),
    (free("0", "integer"), "0"),
    (HUB_FLOAT, "1.45"),
    (TABLE_FLOAT, "1.45"),
  ],
)
def test_right_answers_need_no_judge(impl, of, text):
  """But for lmms-eval, to which no float is right."""
  lost = impl == "lmms_eval" and of.meta["answer_type"] == "float"
  judge = Judge()
  found = score(MATHVISTA, impl, of, text, judge=judge)
  assert found == [suite.Score(value=0.0 if lost else 1.0)]
  assert not judge.calls


def test_lmms_eval_alone_compares_without_white_space_at_the_ends():
  of = hub("How long?", "6 cm", choices=[" 6 cm", "7 cm"], **CHOICE)
  for impl, value in (("original", 0.0), ("lmms_eval", 1.0)):
    (found,) = score(MATHVISTA, impl, of, "(A)", judge=Judge("(A)"))
    assert (found.value, found.failure) == (value, "")


def test_lmms_eval_alone_strips_an_answer_before_its_rules():
  for impl, failure in (("original", "judge:absent"), ("lmms_eval", "")):
    (found,) = score(MATHVISTA, impl, HUB_CHOICE, "8/11\n")
    assert found.failure == failure


@pytest.mark.parametrize("impl", ["original", "lmms_eval"])
def test_a_judge_extracts_with_the_authors_examples(impl):
  judge = Judge("B", "(A) 3/11")
  texts = ("It is the second, (B).", "I think the first.")
  found = score(MATHVISTA, impl, TABLE_CHOICE, *texts, judge=judge)
  # A letter stands for its option.
  assert [s.value for s in found] == [1, 0]
  assert [c.id for c in judge.calls] == [
    "mathvista/7/0/extract", "mathvista/7/1/extract",
  ]  # fmt: skip
  wanted = mathvista.extract_prompt(ASKED, texts[0])
  assert judge.calls[0].text == wanted
  assert wanted.endswith(
    f"Extracted answer: B\n\n{ASKED}\n\n{texts[0]}\n\nExtracted answer: "
  )


def test_vlmevalkit_has_examples_of_its_own():
  judge = Judge("14")
  of = free("14", "integer", query="Hint: x\nQuestion: How many?")
  (found,) = score(MATHVISTA, "vlmevalkit", of, "It is 14.", judge=judge)
  assert found.value == 1
  assert judge.calls[0].id == "mathvista/7/0/extract_vlmevalkit"
  assert judge.calls[0].text.endswith(
    "Hint: x\nQuestion: How many?\nModel respone: It is 14.Extracted answer:"
  )


@pytest.mark.parametrize(
  "reply, original, vlmevalkit",
  [
    ("14", (1, ""), (1, "")),
    (" 14\n", (1, ""), (1, "")),
    ("15", (0, ""), (0, "")),
    ("14.0", (1, ""), (0, "")),  # int("14.0")
    ("fourteen", *[(0, "")] * 2),
    ("", *[(0, "judge:unparsable")] * 2),
    (Reply(status="refused"), *[(0, "judge:refused")] * 2),
    (Reply(status="absent"), *[(0, "judge:absent")] * 2),
    (Reply(status="unreachable"), *[(0, "judge:unreachable")] * 2),
  ],
)
def test_what_is_no_number_after_the_judge_is_wrong(
  reply, original, vlmevalkit
):
  """But a judge that says nothing, or is not there, is a failure."""
  of = free("14", "integer")
  for impl, wanted in (
    ("original", original), ("lmms_eval", original), ("vlmevalkit", vlmevalkit),
  ):  # fmt: skip
    judge = Judge(reply)
    (found,) = score(MATHVISTA, impl, of, "fourteen", judge=judge)
    assert (found.value, found.failure) == wanted, impl
    assert len(judge.calls) == 1


def test_floats_are_rounded_by_the_original_alone():
  judge = lambda: Judge("1.4512")
  values = {
    impl: score(MATHVISTA, impl, HUB_FLOAT, "about that", judge=judge())[0]
    for impl in MATHVISTA.impls
  }
  assert values["original"] == suite.Score(value=1.0)
  # It reads the number: a wrong answer, not a failure.
  assert values["lmms_eval"] == suite.Score(value=0.0)
  assert values["vlmevalkit"] == suite.Score(value=0.0)


@pytest.mark.parametrize(
  "meta, question, text, right",
  [
    ({"precision": 1.0}, "How much?", "0.34", True),
    ({"precision": "2.0"}, "How much?", "0.34", False),
    ({"precision": ""}, f"{FLOAT2}\nQuestion: How much?", "0.34", False),
    ({}, "How much?", "0.34", True),  # the reference has one decimal
    ({"precision": float("nan")}, "How much?", "0.34", True),
  ],
)
def test_precision_is_the_columns_or_the_hints(meta, question, text, right):
  of = hub(question, "0.3", **FLOAT, **meta)
  (found,) = score(MATHVISTA, "original", of, text)
  assert found.value == right


def test_lists_never_match_in_vlmevalkit():
  of = free("[2007, 2008]", "list")
  text = "Between 2007 and 2008."
  for impl, value, calls in (
    ("original", 1, 1), ("lmms_eval", 1, 1), ("vlmevalkit", 0, 0),
  ):  # fmt: skip
    judge = Judge("[2007, 2008]")
    (found,) = score(MATHVISTA, impl, of, text, judge=judge)
    assert (found.value, found.failure) == (value, ""), impl
    assert len(judge.calls) == calls


def test_a_free_text_is_compared_as_it_stands():
  """The published set has none; the original's script would end."""
  of = free("a cube", "text", query="Question: What is it?")
  for impl in ("original", "lmms_eval"):
    (found,) = score(MATHVISTA, impl, of, "It is.", judge=Judge("a cube"))
    assert found.value == 1


def test_a_letter_beyond_the_options():
  (found,) = score(MATHVISTA, "vlmevalkit", HUB_CHOICE, "E", judge=Judge("E"))
  assert found == suite.Score(value=0.0)
  # The original takes the option whose text is nearest to it: the first here.
  (found,) = score(MATHVISTA, "original", HUB_CHOICE, "E", judge=Judge("E"))
  assert found == suite.Score(value=0.0)


@given(
  extraction=st.sampled_from(
    ["A", "B", "(b) x", "8/11", "3", "14", "14.2", "1.45", "[1]", "hm"]
  ),
  of=st.sampled_from(
    [HUB_CHOICE, free("14", "integer"), HUB_FLOAT, free("[1]", "list")]
  ),
  impl=st.sampled_from(["original", "lmms_eval"]),
)
def test_scores_are_those_of_the_toolkits(extraction, of, impl):
  golden = registry.find("MathVista", "normalize_and_compare", impl)
  wanted = golden(
    extraction=extraction,
    choices=of.meta["choices"],
    question_type=of.meta["question_type"],
    answer_type=of.meta["answer_type"],
    precision=of.meta.get("precision"),
    answer=of.answers[0],
  )
  (found,) = score(MATHVISTA, impl, of, "So it is.", judge=Judge(extraction))
  assert found.value == wanted["correct"]


@given(
  text=st.text(max_size=30),
  reply=st.text(max_size=10),
  of=st.sampled_from(
    [HUB_CHOICE, TABLE_CHOICE, HUB_FLOAT, free("14", "integer")]
  ),
)
def test_any_answer_scores_0_or_1_twice_the_same(text, reply, of):
  for impl in MATHVISTA.impls:
    (found,), (again,) = (
      score(MATHVISTA, impl, of, text, judge=Judge(reply)) for _ in range(2)
    )
    assert found == again and found.value in (0.0, 1.0)
    assert not (found.failure and found.value)


@pytest.mark.parametrize("of", [HUB_CHOICE, TABLE_CHOICE], ids=["hub", "table"])
def test_columns(of):
  assert MATHVISTA.categories(of) == {
    "task": "geometry problem solving",
    "skill: arithmetic reasoning": "arithmetic reasoning",
    "skill: geometry reasoning": "geometry reasoning",
  }
