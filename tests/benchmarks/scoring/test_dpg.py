import math

from hypothesis import given, settings
from hypothesis import strategies as st
import pytest

from emma_jax.benchmarks.scoring import dpg
from tests.benchmarks import golden

QUICK = settings(max_examples=60, deadline=None)


def question(item: str, number: int, parents: str = "0", category="e - w"):
  return {
    "item_id": item,
    "proposition_id": number,
    "dependency": parents,
    "tuple": f"{category} (x)",
    "question_natural_language": f"{item}{number}?",
  }


SKIPPED = question("skipped", 1)


def tile(text: str) -> dict[str, str]:
  """ "yn" -> the first question yes, the second no."""
  names = {"y": "yes", "n": "no"}
  return {str(i): names[letter] for i, letter in enumerate(text, 1)}


def official(rows, answers, pic_num=1):
  return dpg.aggregate(rows, answers, pic_num, official_quirks=True)


def complete(rows, answers, pic_num=1):
  return dpg.aggregate(rows, answers, pic_num, official_quirks=False)


def test_the_originals_numbers(shared_dir):
  found = golden.cases(shared_dir, "DPG-Bench")
  assert found
  assert not golden.misses(found, dpg.SCORERS)


def test_what_is_not_there_has_no_colour():
  rows = [SKIPPED, question("a", 1), question("a", 2, "1")]
  for aggregate in (official, complete):
    got = aggregate(rows, {"a": [tile("ny")], "skipped": [tile("y")]})
    assert got["per_image_then_average"]["a"] == [0.0, 0.0]


@pytest.mark.smoke
def test_tiles_are_averaged_and_only_yes_is_a_yes():
  rows = [SKIPPED, question("a", 1), question("a", 2, "1")]
  answers = {"a": [tile("yy"), tile("yn"), tile("ny"), {"1": "Yes", "2": "y"}]}
  got = official(rows, answers, 4)
  assert got["per_image_then_average"] == {"a": [1.0, 0.5, 0.0, 0.0, 0.375]}
  assert got["score"] == 37.5


def test_the_official_script_skips_the_first_row_and_drops_its_prompt():
  rows = [question("a", 1), question("a", 2, "1"), question("b", 1)]
  answers = {"a": [tile("yy")], "b": [tile("n")]}
  got = official(rows, answers)
  assert got["failed"] == ["a.png: 1"]  # the KeyError's text
  assert (got["score"], list(got["per_image_then_average"])) == (0.0, ["b"])
  assert complete(rows, answers)["score"] == 50.0


def test_official_categories_are_the_last_tiles_without_dependencies():
  rows = [
    SKIPPED,
    question("a", 1, category="entity - whole"),
    question("a", 2, "1", "attribute - color"),
  ]
  answers = {"a": [tile("yy"), tile("ny")], "skipped": [tile("y")] * 2}
  got = official(rows, answers, 2)
  assert got["L1"] == {"entity": 0.0, "attribute": 100.0}
  assert got["per_image_then_average"]["a"] == [1.0, 0.0, 0.5]
  got = complete(rows, answers, 2)
  assert got["L2"]["entity - whole"] == 50.0
  assert got["L2"]["attribute - color"] == 50.0


def test_official_zeroing_is_one_pass_in_the_order_of_the_csv():
  rows = [
    SKIPPED,
    question("a", 3, "2"),
    question("a", 2, "1"),
    question("a", 1),
  ]
  answers = {"a": [tile("nyy")], "skipped": [tile("y")]}
  assert official(rows, answers)["per_image_then_average"]["a"][0] == 1 / 3
  assert complete(rows, answers)["per_image_then_average"]["a"][0] == 0


def test_failures_are_dropped_officially_and_count_as_zero_otherwise():
  rows = [SKIPPED, question("a", 1), question("b", 1)]
  answers = {"a": [tile("y")], "zzz": [{}], "skipped": [tile("y")]}
  got = official(rows, answers)
  assert got["score"] == 100.0
  assert got["failed"] == [
    "zzz.png: 'NoneType' object is not subscriptable",
    "skipped.png: 'NoneType' object is not subscriptable",
  ]
  got = complete(rows, answers)
  assert got["score"] == pytest.approx(200 / 3)
  assert got["failed"] == [
    "zzz: no prompt of the csv",
    "b: tile 0: no answer to [1]",
  ]


