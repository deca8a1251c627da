"""Scorers: the truth passes, and each single fault fails."""

import dataclasses

import pytest

from emma_jax import structs
from emma_jax.world import scoring
from emma_jax.world.captions import DrawingTruth, Wanted
from emma_jax.world.render import render
from emma_jax.world.scene import BACKGROUNDS, COLOURS, SHAPES, Scene, Thing
from emma_jax.world.tasks import TASKS, sample

DRAWINGS = [task for task in TASKS if task.startswith("drawing")]
EDITINGS = [task for task in TASKS if task.startswith("editing")]


def other(names, name):
  """The next name of a table."""
  return names[(names.index(name) + 1) % len(names)]


def faults(scene: Scene) -> dict[str, Scene]:
  """Scenes that differ from `scene` in one respect each."""
  extra = Thing(shape="cross", colour="red", size="large", cell=scene.free[0])
  things = scene.things
  wrong = {
    "extra": Scene((*things, extra), scene.background),
    "background": Scene(things, other(BACKGROUNDS, scene.background)),
  }
  if things:
    first, *rest = things

    def change(**fields):
      new = dataclasses.replace(first, **fields)
      return Scene((new, *rest), scene.background)

    wrong |= {
      "missing": Scene(tuple(rest), scene.background),
      "shape": change(shape=other(SHAPES, first.shape)),
      "colour": change(colour=other(COLOURS, first.colour)),
      "size": change(size="small" if first.size == "large" else "large"),
      "moved": change(cell=scene.free[-1]),
    }
  return wrong


@pytest.mark.parametrize("task", DRAWINGS)
def test_drawing_scorer(task):
  for index in range(60):
    record = sample(task, "test", index)
    assert scoring.score_drawing(record, record.picture)
    wanted = record.truth.wanted
    # What a caption leaves open may differ.
    free = {"moved"}
    if any(item.size is None for item in wanted):
      free.add("size")
    if any(item.colour is None for item in wanted):
      free.add("colour")
    for fault, scene in faults(record.truth.scene).items():
      verdict = scoring.score_drawing(record, render(scene))
      assert not verdict or fault in free, (record.prompt, fault)


def draw(*things, background="white"):
  return render(
    Scene(
      tuple(
        Thing(shape=shape, colour=colour, size=size, cell=cell)
        for shape, colour, size, cell in things
      ),
      background,
    )
  )


def demand(*wanted, **fields):
  truth = DrawingTruth(scene=Scene(()), wanted=wanted, **fields)
  return structs.Drawing(prompt="", truth=truth)


def test_position_compares_columns_strictly():
  record = demand(Wanted("star"), Wanted("square"), relation="left")
  star, square = ("star", "red", "large"), ("square", "blue", "large")
  score = scoring.score_drawing
  assert score(record, draw((*star, (2, 0)), (*square, (0, 1))))
  assert not score(record, draw((*star, (0, 1)), (*square, (2, 1))))
  assert not score(record, draw((*star, (0, 2)), (*square, (0, 1))))


def test_attributes_are_bound_to_their_things():
  record = demand(Wanted("star", "red", "small"), Wanted("square", "blue"))
  score = scoring.score_drawing
  red_star = ("star", "red", "small", (0, 0))
  blue_square = ("square", "blue", "large", (1, 1))
  assert score(record, draw(red_star, blue_square))
  blue_star = ("star", "blue", "small", (0, 0))
  red_square = ("square", "red", "large", (1, 1))
  assert not score(record, draw(blue_star, red_square))
  large_star = ("star", "red", "large", (0, 0))
  assert not score(record, draw(large_star, blue_square))
  assert not score(record, draw(red_star, blue_square, background="grey"))


def test_counting_wants_the_exact_number():
  record = demand(*[Wanted("cross")] * 3)
  crosses = [("cross", "red", "small", (0, column)) for column in range(3)]
  assert scoring.score_drawing(record, draw(*crosses))
  assert not scoring.score_drawing(record, draw(*crosses[:2]))
  assert not scoring.score_drawing(
    record, draw(*crosses, ("cross", "red", "small", (1, 1)))
  )


@pytest.mark.parametrize("task", EDITINGS)
def test_editing_scorer(task):
  for index in range(60):
    record = sample(task, "test", index)
    assert scoring.score_editing(record, record.target), record.instruction
    assert not scoring.score_editing(record, record.source)
    for fault, scene in faults(record.truth.target).items():
      # A fault may be another accepted place of an added thing.
      accepted = scoring.score_editing(record, render(scene))
      assert not accepted or (fault == "moved" and "add" in record.kind), (
        record.instruction,
        fault,
      )


def test_a_thing_added_without_a_place_may_stand_anywhere_free():
  records = (sample("editing", "test", 1 + 6 * i) for i in range(100))
  record = next(r for r in records if len(r.truth.accepted) > 1)
  assert record.kind == "add" and " at " not in record.instruction
  assert len(record.truth.accepted) == len(record.truth.source.free)
  for scene in record.truth.accepted:
    assert scoring.score_editing(record, render(scene))


def test_autoencoder_records_demand_their_own_scene():
  for index in range(40):
    record = sample("autoencoder", "test", index)
    if record.kind == "scene":
      assert scoring.score_drawing(record, record.picture)
      assert scoring.score_scene(record.truth.scene, record.picture)
    else:
      with pytest.raises(ValueError, match="only scenes can be read"):
        scoring.score_drawing(record, record.picture)


def test_a_record_without_truth_is_refused():
  with pytest.raises(ValueError, match="no truth"):
    scoring.score_drawing(structs.Drawing(prompt="a star"), draw())


@pytest.mark.parametrize(
  "answer, right",
  [
    ("yes", True),
    (" Yes.\n", True),
    ("yes!", True),
    ("no", False),
    ("yes it is", False),
    ("", False),
    ("是", False),
  ],
)
def test_answers_match_exactly_but_for_form(answer, right):
  assert scoring.score_answer("yes", answer) == right


def test_chinese_answers_lose_their_full_stop():
  assert scoring.score_answer("左上", "左上。")


def test_truths_in_words():
  record = demand(Wanted("star", "red"), Wanted("square"), relation="left")
  text = "exactly a red star left of a square on white"
  assert scoring.truth_text(record) == text
  for task in TASKS:
    assert scoring.truth_text(sample(task, "val", 1))
