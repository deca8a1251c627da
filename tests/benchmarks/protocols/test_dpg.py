import csv
import math

from hypothesis import given, settings
from hypothesis import strategies as st
import pytest

from emma_jax.benchmarks.data import folder
from emma_jax.benchmarks.items import Item, Missing
from emma_jax.benchmarks.protocols import dpg
from emma_jax.benchmarks.scoring import dpg as scoring
from emma_jax.judge.base import Reply
from tests.benchmarks import golden
from tests.benchmarks.protocols import drawn

pytestmark = pytest.mark.smoke
QUICK = settings(max_examples=60, deadline=None)
(BENCHMARK,) = dpg.BENCHMARKS


def row(name, number, parents="0", category="entity - whole") -> dict:
  return {
    "item_id": name,
    "proposition_id": str(number),
    "dependency": parents,
    "tuple": f"{category} (x)",
    "question_natural_language": f"{name}{number}?",
  }


def items(rows) -> dict[str, Item]:
  """As the reader gives them."""
  found: dict[str, list[int]] = {}
  for place, one in enumerate(rows):
    found.setdefault(one["item_id"], []).append(place)
  return {
    name: Item(
      id=name,
      group=name,
      question=name,
      meta={
        "questions": tuple(rows[p] for p in places),
        "csv_rows": tuple(places),
      },
    )
    for name, places in found.items()
  }


def scores(item, tiles, **more):
  """Of answers by tile: number of the question -> text."""

  def judge(call):
    _, _, repeat, part = call.id.split("/")
    assert call.pictures == (drawn.picture(int(repeat)),)
    return tiles[int(repeat)][part.removeprefix("q")]

  return drawn.scores(BENCHMARK, item, judge, pictures=len(tiles), **more)


def test_the_originals_numbers(shared_dir):
  """Of each prompt, its tiles and their mean, with the original's quirks."""
  found = golden.cases(shared_dir, "DPG-Bench")
  assert found
  for case in found:
    inputs, expected = case["inputs"], case["expected"]
    every = items(inputs["csv_rows"])
    pictures = min(inputs["pic_num"], scoring.TILES)
    kept = []
    for name, tiles in inputs["answers"].items():
      if name not in every or len(tiles) < pictures:
        assert name not in expected["per_image_then_average"]
        continue
      got = scores(every[name], tiles[:pictures], quirks=True)
      per_tile = expected["per_image_then_average"].get(name)
      if per_tile is None:
        assert [s.weight for s in got] == [0] * pictures
      else:
        kept += got
        assert golden.same(drawn.values(got), per_tile[:-1]), case["id"]
        assert golden.same(drawn.weighted_mean(got), per_tile[-1])
    if kept:
      assert golden.same(100 * drawn.weighted_mean(kept), expected["score"])
    else:
      assert expected["score"] == "NaN"


ROWS = [
  row("a", 1),
  row("a", 2, "1", "attribute - color"),
  row("b", 1),
  row("b", 2, "1", "attribute - color"),
  row("b", 3, "2", "relation - spatial"),
]


def test_what_is_not_there_has_no_colour():
  b = items(ROWS)["b"]
  yes, no = (
    {"1": "yes", "2": "yes", "3": "yes"},
    {"1": "no", "2": "yes", "3": "yes"},
  )
  found = scores(b, [yes, no, yes | {"3": "no"}, yes | {"2": "no"}])
  assert drawn.values(found) == pytest.approx([1, 0, 2 / 3, 1 / 3])
  assert found[2].parts == {"entity": 1, "attribute": 1, "relation": 0}
  assert found[1].parts == {"entity": 0, "attribute": 0, "relation": 0}


def test_quirks_lose_the_first_row_and_take_categories_of_the_last_tile():
  every = items(ROWS)
  yes = {"1": "yes", "2": "yes", "3": "yes"}
  dropped = scores(every["a"], [yes] * 4, quirks=True)
  assert [(s.weight, s.failure) for s in dropped] == [(0, "")] * 4
  assert drawn.values(scores(every["a"], [yes] * 4)) == [1] * 4
  last = yes | {"1": "no"}
  found = scores(every["b"], [yes, yes, yes, last], quirks=True)
  assert drawn.values(found) == [1, 1, 1, 0]
  assert [dict(s.parts) for s in found] == [
    {},
    {},
    {},
    {"entity": 0, "attribute": 1, "relation": 1},
  ]