def test_as_many_tiles_as_a_slice_leaves():
  answers = {"a": [tile("y"), tile("n"), tile("n"), tile("y")]}
  rows = [SKIPPED, question("a", 1)]
  for pic_num, tiles in ((1, 1), (3, 3), (4, 4), (9, 4), (-1, 3), (-3, 1)):
    got = official(rows, answers, pic_num)["per_image_then_average"]["a"]
    assert len(got) == tiles + 1
  got = official(rows, answers, 0)
  assert got["failed"] == ["a.png: division by zero"]
  assert math.isnan(got["score"])


def test_a_missing_tile_is_a_failure():
  rows = [SKIPPED, question("a", 1)]
  answers = {"a": [tile("y")], "skipped": [tile("y")] * 2}
  got = official(rows, answers, 2)
  assert math.isnan(got["score"])
  assert got["failed"][0] == "a.png: list index out of range"
  got = complete(rows, answers, 2)
  assert got["per_image_then_average"]["a"] == [1.0, 0.0, 0.5]


def test_a_grid_has_four_tiles():
  rows = [SKIPPED, question("a", 1)]
  answers = {"a": [tile("y")] * 4, "skipped": [tile("y")] * 4}
  for aggregate in (official, complete):
    got = aggregate(rows, answers, 9)
    assert got["per_image_then_average"]["a"] == [1.0] * 5


def test_rows_of_a_prompt_that_are_apart():
  rows = [SKIPPED, question("a", 1), question("b", 1), question("a", 2)]
  read = lambda quirks: list(
    dpg.read_questions(rows, official_quirks=quirks)["a"]
  )
  assert read(True) == [2]
  assert read(False) == [1, 2]


def test_a_parent_that_is_no_question_is_an_error():
  rows = [question("a", 1, "7")]
  with pytest.raises(ValueError, match=r"question 1 depends on \[7\]"):
    complete(rows, {"a": [tile("y")]})


def test_categories_of_two_levels():
  rows = [SKIPPED, question("b", 1, category="global - ")]
  got = complete(rows, {"b": [tile("y")], "skipped": [tile("n")]})
  assert set(got["L2"]) == {"global -", "e - w"}
  assert got["L1"] == {"global": 100.0, "e": 0.0}


@st.composite
def prompts(draw):
  """Rows, parents before children; answers for them; a source of orders."""
  rows, answers = [SKIPPED], {"skipped": [tile("y")]}
  for item in draw(st.sets(st.sampled_from("abcd"), min_size=1)):
    count = draw(st.integers(1, 5))
    for number in range(1, count + 1):
      parents = draw(st.sets(st.integers(0, number - 1), min_size=1))
      rows.append(question(item, number, ",".join(map(str, parents))))
    said = st.text("yn", min_size=count, max_size=count)
    answers[item] = [tile(draw(said))]
  return rows, answers, draw(st.randoms(use_true_random=False))


@QUICK
@given(prompts())
def test_bounds_and_order(case):
  rows, answers, rng = case
  got = complete(rows, answers)
  assert 0 <= got["score"] <= 100
  items = rng.sample(sorted(answers), len(answers))
  again = complete(rows, {item: answers[item] for item in items})
  assert again["score"] == pytest.approx(got["score"])
  # Without the skipped prompt, and parents first, both rules agree.
  del answers["skipped"]
  both = [official(rows, answers), complete(rows[1:], answers)]
  assert both[0]["score"] == pytest.approx(both[1]["score"])
  shuffled = rng.sample(rows[1:], len(rows) - 1)
  assert complete(shuffled, answers)["score"] == pytest.approx(both[1]["score"])


@QUICK
@given(prompts())
def test_one_more_yes_never_lowers_the_score(case):
  rows, answers, rng = case
  before = complete(rows, answers)["score"]
  item = rng.choice(sorted(answers))
  number = rng.choice(sorted(answers[item][0]))
  answers[item][0][number] = "yes"
  assert complete(rows, answers)["score"] >= before - 1e-9


@QUICK
@given(prompts())
def test_zeroing_again_changes_nothing(case):
  rows, answers, _ = case
  for item, own in dpg.read_questions(rows, official_quirks=False).items():
    raw = {int(k): float(v == "yes") for k, v in answers[item][0].items()}
    once = dpg.zero_dependants(raw, own, official_quirks=False)
    assert dpg.zero_dependants(once, own, official_quirks=False) == once
    assert all(once[k] <= raw[k] for k in raw)
