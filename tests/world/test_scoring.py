"""Scorers: the truth passes, and each single fault fails."""

import dataclasses
import unicodedata

import pytest

from emma_jax import structs
from emma_jax.world import questions, scoring
from emma_jax.world.captions import DrawingTruth, Wanted
from emma_jax.world.render import render
from emma_jax.world.scene import (
  BACKGROUNDS,
  CANVASES,
  COLOURS,
  PLAIN,
  SHAPES,
  Scene,
  Thing,
)
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

  def having(things, background=scene.background):
    return Scene(tuple(things), background, scene.canvas)

  wrong = {
    "extra": having((*things, extra)),
    "background": having(things, other(BACKGROUNDS, scene.background)),
  }
  if things:
    first, *rest = things

    def change(**fields):
      new = dataclasses.replace(first, **fields)
      return having((new, *rest))

    wrong |= {
      "missing": having(rest),
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


@pytest.mark.parametrize("cell", [(1, 1), (1, 2), (0, 1), (2, 0)])
def test_relations_are_strict_and_turn_round(cell):
  """Things in one row are neither above nor below each other."""
  make = lambda cell: Thing(shape="star", colour="red", size="small", cell=cell)
  here, there = make((1, 1)), make(cell)
  (row, column), found = cell, questions.related(here, there)
  assert found == {
    "left": column > 1,
    "right": column < 1,
    "above": row > 1,
    "below": row < 1,
  }
  back = questions.related(there, here)
  for name, other in (("left", "right"), ("above", "below")):
    assert found[name] == back[other] and found[other] == back[name]


def test_a_constant_answer_may_know_the_language_of_the_question():
  pairs = [("is", "yes"), ("is", "yes"), ("is", "no"), ("is", "是")]
  assert scoring.majority_baseline(pairs) == {"is": 3 / 4}
  assert scoring.majority_baseline([*pairs, ("is", "否")]) == {"is": 3 / 5}
  assert scoring.majority_baseline([("count", "1"), ("count", "2")]) == {
    "count": 0.5
  }


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
    for source in record.sources:
      assert not scoring.score_editing(record, source)
    for fault, scene in faults(record.truth.target).items():
      # A fault may be another accepted cell of an added thing, or of a moved
      # one where a place has several cells.
      accepted = scoring.score_editing(record, render(scene))
      free = "add" in record.kind
      free |= task == "editing_shapes" and record.kind == "move"
      assert not accepted or (fault == "moved" and free), (
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


def test_a_named_place_is_any_free_cell_of_it():
  """Of a 2x4 canvas "top" is two cells, of the plain one each is one cell."""
  kinds = {"add at": 0, "move": 0}
  for index in range(300):
    record = sample("editing_shapes", "test", index)
    truth = record.truth
    asked = "add at" if " at the " in record.instruction else record.kind
    if asked not in kinds:
      continue
    (new,) = set(truth.target.things) - set(truth.source.things)
    rest = set(truth.target.things) & set(truth.source.things)
    where = truth.target.place(new.cell)
    assert record.instruction.endswith(f" the {where}")
    places = set()
    for scene in truth.accepted:
      (other_new,) = set(scene.things) - rest
      assert scene.canvas == truth.source.canvas
      assert dataclasses.replace(other_new, cell=new.cell) == new
      assert scene.place(other_new.cell) == where
      places.add(other_new.cell)
    free = {c for c in truth.source.free if truth.source.place(c) == where}
    assert places == free and new.cell in free
    kinds[asked] += len(free) > 1
  assert min(kinds.values()) > 5  # cells to choose from did occur


def test_a_picture_of_another_size_is_an_error_and_not_a_zero():
  """A miss of the evaluator's would else be the model's."""
  for task, score in (
    ("drawing_shapes", scoring.score_drawing),
    ("editing_shapes", scoring.score_editing),
  ):
    for index in range(31):
      record = sample(task, "test", index)
      y, x = scoring.canvas_of(record)
      own = record.picture if task == "drawing_shapes" else record.target
      assert own.shape == (y, x, 3) and score(record, own)
      with pytest.raises(ValueError, match=f"draw at {y}x{x}"):
        score(record, render(Scene((), "white", (y, x + 32))))
      if task == "drawing_shapes":
        assert record.truth.canvas == (y, x)
  record = sample("drawing", "test", 0)
  with pytest.raises(ValueError, match="draw at 96x96"):
    scoring.score_drawing(record, render(Scene((), "white", (64, 128))))


def test_the_canvas_of_a_question_is_its_picture_s():
  for index in range(5):
    record = sample("understanding_shapes", "test", index)
    assert scoring.canvas_of(record) == CANVASES[index]
  assert scoring.canvas_of(sample("stem", "test", 0)) == PLAIN


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


@pytest.mark.parametrize("mark", [".", "?", "。", "...", "-"])
def test_marks_alone_equal_themselves_and_nothing_else(mark):
  assert scoring.score_answer(mark, f" {mark}\n")
  others = {"", " ", ".", "?", "!", "。", "...", "-", "?!", "yes"} - {mark}
  for other in others:
    assert not scoring.score_answer(mark, other), other
    assert not scoring.score_answer(other, mark), other


@pytest.mark.parametrize("word", ["café", "Ångström", "ΐ", "İstanbul", "ñ"])
def test_accents_count_however_they_are_spelt(word):
  forms = [unicodedata.normalize(form, word) for form in ("NFC", "NFD")]
  for truth in forms:
    for answer in forms:
      assert scoring.score_answer(truth, f"{answer}.")
      assert scoring.score_answer(truth, answer.lower())
  assert not scoring.score_answer("café", "cafe")


def test_accents_and_signs_are_no_chinese():
  """Else each of them would have a most frequent answer of its own."""
  answers = ["yes", "no", "café", "50°", "да", "ひ"]
  pairs = [("is", answer) for answer in answers]
  assert scoring.majority_baseline(pairs) == {"is": 1 / 6}
  assert scoring.majority_baseline([*pairs, ("is", "是的")]) == {"is": 2 / 7}
  both = [("is", "café"), ("is", "cafe\u0301"), ("is", "no")]
  assert scoring.majority_baseline(both) == {"is": 2 / 3}


def test_chinese_answers_lose_their_full_stop():
  assert scoring.score_answer("左上", "左上。")


def test_truths_in_words():
  record = demand(Wanted("star", "red"), Wanted("square"), relation="left")
  text = "exactly a red star left of a square on white"
  assert scoring.truth_text(record) == text
  for task in TASKS:
    assert scoring.truth_text(sample(task, "val", 1))
