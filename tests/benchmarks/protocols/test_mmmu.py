"""MMMU: choices and short answers."""

import json

import pytest

from emma_jax.benchmarks import suite
from emma_jax.benchmarks.scoring import mmmu, registry
from tests.benchmarks.protocols.answers import (
  COLOURS,
  Judge,
  forbid_luck,
  item,
  picture,
  score,
)

pytestmark = pytest.mark.smoke
MMMU = suite.find("mmmu")
CHOICE = item(
  "validation_Art_Theory_12",
  question="Is <image 2> like <image 1>?",
  pictures=(picture("one"), picture("two")),
  options=COLOURS,
  answers=("B",),
  meta={"question_type": "multiple-choice", "topic_difficulty": "Easy"},
)
OPEN = item(
  "validation_Math_3",
  question="How many? <image 1>",
  answers=("1,200",),
  meta={"question_type": "short-answer", "subfield": "Algebra"},
)
UNREADABLE = "it may be this or that, hard to say from here"
DIRECT = "Answer with the option's letter from the given choices directly."
SHORT = "Answer the question using a single word or phrase."


def test_prompts_of_a_choice():
  asked = "Is <image> like <image>?"
  found = {n: f(CHOICE) for n, f in MMMU.prompts.items()}
  assert {n: f.text for n, f in found.items()} == {
    "vlmevalkit": (
      f"Question: {asked}\nOptions:\nA. red\nB. green\nC. blue\nD. white\n"
      "Please select the correct answer from the options above. \n"
    ),
    "lmms_eval": f"{asked}\nA. red\nB. green\nC. blue\nD. white\n\n{DIRECT}",
    "original": (
      f"{asked}\n(A) red\n(B) green\n(C) blue\n(D) white\n\n{DIRECT}"
    ),
  }
  for request in found.values():
    assert [p.where for p in request.pictures] == ["two", "one"]


def test_prompts_of_a_short_answer():
  assert {n: f(OPEN).text for n, f in MMMU.prompts.items()} == {
    "vlmevalkit": "Question: How many? <image>\n",
    "lmms_eval": f"How many? <image>\n\n{SHORT}",
    "original": f"How many? <image>\n{SHORT}",
  }


def test_pictures_of_options_stand_in_the_options():
  of = item(
    question="Which?",
    pictures=(picture("one"), picture("two")),
    options={"A": "<image 1>", "B": "<image 2>"},
  )
  for prompt in MMMU.prompts.values():
    assert prompt(of).text.count("<image>") == 2
    assert prompt(of).pictures == of.pictures


@pytest.mark.parametrize("impl", MMMU.impls)
@pytest.mark.parametrize("of, text", [(CHOICE, "B"), (OPEN, "1,200")])
def test_the_right_answer_is_right_everywhere(monkeypatch, impl, of, text):
  forbid_luck(monkeypatch)
  assert score(MMMU, impl, of, text) == [suite.Score(value=1.0)]


TEXTS = (
  *("B", "(A) or rather (B).", "Answer:B", "B. green", "I would say B", "E"),
  "One sees that it is green all over",
)


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("impl", ["original", "lmms_eval"])
def test_choices_are_those_of_the_originals(impl, text):
  parse = mmmu.parse_choice if impl == "original" else mmmu.parse_choice_lmms
  letter = parse(text, list(COLOURS.values()))
  (found,) = score(MMMU, impl, CHOICE, text)
  assert found.value == float(letter == "B")
  assert bool(found.failure) == (letter is None)
  golden = registry.find("MMMU", "parse_multi_choice", impl)
  assert letter in (None, golden(text, list(COLOURS.values())))


@pytest.mark.parametrize(
  "text, original, lmms",
  [("Answer:B", "judge:unparsable", ""), ("E", *["judge:unparsable"] * 2)],
)
def test_a_draw_of_the_originals_is_a_failure(
  monkeypatch, text, original, lmms
):
  forbid_luck(monkeypatch)
  for impl, failure in (("original", original), ("lmms_eval", lmms)):
    (found,) = score(MMMU, impl, CHOICE, text, judge=Judge("B"))
    assert found.failure == failure, impl


def test_the_draw_is_seeded_and_only_where_asked_for():
  texts = [UNREADABLE] * 400
  found = score(MMMU, "original", CHOICE, *texts, guess=True)
  assert found == score(MMMU, "original", CHOICE, *texts, guess=True)
  assert all(s.parts == {"guessed": 1.0} and not s.failure for s in found)
  assert 0.17 < sum(s.value for s in found) / len(found) < 0.33


