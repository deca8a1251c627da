import itertools
import statistics

from hypothesis import given, settings
from hypothesis import strategies as st
import pytest

from emma_jax.benchmarks import suite
from emma_jax.benchmarks.protocols import rise as protocol
from emma_jax.benchmarks.protocols import user_prompts
from emma_jax.benchmarks.scoring import prompt_texts, rise
from emma_jax.judge.base import Reply
from tests.benchmarks.protocols.edit_cases import (
  BLUE,
  GREEN,
  HTML,
  item,
  picture,
  score,
  seen,
)

pytestmark = pytest.mark.smoke
TEMPORAL, SPATIAL = "temporal_reasoning", "spatial_reasoning"
PARTS = ("consistency", "reasoning", "plausibility")
MARK = st.integers(1, 5)


def said(mark) -> str:
  return f"It looks fine.\n**Final Score:** **{mark}**"


def replies(*marks, parts=PARTS):
  return {part: said(m) for part, m in zip(parts, marks, strict=True)}


@pytest.fixture
def texts(tmp_path, monkeypatch):
  """The user's copy of the original's texts, each of which is its name."""
  monkeypatch.setenv(user_prompts.VARIABLE, str(tmp_path))
  (tmp_path / "rise").mkdir()
  (tmp_path / "rise" / "utils.py").write_text(
    "".join(
      f"{name} = '{name}: {{instruct}} | {{reference}}'\n"
      for name in protocol._TEXTS
    )
  )


def asked(of, impl="new", **more):
  """(call, text's name, colours of the pictures) of what the judge is asked."""
  good = {f"{p}{x}": said(5) for p in PARTS for x in ("", "_alone")}
  found, judge = score("rise", impl, of, good, **more)
  assert not found.failure
  return [
    (
      name,
      call.text.split(":")[0].removeprefix("prompt_"),
      "".join(seen(p)[2] for p in call.pictures),
    )
    for name, call in zip(judge.names, judge.calls, strict=True)
  ]


SOURCE, ANSWER = picture(), picture(colour=GREEN)
TEXT = {"reference": "a rotten banana"}
C, R, P = PARTS


@pytest.mark.parametrize(
  "of, expected",
  [
    (
      item(TEMPORAL, **TEXT),
      [(C, "consist", "rb"), (R, "reasoning", "b"), (P, "generation", "b")],
    ),
    (
      item("causal_reasoning", reasoning_img="x.png", **TEXT),
      [
        (C, "consist", "rb"),
        (R, "reasoning_w_input", "rb"),
        (P, "generation", "b"),
      ],
    ),
    (
      item("causal", consistency_free=False, **TEXT),
      [(R, "reasoning", "b"), (P, "generation", "b")],
    ),
    (
      item(SPATIAL, **TEXT),
      [
        (C, "spatial_cons", "rb"),
        (R, "spatial_ref", "b"),
        (P, "spatial_qual", "b"),
      ],
    ),
    (
      item(SPATIAL, reasoning_img=float("nan"), consistency_free=1, **TEXT),
      [(R, "spatial_ref", "b"), (P, "spatial_qual", "b")],
    ),
    (
      item(SPATIAL, reasoning_img="x.png", **TEXT),
      [
        (C, "spatial_cons", "rb"),
        (R, "spatial_ref_w_input", "rb"),
        (P, "spatial_qual", "b"),
      ],
    ),
    (
      item(SPATIAL, SOURCE, ANSWER, reference_img="a.png"),
      [
        (C, "spatial_cons", "gb"),
        (R, "spatial_ref_img", "gb"),
        (P, "spatial_qual", "b"),
      ],
    ),
    (
      item(rise.LOGICAL, reference_txt="1 to 4"),
      [(C, "logical_cons_ans", "rb"), (R, "logical_txt", "b")],
    ),
    (
      item(rise.LOGICAL, SOURCE, ANSWER, reference_img="a.png"),
      [(C, "logical_cons", "gb"), (R, "logical_img", "gb")],
    ),
    (
      item(rise.LOGICAL, SOURCE, ANSWER, reference_img="a", reasoning_wo_ins=1),
      [(C, "logical_cons", "gb"), (f"{R}_alone", "logical_img_wo_q", "gb")],
    ),
  ],
)
def test_questions_texts_and_pictures_are_the_originals(of, expected, texts):
  assert asked(of) == asked(of, impl="old") == expected


def test_with_quirks_logical_pictures_are_judged_without_instruction(texts):
  of = item(rise.LOGICAL, SOURCE, ANSWER, reference_img="a.png")
  assert asked(of, quirks=True)[1][:2] == (f"{R}_alone", "logical_img_wo_q")


def test_texts_are_filled_once_and_settings_are_the_originals(texts):
  _, judge = score("rise", "new", item(TEMPORAL, reference="{instruct}"), {})
  (call,) = judge.calls
  assert call.text == "prompt_consist: make it {blue} | {instruct}"
  assert call.options == {"temperature": 0, "max_tokens": 4096}


