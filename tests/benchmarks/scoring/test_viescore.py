import json
import math
import random

from hypothesis import given, settings
from hypothesis import strategies as st
import pytest

from emma_jax.benchmarks.scoring import viescore
from tests.benchmarks import golden

QUICK = settings(max_examples=80, deadline=None)


def test_the_originals_numbers(shared_dir):
  found = golden.cases(shared_dir, "GEdit-Bench")
  assert found
  assert not golden.misses(found, viescore.SCORERS)


def test_the_prompts_are_those_of_the_original():
  assert viescore.prompt_sha256() == {
    "SC": "8f529562c2f89f8db51a3f7cc4d487686f676909c21010b67b0e65ec78150de5",
    "PQ": "2473ff2c7406e06545c5c039ceb039ff2604ebacf150868a48f0bf07c9e733b0",
    "SC_len": 1512,
    "PQ_len": 1184,
  }
  assert "<instruction>" in viescore.prompt("sc")
  assert "<instruction>" not in viescore.prompt("pq")


@pytest.mark.parametrize(
  "text, said",
  [
    (
      '{"score": [8, 9], "reasoning": "x"}',
      {"score": [8, 9], "reasoning": "x"},
    ),
    ('Sure: {"score": [8, 9]} Done.', {"score": [8, 9]}),
    ('||V^=^V||\n{"score": [1]}\n||V^=^V||', {"score": [1]}),
    ('||V^=^V||{"score": [1]}', {"score": [1]}),  # one delimiter is none
    ("||V^=^V||||V^=^V||", False),
    ('{"score": 7}', {"score": [7]}),
    ('{"score": ["8", "9"]}', {"score": ["8", "9"]}),  # texts stay texts
    ('{"score": [8,\n 9]}', {"score": [8, 9]}),
    ("{score: 7}", {"score": [7]}),  # mended
    ("{reasoning: good, score: [8, 9]}", False),  # mending breaks the list
    ('{"output": {"score": [1, 2]}}', False),
    ('{"quality": 7}', {"quality": [7]}),  # mended, and then not looked at
    ("} {", False),
    ("}{", False),
    ("rate_limit_exceeded", "rate_limit_exceeded"),
    ("I cannot help with that.", False),
    ("", False),
  ],
)
def test_replies(text, said):
  assert viescore.judge_parse(text) == said


@pytest.mark.parametrize(
  "text, score",
  [
    ("[6, 0]", [6, 0]),
    ("So I say [6,0].", [6, 0]),
    ('{"score": [8, 9]', [8, 9]),  # no closing brace
    ("8", [8]),
    (" 10\n", [10]),
    ("11", None),
    ("-1", None),
    ("7.5", None),
    ("[6, 0, 3]", None),
    ("[6.5, 0]", None),
  ],
)
def test_replies_without_braces(text, score):
  said = viescore.judge_parse(text)
  assert said is False if score is None else said["score"] == score


def test_a_list_that_is_no_json_stops_the_original():
  with pytest.raises(ValueError):
    viescore.judge_parse("[08, 9]")


def test_guesses_are_only_for_replies_without_braces():
  rng = random.Random(0)
  guesses = {viescore.judge_parse("no", rng)["score"][0] for _ in range(200)}
  assert guesses == set(range(11))
  assert viescore.judge_parse("[6, 0]", rng)["score"] != [6, 0]
  assert viescore.judge_parse("{broken", rng)["reasoning"].startswith("guess")
  assert viescore.judge_parse("{broken, }", rng) is False


SCORES = st.lists(st.integers(0, 10), min_size=1, max_size=3)


@QUICK
@given(SCORES, st.text(max_size=20), st.text("ab |^=V\n", max_size=20))
def test_what_is_written_as_asked_is_read(scores, reasoning, around):
  reply = json.dumps({"score": scores, "reasoning": reasoning})
  assert viescore.judge_parse(around + reply + around) == {
    "score": scores,
    "reasoning": reasoning,
  }


@QUICK
@given(st.text(max_size=60) | st.text('{}[]:",01 \nascore', max_size=60))
def test_no_reply_breaks_the_parser(text):
  try:
    viescore.judge_parse(text)
  except ValueError as error:  # only by the branch above
    assert "[" in text, error


def scripted(*replies: str):
  left = list(replies)
  asked = []

  def judge(text, pictures):
    asked.append((text, tuple(pictures)))
    return left.pop(0)

  return judge, asked


def said(*scores: int) -> str:
  return f'{{"score": {list(scores)}}}'


@pytest.mark.smoke
def test_the_least_score_of_either_and_the_root_of_their_product():
  judge, asked = scripted(said(8, 9), said(7, 6))
  rating = viescore.rate(judge, "make it <red>")
  assert (rating.semantics, rating.quality) == (8, 6)
  assert rating.overall == math.sqrt(48)
  assert [pictures for _, pictures in asked] == [
    ("source", "edited"),
    ("edited",),
  ]
  assert "make it <red>" in asked[0][0]
  assert "make it" not in asked[1][0]


def test_both_prompts_are_asked_again_if_one_reply_is_unparsable():
  judge, asked = scripted(said(8), "sorry", said(3), said(4))
  assert viescore.rate(judge, "x").semantics == 3
  assert len(asked) == 4


def test_refusals_raise_unless_guessing_is_asked_for():
  judge, asked = scripted(*[said(8), "I cannot."] * 10)
  with pytest.raises(viescore.Unparsable, match="I cannot"):
    viescore.rate(judge, "x", rounds=3)
  assert len(asked) == 6
  judge, asked = scripted(*[said(8), "I cannot."] * 2)
  rating = viescore.rate(judge, "x", guess=random.Random(1))
  assert rating.quality in range(11)
  assert len(asked) == 4