OPEN_TEXTS = ("1200", "so x = 1,200", "12", "1200.004", "seven", "0.5 or 1,200")


@pytest.mark.parametrize("text", OPEN_TEXTS)
def test_short_answers_are_those_of_the_toolkits(text):
  (found,) = score(MMMU, "original", OPEN, text)
  golden = registry.find("MMMU", "open_eval", "original")
  assert found.value == golden("1,200", text)["correct"]
  (found,) = score(MMMU, "lmms_eval", OPEN, text)
  golden = registry.find("MMMU", "open_eval", "lmms_eval")
  assert found.value == golden("1,200", text)
  (found,) = score(MMMU, "vlmevalkit", OPEN, text)
  golden = registry.find("MMMU", "open_as_mcq", "vlmevalkit")
  assert found.value == golden("1,200", text)


def test_vlmevalkit_makes_a_choice_of_a_short_answer():
  judge = Judge("A")
  (found,) = score(MMMU, "vlmevalkit", OPEN, UNREADABLE, judge=judge)
  assert found.value == 1
  assert "A. 1,200\nB. Other Answers\n" in judge.calls[0].text
  (found,) = score(MMMU, "vlmevalkit", OPEN, UNREADABLE, judge=Judge("B"))
  assert found == suite.Score(value=0.0)


def test_vlmevalkit_never_counts_a_reference_that_is_a_capital():
  of = item(answers=("C",), meta={"question_type": "short-answer"})
  for text in ("C", "A", "c"):
    (found,) = score(MMMU, "vlmevalkit", of, text, judge=Judge("A"))
    assert found.value == 0
  (found,) = score(MMMU, "original", of, "The site is C in the figure")
  assert found.value == 1


def test_a_lost_first_option_makes_vlmevalkit_take_a_choice_for_an_open_one():
  of = item(options=COLOURS | {"A": "None"}, answers=("B",))
  judge = Judge("Z")
  score(MMMU, "vlmevalkit", of, UNREADABLE * 2, judge=judge)
  assert "A. B\nB. Other Answers\nC. blue\nD. white\n" in judge.calls[0].text
  (found,) = score(MMMU, "original", of, "B")
  assert found.value == 1


@pytest.mark.parametrize("answers", [("24/7", "3.429"), ("['24/7', '3.429']",)])
def test_several_references(answers):
  """lmms-eval has them as one text, which no answer contains."""
  of = item(answers=answers, meta={"question_type": "short-answer"})
  for text in ("24/7", "x = 3.429"):
    values = [score(MMMU, impl, of, text)[0].value for impl in MMMU.impls]
    assert dict(zip(MMMU.impls, values)) == {
      "vlmevalkit": 0,
      "original": 1,
      "lmms_eval": 0,
    }


def test_all_references_of_the_validation_split(shared_dir):
  """Each scores 1, but for lists of them and for a capital."""
  file = shared_dir / "data" / "benchmarks" / "mmmu" / "answer_dict_val.json"
  lost: dict[str, set[str]] = {impl: set() for impl in MMMU.impls}
  for id, entry in json.loads(file.read_text()).items():
    gold = entry["ground_truth"]
    golds = gold if isinstance(gold, list) else [gold]
    kind = entry["question_type"]
    options = (
      {letter: f"option {letter}" for letter in "ABCDEFGHI"}
      if kind == "multiple-choice"
      else {}
    )
    of = item(
      id, options=options, answers=tuple(golds), meta={"question_type": kind}
    )
    for impl in MMMU.impls:
      (found,) = score(MMMU, impl, of, golds[0])
      if not found.value:
        lost[impl].add(id)
  lists = {
    "validation_Chemistry_30",
    "validation_Geography_4",
    "validation_Math_15",
  }
  assert lost == {
    "vlmevalkit": lists | {"validation_Basic_Medical_Science_10"},
    "original": set(),
    "lmms_eval": lists,
  }


def test_columns():
  assert MMMU.categories(CHOICE) == {
    "discipline": "Art and Design",
    "subject": "Art_Theory",
    "difficulty": "Easy",
    "question type": "choice",
  }
  table = item(
    "12",
    options=COLOURS,
    meta={"id": "validation_Math_3", "category": "Math", "subfield": "Algebra"},
  )
  assert MMMU.categories(table) == {
    "discipline": "Science",
    "subject": "Math",
    "subfield": "Algebra",
    "question type": "choice",
  }
  other = item("12", meta={"category": "Knots", "l2-category": "Crafts"})
  assert MMMU.categories(other)["discipline"] == "Crafts"
