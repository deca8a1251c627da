import random

from hypothesis import given, settings
from hypothesis import strategies as st
import pytest

from emma_jax.benchmarks import suite
from emma_jax.benchmarks.items import Item
from emma_jax.benchmarks.protocols import wise
from emma_jax.benchmarks.scoring import wise as scoring
from emma_jax.judge.base import Reply
from tests.benchmarks.protocols import drawn

pytestmark = pytest.mark.smoke
QUICK = settings(max_examples=6, deadline=None)
VERIFIED, LEGACY = wise.BENCHMARKS
THEIRS = {"system": "Audit.", "user": "{Prompt} means {Explanation}. {score}?"}
MARKS = "Consistency: 2\nRealism: 1\nAesthetic Quality: 0"


def item(number=1, version="verified", **meta) -> Item:
  return Item(
    id=str(number),
    group=str(number),
    question="the {Explanation} of autumn",
    meta={
      "category": scoring.category_of(number, version),
      "subcategory": "Festival",
      "explanation": "a mooncake",
      "judge_prompt": THEIRS,
      **meta,
    },
  )


def bare(**more) -> Item:
  """Of a folder without the original's script."""
  one = item(**more)
  meta = {k: v for k, v in one.meta.items() if k != "judge_prompt"}
  return Item(id=one.id, group=one.id, question=one.question, meta=meta)


def test_what_is_asked_by_the_originals_prompt_and_by_ours():
  calls = []
  judge = lambda call: calls.append(call) or "Score: 1"
  for impl in VERIFIED.impls:
    found = drawn.scores(VERIFIED, item(), judge, impl=impl)
    assert drawn.values(found) == [1]
  theirs, ours = calls
  assert theirs.id == "wise_verified/1/0/score"
  assert ours.id == "wise_verified/1/0/score-own"
  assert theirs.system == "Audit."
  # Braces of the prompt itself stay.
  assert theirs.text == "the {Explanation} of autumn means a mooncake. {score}?"
  assert "the {Explanation} of autumn" in ours.text
  assert "a mooncake" in ours.text and "{Prompt}" not in ours.text
  for call in calls:
    assert call.pictures == (drawn.picture(0),)
    assert call.options == {"temperature": 0, "max_tokens": 500}


@pytest.mark.parametrize("benchmark", wise.BENCHMARKS)
def test_without_the_script_only_our_prompt_is_asked(benchmark):
  text = f"Score: 1\n{MARKS}"
  with pytest.raises(suite.NoReply, match=r"absent: the judge's prompt is in"):
    drawn.scores(benchmark, bare(), lambda call: text)
  (found,) = drawn.scores(benchmark, bare(), lambda call: text, impl="own")
  assert found.value > 0 and not found.failure


@pytest.mark.parametrize("impl", ["original", "own"])
@pytest.mark.parametrize(
  "text, value",
  [
    ("Score: 1", 1),
    ("**Score**: 0", 0),
    ("<think>Score: 0?</think>Score: 1", 1),
    ("1", 1),
  ],
)
def test_verified_scores(text, value, impl):
  found = drawn.scores(VERIFIED, item(), lambda call: text, impl=impl)
  assert drawn.values(found) == [value]


def test_legacy_scores():
  one = item(version="legacy")
  (found,) = drawn.scores(LEGACY, one, lambda call: MARKS)
  assert found.value == pytest.approx(scoring.wiscore(2, 1, 0))
  assert found.parts == {"consistency": 2, "realism": 1, "aesthetic_quality": 0}
  beyond = MARKS.replace("2", "9")
  assert drawn.failures(drawn.scores(LEGACY, one, lambda call: beyond)) == [
    "judge:unparsable"
  ]
  (found,) = drawn.scores(LEGACY, one, lambda call: beyond, quirks=True)
  assert found.value == pytest.approx(scoring.wiscore(9, 1, 0))


def test_our_prompts_ask_for_what_is_read():
  """Replies in the form that they name are read as they are meant."""
  own = wise.OWN["verified"]
  for score in ("Score: 1", "Score: 0"):
    assert f'"{score}"' in own
    assert scoring.parse_verified(score) == float(score[-1])
  form = wise.OWN["legacy"].rpartition("Reply with three lines:\n")[2]
  assert scoring.parse_legacy(form.replace("<mark>", "2")) == dict.fromkeys(
    scoring.MARKS, 2
  )


def test_what_cannot_be_read_is_asked_three_times():
  seen = []

  def judge(call):
    seen.append(call.id)
    return "Score: 1" if call.attempt == 2 else "no idea"

  assert drawn.values(drawn.scores(VERIFIED, item(), judge)) == [1]
  name = "wise_verified/1/0/score"
  assert seen == [name, f"{name}/1", f"{name}/2"]
  found = drawn.scores(VERIFIED, item(), lambda call: "no idea")
  assert drawn.failures(found) == ["judge:unparsable"]


def test_a_file_of_replies_has_one_of_each():
  first = lambda text: (
    lambda call: Reply(status="absent") if call.attempt else text
  )
  found = drawn.scores(VERIFIED, item(), first("no idea"))
  assert drawn.failures(found) == ["judge:unparsable"]
  found = drawn.scores(VERIFIED, item(), lambda call: Reply(status="absent"))
  assert drawn.failures(found) == ["judge:absent"]
  refused = lambda call: Reply(status="refused" if call.attempt else "ok")
  found = drawn.scores(VERIFIED, item(), refused)
  assert drawn.failures(found) == ["judge:refused"]


@pytest.mark.parametrize(
  "benchmark, weights",
  [
    (VERIFIED, [0.4, 0.12, 0.12, 0.12, 0.12, 0.12]),
    (LEGACY, [0.4, 0.167, 0.133, 0.1, 0.1, 0.1]),
  ],
)
def test_weights_of_categories(benchmark, weights):
  assert list(benchmark.strata_weights.values()) == weights
  assert benchmark.categories(item()) == {
    "category": "CULTURE",
    "subcategory": "Festival",
  }


@QUICK
@given(st.sampled_from(wise.BENCHMARKS), st.integers(0, 2**32))
def test_the_overall_score_is_that_of_scoring(benchmark, seed):
  """All 1,000 prompts, of which some are right."""
  version = benchmark.name.removeprefix("wise_")
  reply = "Score: {0}\nConsistency: {1}\nRealism: {1}\nAesthetic Quality: {1}"
  rng = random.Random(seed)
  share, pairs, wanted = rng.random(), [], {}
  for number in scoring.PROMPTS:
    right = rng.random() < share
    text = reply.format(int(right), 2 * right)
    one = item(number, version)
    (found,) = drawn.scores(benchmark, one, lambda call, text=text: text)
    assert 0 <= found.value <= 1
    pairs.append((one, found))
    wanted[number] = float(right)
  overall = scoring.aggregate(wanted, version, official_quirks=True)["overall"]
  assert drawn.mean_of_strata(benchmark, pairs) == pytest.approx(overall)