def test_a_rate_limit_is_no_score():
  judge, _ = scripted(viescore.RATE_LIMIT, said(7))
  with pytest.raises(ValueError, match="rate_limit"):
    viescore.rate(judge, "x")


def test_scores_that_are_texts_break_as_in_the_original():
  judge, _ = scripted('{"score": ["8", "9"]}', said(7, 6))
  with pytest.raises(TypeError):
    viescore.rate(judge, "x")


@QUICK
@given(SCORES, SCORES)
def test_a_rating_is_bounded_and_symmetric(sc, pq):
  rating = viescore.rate(scripted(said(*sc), said(*pq))[0], "x")
  low, high = sorted([rating.semantics, rating.quality])
  assert low <= rating.overall + 1e-12 and rating.overall <= high + 1e-12
  back = viescore.rate(scripted(said(*pq), said(*sc))[0], "x")
  assert back.overall == rating.overall


def test_an_evaluation_as_the_golden_cases_tell_it():
  scorer = viescore.SCORERS["GEdit-Bench", "viescore_evaluate", "viescore"]
  assert scorer([said(8, 9), said(7, 6)]) == {
    "scores": [8, 6, math.sqrt(48)],
    "calls": 2,
    "images_in_calls": [2, 1],
    "instruction_in_SC": True,
    "instruction_in_PQ": False,
  }
  assert scorer(["sorry", *[said(5)] * 3])["images_in_calls"] == [2, 1, 2, 1]
  with pytest.raises(IndexError):  # the script ends, the original asks on
    scorer(["{broken}"] * 4)


@pytest.mark.parametrize(
  "ratio, size",
  [
    (1.0, (512, 512, 262144)),  # as it is
    (16 / 9, (704, 384, 270336)),  # a step wider: too small
    (5 / 3, (704, 384, 270336)),
    (0.5, (384, 736, 282624)),
    (1.5, (608, 416, 252928)),  # a step narrower: too large
  ],
)
def test_sizes_are_put_right_by_one_step_in_width(ratio, size):
  assert viescore.dimensions(ratio) == size


@QUICK
@given(st.floats(0.2, 5))
def test_sizes_of_pictures(ratio):
  width, height, area = viescore.dimensions(ratio)
  assert width % 32 == height % 32 == 0
  assert area == width * height
  wide, high, _ = viescore.lmms_dimensions(ratio)
  assert abs(wide / high - ratio) < 0.02 * ratio
  assert wide * high <= 512 * 512


def row(task_type: str, sc: float, pq: float, **more) -> dict:
  return {
    "task_type": task_type,
    "sementics_score": sc,
    "quality_score": pq,
    "intersection_exist": True,
    "instruction_language": "en",
    **more,
  }


def test_types_weigh_alike_and_roots_are_averaged():
  rows = [row(name, 4, 9) for name in viescore.TASK_TYPES]
  rows += [row("ps_human", 0, 9)] * 3
  got = viescore.aggregate(rows, "en")
  assert got["overall"] == pytest.approx((10 * 6 + 6 / 4) / 11)
  # Not the root of the means.
  assert got["overall"] < math.sqrt(got["semantics"] * got["quality"])
  lmms = [{"score": 6.0, "instruction_language": "en"}] * 11
  lmms += [{"score": 0.0, "instruction_language": "en"}] * 3
  assert viescore.lmms_aggregate(lmms, "en", None) == pytest.approx(66 / 14)


def test_the_intersection_and_the_languages_are_apart():
  rows = [row(name, 8, 8) for name in viescore.TASK_TYPES]
  rows += [row(n, 2, 2, intersection_exist=False) for n in viescore.TASK_TYPES]
  rows += [row(n, 1, 1, instruction_language="cn") for n in viescore.TASK_TYPES]
  rows.append(row("another_type", 0, 0))
  assert viescore.aggregate(rows, "en") == {
    "semantics": 5.0,
    "quality": 5.0,
    "overall": 5.0,
    "semantics_intersection": 8.0,
    "quality_intersection": 8.0,
    "overall_intersection": 8.0,
  }
  assert viescore.aggregate(rows, "cn")["overall"] == 1.0


def test_a_missing_type_and_the_originals_own_zh_are_nan():
  rows = [row(name, 8, 8) for name in viescore.TASK_TYPES[1:]]
  assert math.isnan(viescore.aggregate(rows, "en")["overall"])
  assert math.isnan(viescore.aggregate(rows, "zh")["semantics"])


@QUICK
@given(
  st.lists(
    st.tuples(st.sampled_from(viescore.TASK_TYPES), SCORES, SCORES), min_size=1
  ),
  st.randoms(use_true_random=False),
)
def test_the_order_of_rows_does_not_matter(edits, rng):
  rows = [row(name, min(sc), min(pq)) for name, sc, pq in edits]
  rows += [row(name, 5, 5) for name in viescore.TASK_TYPES]
  got = viescore.aggregate(rows, "en")
  again = viescore.aggregate(rng.sample(rows, len(rows)), "en")
  assert again == pytest.approx(got)
  assert all(0 <= value <= 10 for value in got.values())


def test_lmms_filters():
  results = [
    {"score": 8.0, "instruction_language": "en", "intersection_exist": True},
    {"score": 2.0, "instruction_language": "en", "intersection_exist": False},
    {"score": 1.0, "instruction_language": "cn"},
    {"score": 9.0},
    {"instruction_language": "en"},
  ]
  score = lambda *args: viescore.lmms_aggregate(results, *args)
  assert score("en", None) == score("en", False) == 5.0
  assert score("en", True) == 8.0
  assert score("cn", True) == 0.0
  assert score(None, None) == 5.0
