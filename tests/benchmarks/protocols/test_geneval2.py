import math

from hypothesis import given, settings
from hypothesis import strategies as st
import pytest

from emma_jax.benchmarks.items import BadItem, Item
from emma_jax.benchmarks.protocols import geneval2
from emma_jax.benchmarks.scoring import geneval2 as scoring
from emma_jax.judge.base import Reply
from tests.benchmarks.protocols import drawn

pytestmark = pytest.mark.smoke
QUICK = settings(max_examples=60, deadline=None)
(BENCHMARK,) = geneval2.BENCHMARKS
ITEM = Item(
  id="00000",
  group="00000",
  question="two green pigs",
  meta={
    "questions": (
      ("How many pigs are in the image?", "two"),
      ("Are the pigs green?", "Yes"),
      ("Are there any pigs in the image?", "Yes"),
    ),
    "skills": ("count", "attribute", "object"),
    "atom_count": 3,
  },
)


def logprobs(**probabilities) -> dict[str, float]:
  return {text: math.log(p) for text, p in probabilities.items() if p}


def judge(*told):
  """Replies with log-probabilities, one dictionary a question."""

  def reply(call):
    place = int(call.id.rpartition("/q")[2])
    question = ITEM.meta["questions"][place][0]
    assert call.text == f"{question} Answer in one word."
    assert call.pictures == (drawn.picture(0),)
    assert call.options == {
      "temperature": 0,
      "max_tokens": 1,
      "top_logprobs": 20,
    }
    return Reply(text="whatever", logprobs=told[place])

  return reply


def score(*told, **more):
  (found,) = drawn.scores(BENCHMARK, ITEM, judge(*told), **more)
  return found


SURE = (logprobs(two=1.0), logprobs(Yes=1.0), logprobs(yes=1.0))


def test_the_mass_of_the_right_answers_spellings():
  told = (
    logprobs(two=0.25) | {"2": math.log(0.25), " two": math.log(0.25)},
    logprobs(Yes=0.5, No=0.25),
    logprobs(yes=1.0),
  )
  atoms = [0.75, 0.5, 1.0]
  found = score(*told, impl="soft_tifa_am")
  assert found.value == pytest.approx(scoring.soft_tifa_am([atoms]) / 100)
  assert found.parts == pytest.approx(
    {"uncovered": 0.5 / 3, "count": 0.75, "attribute": 0.5, "object": 1}
  )
  found = score(*told, impl="soft_tifa_gm")
  assert found.value == pytest.approx(scoring.soft_tifa_gm([atoms]) / 100)
  assert BENCHMARK.impls[0] == "soft_tifa_gm"
  assert BENCHMARK.categories(ITEM) == {"atoms": "3"}


def test_one_atom_that_is_not_there_makes_a_geometric_mean_0():
  told = (logprobs(three=1.0), *SURE[1:])
  assert score(*SURE).value == 1
  # Servers round: a sum a little above 1 is 1.
  above = {"Yes": math.log(0.6), " yes": math.log(0.4005)}
  assert score(SURE[0], above, above).value == 1
  assert score(*told, impl="soft_tifa_gm").value == 0
  assert score(*told, impl="soft_tifa_am").value == pytest.approx(2 / 3)


def test_quirks_take_the_space_before_a_digit_for_the_answer():
  told = ({" ": math.log(0.5), "two": math.log(0.25)}, *SURE[1:])
  count = lambda quirks: score(*told, quirks=quirks).parts["count"]
  assert count(True) == pytest.approx(0.75)
  assert count(False) == pytest.approx(0.25)


@pytest.mark.parametrize(
  "told", [{}, {"Yes": 0.1}, {"Yes": 900.0}, {"Yes": 0.0, "No": -0.1}]
)
def test_without_probabilities_there_is_no_score(told):
  found = drawn.scores(BENCHMARK, ITEM, judge(SURE[0], told, SURE[2]))
  assert drawn.failures(found) == ["judge:unparsable"]
  away = drawn.scores(BENCHMARK, ITEM, lambda call: Reply(status="absent"))
  assert drawn.failures(away) == ["judge:absent"]


def test_an_item_without_questions_is_an_error():
  bare = Item(id="7", group="7", question="a pig")
  with pytest.raises(BadItem, match="'7' has no 'questions'"):
    drawn.scores(BENCHMARK, bare, judge())


TOLD = st.dictionaries(
  st.sampled_from(["two", " 2", "2", " ", "Yes", " yes", "No"]),
  st.floats(0.001, 1),
  min_size=1,
).map(
  lambda masses: {
    text: math.log(mass / max(1, sum(masses.values())))
    for text, mass in masses.items()
  }
)


@QUICK
@given(TOLD, TOLD, TOLD, st.booleans())
def test_bounds(one, two, three, quirks):
  gm, am = (
    score(one, two, three, impl=impl, quirks=quirks) for impl in BENCHMARK.impls
  )
  assert 0 <= gm.value <= am.value + 1e-9 and am.value <= 1
  assert all(0 <= part <= 1 + 1e-9 for part in am.parts.values())
  # What was not told could at most be right.
  assert am.value + am.parts["uncovered"] <= 1 + 1e-9
