"""What holds of every set whose answers are scored by rules, in every impl."""

import math

from hypothesis import given
from hypothesis import strategies as st
import pytest

from emma_jax.benchmarks import suite
from emma_jax.benchmarks.items import Item
from emma_jax.benchmarks.scoring import registry
from tests.benchmarks.protocols import answered
from tests.laws import laws

pytestmark = pytest.mark.smoke
PEOPLE = {"textvqa": 10}
NAMES = ("chartqa", "docvqa", "infovqa", "textvqa", "ocrbench")
PAIRS = [(name, impl) for name in NAMES for impl in suite.find(name).impls]
SHORT = "\nAnswer the question using a single word or phrase."
REASON = (
  "First please perform reasoning, and think step by step to provide best "
  "answer to the following question: \n\n"
)
QUESTION = " what does the SIGN say? "

each_impl = pytest.mark.parametrize("name, impl", PAIRS)


def asked(name: str, *answers: str) -> Item:
  return answered.item(*(answers * PEOPLE.get(name, 1)))


@pytest.mark.parametrize(
  "name, vlmevalkit, lmms_eval",
  [
    (
      "chartqa",
      QUESTION + SHORT,
      f"{QUESTION}\nAnswer the question with a single word.",
    ),
    ("docvqa", QUESTION + SHORT, QUESTION + SHORT),
    ("infovqa", QUESTION + SHORT, QUESTION + SHORT),
    ("textvqa", QUESTION + SHORT, " what does the sign say? " + SHORT),
    ("ocrbench", QUESTION, "what does the SIGN say?"),
    ("mmvet", QUESTION, REASON + QUESTION),
  ],
)
def test_prompts_are_the_toolkits_own(name, vlmevalkit, lmms_eval):
  """To the character, with the pictures before the text, in order."""
  prompts = suite.find(name).prompts
  wanted = {"vlmevalkit": vlmevalkit, "lmms_eval": lmms_eval, "plain": QUESTION}
  item = answered.item("yes", question=QUESTION)
  assert list(prompts) == list(wanted)  # the default first
  assert {key: make(item).text for key, make in prompts.items()} == wanted
  for make in prompts.values():
    assert make(item).pictures == answered.PICTURES


@pytest.mark.parametrize(
  "name, tokens, stop",
  [
    ("chartqa", 16, ()),
    ("docvqa", 32, ()),
    ("infovqa", 32, ()),
    ("textvqa", 128, ("ASSISTANT:",)),
    ("ocrbench", 128, ()),
    ("mmvet", 1024, ()),
  ],
)
def test_limits(name, tokens, stop):
  benchmark = suite.find(name)
  assert (benchmark.max_tokens, benchmark.stop) == (tokens, stop)
  assert (benchmark.kind, benchmark.task) == ("understanding", "ask")
  assert benchmark.protocol.endswith(".")


@pytest.mark.parametrize("name", [*NAMES, "mmvet"])
def test_every_implementation_has_scorers(name):
  title = {"chartqa": "ChartQA", "docvqa": "DocVQA", "infovqa": "InfoVQA"}
  title |= {"textvqa": "TextVQA", "ocrbench": "OCRBench", "mmvet": "MM-Vet"}
  known = {impl for of, _, impl in registry.scorers() if of == title[name]}
  impls = suite.find(name).impls
  assert len(set(impls)) == len(impls) and set(impls) <= known


@each_impl
def test_right_answers_score_all_and_wrong_ones_nothing(name, impl):
  item = asked(name, "Main Street")
  found = answered.values(name, impl, item, "Main Street", "zzz", "main street")
  assert found == [1.0, suite.find(name).lowest, 1.0]


@pytest.mark.parametrize("name, points", [("ocrbench", 1000), ("docvqa", 100)])
def test_what_is_printed_of_right_answers(name, points):
  benchmark = suite.find(name)
  score = answered.value(name, benchmark.impls[0], asked(name, "ab"), "ab")
  assert score * benchmark.scale == points
  assert benchmark.unit == ("" if points == 1000 else "%")


@each_impl
def test_scores_are_bounded_and_repeat(name, impl):
  @laws(60)
  @given(
    st.text(min_size=1, max_size=8).filter(lambda text: text.strip()),
    st.text(min_size=1, max_size=8).filter(lambda text: text.strip()),
  )
  def law(reference, text):
    item = asked(name, reference)
    first, again = answered.values(name, impl, item, text, text)
    assert suite.find(name).lowest <= first <= 1.0 and first == again
    assert math.isfinite(first)

  law()


@each_impl
@pytest.mark.parametrize("answers", [(), ("",), (" ", "\n")])
def test_a_split_without_answers_is_no_wrong_answer(name, impl, answers):
  with pytest.raises(suite.NoAnswers, match=f"{name}, item 7: no answers"):
    answered.value(name, impl, answered.item(*answers), "yes")


def test_what_a_table_loses_is_lost_only_where_it_is_asked_for():
  """pandas reads a prediction "None" as missing, `str` makes that "nan"."""
  for name, impl in PAIRS:
    item = asked(name, "None")
    assert answered.value(name, impl, item, "None") == 1.0
    if impl != "vlmevalkit":
      assert answered.value(name, impl, item, "None", quirks=True) == 1.0
  item = asked("ocrbench", "None")
  assert (
    answered.value("ocrbench", "vlmevalkit", item, "None", quirks=True) == 0
  )