def test_quirks_keep_the_last_of_rows_that_are_apart():
  rows = [row("z", 1), row("a", 1), row("b", 1), row("a", 2), row("a", 3)]
  a = items(rows)["a"]
  assert list(dpg.questions_of(a, quirks=True)) == [2, 3]
  assert list(dpg.questions_of(a, quirks=False)) == [1, 2, 3]
  first = items([row("z", 1), row("a", 1)])["z"]
  assert dpg.questions_of(first, quirks=True) == {}
  assert [s.weight for s in scores(first, [{}] * 4, quirks=True)] == [0] * 4


def test_both_implementations_read_the_same_replies():
  b = items(ROWS)["b"]
  tiles = [{"1": "Yes, two of them.", "2": " Yes\n", "3": "No."}] * 4
  assert drawn.values(scores(b, tiles, impl="vlm")) == pytest.approx(
    [2 / 3] * 4
  )
  assert drawn.values(scores(b, tiles, impl="original")) == [0] * 4
  # To the letter, with quirks.
  yes = [{"1": "yes", "2": "Yes", "3": "no"}] * 4
  assert drawn.values(scores(b, yes, quirks=True)) == pytest.approx([1 / 3] * 4)
  assert drawn.values(scores(b, yes)) == pytest.approx([2 / 3] * 4)


def test_an_answer_without_a_word_and_a_judge_that_is_away():
  b = items(ROWS)["b"]
  yes = {"1": "yes", "2": "yes", "3": "yes"}
  for impl in BENCHMARK.impls:
    found = scores(b, [yes, yes | {"2": "..."}, yes, yes], impl=impl)
    assert drawn.failures(found) == ["", "judge:unparsable", "", ""]
  found = drawn.scores(BENCHMARK, b, lambda call: Reply(status="refused"))
  assert drawn.failures(found) == ["judge:refused"] * 4


def test_a_missing_csv_is_named():
  bare = Item(id="a", group="a", question="a", meta={"questions": ()})
  with pytest.raises(Missing, match=r"'a' has no questions: dpg_bench\.csv is"):
    drawn.scores(BENCHMARK, bare, lambda call: "yes")


def test_rows_of_a_csv_reach_the_questions(tmp_path):
  place = tmp_path / "dpg"
  place.mkdir()
  (place / "prompts.jsonl").write_text(
    '{"item_id": "a", "prompt": "a\\n"}\n{"item_id": "b", "prompt": "b"}\n'
  )
  with open(place / "dpg_bench.csv", "w", newline="") as file:
    table = csv.DictWriter(file, list(ROWS[0]))
    table.writeheader()
    table.writerows(ROWS)
  first, second = folder.open_set(str(tmp_path), "dpg").items
  assert first.meta["csv_rows"] == (0, 1) and second.meta["csv_rows"] == (
    2,
    3,
    4,
  )
  assert dpg.questions_of(second, quirks=True) == dpg.questions_of(
    second, quirks=False
  )
  assert dpg.questions_of(second, quirks=False)[3].parents == (2,)
  assert BENCHMARK.prompts["plain"](first).text == "a"


@st.composite
def prompts(draw):
  """Rows of two prompts, parents before children, and answers on four tiles."""
  rows, answers = [], {}
  for name in "ab":
    count = draw(st.integers(1, 5))
    for number in range(1, count + 1):
      parents = draw(st.sets(st.integers(0, number - 1), min_size=1))
      rows.append(row(name, number, ",".join(map(str, parents))))
    answers[name] = [
      {
        str(n): draw(st.sampled_from(["yes", "no"]))
        for n in range(1, count + 1)
      }
      for _ in range(4)
    ]
  return rows, answers


@QUICK
@given(prompts(), st.booleans())
def test_scores_are_those_of_scoring_and_bounded(case, quirks):
  rows, answers = case
  wanted = scoring.aggregate(rows, answers, 4, official_quirks=quirks)
  every = [
    score
    for name, item in items(rows).items()
    for score in scores(item, answers[name], quirks=quirks)
  ]
  assert all(0 <= s.value <= 1 for s in every)
  if sum(drawn.weights(every)):
    got = 100 * drawn.weighted_mean(every)
    assert got == pytest.approx(wanted["score"])
  else:
    assert math.isnan(wanted["score"])