def test_large_pictures_are_shown_small_and_upright():
  wide = picture((2000, 1000), BLUE, turned=6)
  good = replies(5, 5, 5, parts=[f"own_{p}" for p in PARTS])
  _, judge = score("rise", "own", item(TEMPORAL, **TEXT), good, made=[wide])
  assert [seen(p)[:2] for p in judge.calls[0].pictures] == [
    ("JPEG", (64, 48)),
    ("JPEG", (384, 768)),
  ]


def test_our_own_words_ask_for_what_the_parser_reads():
  for of, parts in (
    (item(TEMPORAL, **TEXT), PARTS),
    (item(rise.LOGICAL, SOURCE, ANSWER, reference_img="a.png"), PARTS[:2]),
  ):
    good = {f"own_{part}": said(5) for part in parts}
    found, judge = score("rise", "own", of, good)
    assert found.value == 1 and judge.names == list(good)
    for call in judge.calls:
      assert "Final Score: N" in call.text
      assert not {"{instruct}", "{reference}"} & set(call.text.split())
  assert "make it {blue}" in judge.calls[0].text
  for own in protocol._TEXTS.values():
    assert prompt_texts.read(f"own_rise_{own}").endswith("Final Score: N\n")


def test_without_the_originals_texts_nobody_is_asked(monkeypatch):
  monkeypatch.delenv(user_prompts.VARIABLE, raising=False)
  found, judge = score("rise", "new", item(TEMPORAL, **TEXT), {})
  assert (found.value, found.failure) == (0, "judge:absent")
  assert not judge.calls


ROWS = [
  (category, free, marks)
  for category in rise.CATEGORIES
  for free in (False, True)
  for marks in itertools.product((1, 4, 5), repeat=3)
  if not (free and category == rise.LOGICAL)
]


@pytest.mark.parametrize("impl", ["new", "old"])
@pytest.mark.parametrize("quirks", [False, True])
def test_accuracy_and_scores_are_the_golden_functions(impl, quirks, texts):
  """Over rows of all kinds, one of which is consistency-free."""
  rows, found = [], []
  for category, free, marks in ROWS:
    logical = category == rise.LOGICAL
    meta = {"reference_txt": "x"} if logical else dict(TEXT)
    if free:
      meta["consistency_free"] = 1
    given = replies(*marks)
    row = {"category": category, "judge2": given[R]}
    row |= {} if free else {"judge1": given[C]}
    row |= {} if logical else {"judge3": given[P]}
    rows.append(row | ({"consistency_free": 1} if free else {}))
    one, _ = score("rise", impl, item(category, **meta), given, quirks=quirks)
    found.append(one)
  golden = rise.aggregate(rows, impl, official_quirks=quirks)
  for name in ("overall", *rise.CATEGORIES):
    mine = [
      s for s, r in zip(found, ROWS, strict=True) if name in ("overall", r[0])
    ]
    assert statistics.mean(s.value for s in mine) == pytest.approx(
      golden[name]["accuracy"]
    )
    percent = 100 * statistics.mean(s.parts["score"] for s in mine)
    assert percent == pytest.approx(golden[name]["percent"])


@pytest.mark.parametrize(
  "part, bad",
  [(C, "I cannot."), (R, HTML), (P, said("4, 5")), (R, said(9)), (C, said(0))],
)
def test_marks_that_cannot_be_read_are_a_failure_and_no_zero(part, bad, texts):
  good = replies(5, 5, 5)
  of = item(TEMPORAL, **TEXT)
  found, _ = score("rise", "new", of, good | {part: bad})
  assert (found.value, found.failure) == (0, "judge:unparsable")
  assert not found.parts
  missed, _ = score("rise", "new", of, good | {part: said(4)})
  assert (missed.value, missed.failure) == (0, "")
  gone, _ = score("rise", "new", of, good | {part: Reply(status="refused")})
  assert gone.failure == "judge:refused"


@settings(max_examples=40, deadline=None)
@given(
  st.sampled_from(rise.CATEGORIES),
  st.tuples(MARK, MARK, MARK),
  st.text("Final Score:0123456789*, \n", max_size=30),
)
def test_scores_are_in_bounds_or_failures(category, marks, noise):
  meta = {"reference_txt": "x", "reference": "x"}
  given_ = replies(*marks, parts=[f"own_{p}" for p in PARTS])
  given_["own_consistency"] += noise
  given_["own_reasoning"] = noise + given_["own_reasoning"]
  found, _ = score("rise", "own", item(category, **meta), given_)
  assert found.value in (0, 1)
  assert all(0 <= x <= 1 for x in found.parts.values())
  assert bool(found.parts) != bool(found.failure)


@pytest.mark.parametrize(
  "of, message",
  [
    (item(TEMPORAL), "has no reference, which"),
    (item(rise.LOGICAL), "has no reference_img, which"),
    (item(SPATIAL, reference_img="a.png"), "the picture 'a.png', which"),
  ],
)
def test_edits_without_their_reference_are_told_before_drawing(of, message):
  with pytest.raises(ValueError, match=message):
    suite.find("rise").prompts["plain"](of)


def test_overall_is_the_mean_of_edits():
  found = suite.find("rise")
  assert found.stratum is None and found.scale == 100
  assert found.categories(item(TEMPORAL, subtask="Life Progression")) == {
    "category": "temporal",
    "subtask": "Life Progression",
  }
