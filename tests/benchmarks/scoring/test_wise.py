import math

from hypothesis import given, settings
from hypothesis import strategies as st
import pytest

from emma_jax.benchmarks.scoring import wise

QUICK = settings(max_examples=40, deadline=None)


@pytest.mark.parametrize("version", ["verified", "legacy"])
def test_categories_cover_all_prompts_once_and_weights_are_one(version):
  categories = wise.CATEGORIES[version]
  covered = [n for a, b, _ in categories.values() for n in range(a, b + 1)]
  assert covered == list(wise.PROMPTS)
  assert sum(w for _, _, w in categories.values()) == pytest.approx(1)
  assert wise.category_of(0, version) is None
  assert wise.category_of(1001, version) is None


def test_categories_differ_between_versions():
  assert wise.category_of(530, "verified") == "SPACE"
  assert wise.category_of(530, "legacy") == "TIME"


@pytest.mark.smoke
@pytest.mark.parametrize(
  "text, score",
  [
    ("Score: 1", 1),
    ("**Score**: 0", 0),
    ("I think it is fine.\nscore 1.", 1),
    ("1", 1),
    ("so:\n 0 \n", 0),
    ("Score: 0\nScore: 1", 0),  # the first
    ("1\n0", None),
    ("Score: 10", None),
    ("Score: 2", None),
    ("Score: 0.5", 0),  # a word ends after the 0
    ("", None),
  ],
)
def test_verified_replies(text, score):
  assert wise.parse_verified(text) == score


@pytest.mark.parametrize(
  "text, marks",
  [
    ("Consistency: 2\nRealism: 1\nAesthetic Quality: 0", (2, 1, 0)),
    ("**Consistency**: 2, realism 1, AESTHETIC QUALITY:0", (2, 1, 0)),
    (
      "Consistency: 2, consistency: 1\nRealism 1\nAesthetic Quality 1",
      (1,) * 3,
    ),
    ("Consistency: 9\nRealism: 1\nAesthetic Quality: 0", (9, 1, 0)),
    ("2\n1\n0\n1", (2, 1, 0)),
    ("2\n1", None),
    ("Consistency: 2\n1\n1\n1", None),  # a name was found: no fallback
    ("", None),
  ],
)
def test_legacy_replies(text, marks):
  wanted = marks and dict(zip(wise.MARKS, marks))
  assert wise.parse_legacy(text) == wanted


def test_thoughts_are_no_reply():
  text = "<think>Score: 0?\nno</think>\n Score: 1"
  assert wise.parse_verified(wise.without_thoughts(text)) == 1
  assert wise.without_thoughts("thoughts</think> Score: 1") == (
    "thoughtsScore: 1"  # the tag alone goes, where none opened it
  )
  again = wise.without_thoughts(text)
  assert wise.without_thoughts(again) == again


def test_the_legacy_score():
  assert wise.wiscore(2, 2, 2) == pytest.approx(1)
  assert wise.wiscore(2, 0, 0) == pytest.approx(0.7)
  assert wise.wiscore(0, 0, 0) == 0


def full(score: float) -> dict[int, float | None]:
  return dict.fromkeys(wise.PROMPTS, score)


def test_culture_weighs_two_fifths():
  scores = full(0) | dict.fromkeys(range(1, 401), 1.0)
  for version in ("verified", "legacy"):
    for quirks in (True, False):
      got = wise.aggregate(scores, version, official_quirks=quirks)
      assert got["overall"] == pytest.approx(0.4)
      assert got["categories"]["CULTURE"] == 1


def test_unread_replies_are_left_out_officially_and_zero_otherwise():
  scores = full(1) | dict.fromkeys(range(1, 201), None)
  got = wise.aggregate(scores, "verified", official_quirks=True)
  assert got["overall"] == pytest.approx(1)
  assert got["failed"] == list(range(1, 201))
  got = wise.aggregate(scores, "verified", official_quirks=False)
  assert got["overall"] == pytest.approx(0.8)


def test_a_missing_prompt_is_no_score_officially_and_zero_otherwise():
  scores = full(1)
  del scores[7]
  got = wise.aggregate(scores, "legacy", official_quirks=True)
  assert got["overall"] is None
  got = wise.aggregate(scores, "legacy", official_quirks=False)
  assert got["overall"] == pytest.approx(1 - 0.4 / 400)
  assert got["failed"] == [7]


def test_a_category_without_scores():
  scores = full(1) | dict.fromkeys(range(881, 1001), None)
  got = wise.aggregate(scores, "verified", official_quirks=True)
  assert got["overall"] is None
  assert math.isnan(got["categories"]["CHEMISTRY"])
  got = wise.aggregate(scores, "verified", official_quirks=False)
  assert got["overall"] == pytest.approx(0.88)


def test_verified_scores_are_0_or_1():
  scores = full(1) | {3: 0.5}
  got = wise.aggregate(scores, "verified", official_quirks=True)
  assert got["failed"] == [3]
  with pytest.raises(ValueError, match="score=0.5 of prompt 3"):
    wise.aggregate(scores, "verified", official_quirks=False)


def test_lmms_scales_the_weights_to_what_is_there():
  assert wise.lmms_aggregate({}) == 0
  assert wise.lmms_aggregate({5000: 1.0}) == 0
  assert wise.lmms_aggregate({1: 1.0}) == 1
  # culture .4, time .167
  assert wise.lmms_aggregate({1: 1.0, 401: 0.0}) == pytest.approx(0.4 / 0.567)
  everything = {n: n / 1000 for n in wise.PROMPTS}
  official = wise.aggregate(everything, "legacy", official_quirks=True)
  assert wise.lmms_aggregate(everything) == pytest.approx(official["overall"])


@QUICK
@given(
  st.dictionaries(
    st.sampled_from(wise.PROMPTS), st.sampled_from([0.0, 1.0, None])
  ),
  st.integers(1, 1000),
)
def test_bounds_and_monotonicity(some, number):
  scores = full(0) | some
  score = lambda s: wise.aggregate(s, "verified", official_quirks=False)
  before = score(scores)["overall"]
  assert 0 <= before <= 1
  assert score(scores | {number: 1.0})["overall"] >= before
  dropped = wise.aggregate(scores, "verified", official_quirks=True)
  assert dropped["overall"] is None or dropped["overall"] >= before - 1e-12
