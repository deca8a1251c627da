"""OCRBench: what is contained in what, under which case and spaces."""

from hypothesis import given
from hypothesis import strategies as st
import pytest

from emma_jax.benchmarks.scoring import containment
from tests.laws import laws

IMPLS = ("original", "lmms_eval", "vlmevalkit")


def score(impl, answers, prediction, *, formula=False, **names) -> int:
  of = ("HME100k", containment.FORMULAE) if formula else ("ESTVQA", "Scene")
  inputs = dict(zip(("dataset", "question_type"), of)) | names
  scorer = containment.SCORERS["OCRBench", "contains", impl]
  return scorer(answers=answers, prediction=prediction, **inputs)


@pytest.mark.smoke
@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize(
  "answers, prediction, formula, expected",
  [
    (["STOP"], "It says stop.", False, 1),
    ([" RM 5.00 "], "rm 5.00", False, 1),
    (["a\nb"], "xa by", False, 1),
    (["a b"], "ab", False, 0),
    (["12/31/99", "Dec 31"], "December 31", False, 0),
    (["x", "y"], "says Y", False, 1),
    (["超市"], "超市门口", False, 1),
    ([""], "anything", False, 1),
    (["\\frac { 1 } { 2 }"], "so \\frac{1}\n{2}", True, 1),
    (["X"], "x", True, 0),  # of formulae the case counts
    (["X"], "x", False, 1),
  ],
)
def test_what_all_agree_on(impl, answers, prediction, formula, expected):
  assert score(impl, answers, prediction, formula=formula) == expected


def test_only_lmms_eval_folds_full_width_letters():
  found = [score(impl, ["A1 b"], "Ａ１　Ｂ") for impl in IMPLS]
  assert found == [0, 1, 0]
  assert score("lmms_eval", ["x"], "ｘ", formula=True) == 0


@pytest.mark.parametrize("wide, plain", [("！", "!"), ("～", "~"), ("　", " ")])
def test_the_range_that_is_folded(wide, plain):
  assert score("lmms_eval", [f"x{plain}x"], f"x{wide}x") == 1
  assert score("lmms_eval", ["｟"], "｟") == 1  # the next is left alone


def test_what_tells_a_formula():
  """The data set's name, of VLMEvalKit the category."""
  mixed = {"dataset": "HME100k", "question_type": "Doc-oriented VQA"}
  found = [score(impl, ["X"], "x", **mixed) for impl in IMPLS]
  assert found == [0, 0, 1]


def test_references_as_text():
  """149 of the published ones are plain; VLMEvalKit's are lists as text."""
  assert score("original", "stop", "STOP!") == 1
  assert score("vlmevalkit", "['a', 'stop']", "STOP!") == 1
  # Of a text in quotes VLMEvalKit tries each letter.
  assert score("vlmevalkit", "'axe'", "x") == 1


def test_predictions_that_are_no_text():
  """VLMEvalKit writes them out; nobody looks at one without a reference."""
  assert score("vlmevalkit", ["5"], 5) == 1
  assert score("vlmevalkit", ["n"], None) == 1
  assert score("original", [], None) == score("vlmevalkit", [], None) == 0
  for impl, answers in (("original", ["5"]), ("lmms_eval", [])):
    with pytest.raises(AttributeError):
      score(impl, answers, 5)


def rows() -> list[dict]:
  names = (*containment.RECOGNITION, *containment.OTHERS)
  return [
    {"prediction": "abc", "answer": f"['{text}']", "category": name}
    for name in names
    for text in ("B", "x")
  ]


def test_scores_are_counts():
  scores = containment.SCORERS["OCRBench", "aggregate", "vlmevalkit"](
    rows=[r for r in rows() if r["category"] != containment.FORMULAE]
  )
  assert scores == {
    "Text Recognition": 6,
    "Scene Text-centric VQA": 1,
    "Doc-oriented VQA": 1,
    "Key Information Extraction": 1,
    containment.FORMULAE: 0,
    "Final Score": 9,
    "Final Score Norm": 0.9,
  }


def test_categories_have_their_published_names():
  assert containment.RECOGNITION == (
    "Regular Text Recognition",
    "Irregular Text Recognition",
    "Artistic Text Recognition",
    "Handwriting Recognition",
    "Digit String Recognition",
    "Non-Semantic Text Recognition",
  )
  assert containment.FORMULAE == (
    "Handwritten Mathematical Expression Recognition"
  )


def test_lmms_eval_divides_by_a_thousand_and_counts_anew():
  aggregate = containment.SCORERS["OCRBench", "aggregate", "lmms_eval"]
  results = [{"question_type": r["category"], "score": 1} for r in rows()]
  assert aggregate(results=results) == 0.02
  assert aggregate(results=results) == 0.02


@laws(100)
@given(
  st.lists(st.text("aB \n", max_size=3), min_size=1, max_size=3),
  st.text("aB \n", max_size=6),
  st.booleans(),
)
def test_more_references_or_text_never_lose_a_hit(answers, said, formula):
  for impl in IMPLS:
    alone = score(impl, answers[:1], said, formula=formula)
    assert score(impl, answers, said, formula=formula) >= alone
    longer = f"x{said}x"
    assert score(impl, answers, longer, formula=formula) >= score(
      impl, answers, said, formula=formula
    )
