import random

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from emma_jax.benchmarks.scoring import geneval
from tests.benchmarks import golden

NUMBER = st.integers(0, 60)
BOX = st.tuples(NUMBER, NUMBER, NUMBER, NUMBER).map(
  lambda b: [min(b[0], b[2]), min(b[1], b[3]), max(b[0], b[2]), max(b[1], b[3])]
)
ONCE = geneval.given_colors({})
QUICK = settings(max_examples=60, deadline=None)


def test_the_originals_numbers(shared_dir):
  found = golden.cases(shared_dir, "GenEval")
  assert found
  assert not golden.misses(found, geneval.SCORERS)


@QUICK
@given(BOX, BOX)
def test_iou_is_symmetric_and_bounded(a, b):
  assert geneval.iou(a, b) == geneval.iou(b, a)
  assert 0 <= geneval.iou(a, b) <= 1
  assert geneval.iou(a, a) == 1


def test_the_last_pixels_of_a_box_count():
  assert geneval.iou([0, 0, 9, 9], [9, 9, 18, 18]) == 1 / 199
  for apart in ([10, 0, 19, 9], [0, 30, 9, 39], [30, 30, 39, 39]):
    assert geneval.iou([0, 0, 9, 9], apart) == 0
  assert geneval.iou([0, 0, -1, -1], [0, 0, -1, -1]) == 0  # nothing at all


@QUICK
@given(BOX, BOX)
def test_seen_from_the_other_side_relations_are_opposite(a, b):
  opposite = {
    "left of": "right of",
    "right of": "left of",
    "above": "below",
    "below": "above",
  }
  there = geneval.relative_position(a, b)
  back = geneval.relative_position(b, a)
  assert sorted(opposite[x] for x in there) == back
  assert not {"left of", "right of"} <= set(there)


@QUICK
@given(BOX, BOX, NUMBER, NUMBER)
def test_relations_do_not_depend_on_the_place_in_the_picture(a, b, dx, dy):
  move = lambda box: [box[0] + dx, box[1] + dy, box[2] + dx, box[3] + dy]
  assert geneval.relative_position(move(a), move(b)) == (
    geneval.relative_position(a, b)
  )


@pytest.mark.parametrize(
  "box, relations",
  [
    ([20, 0, 30, 10], ["left of"]),
    ([20, 20, 30, 30], ["above", "left of"]),  # 45 degrees: both
    ([1, 1, 11, 11], []),  # in the dead zone
    ([3, 0, 13, 10], []),  # out of it by a third of the offset
    ([0, 0, 10, 10], []),
  ],
)
def test_positions_of_a_box(box, relations):
  assert geneval.relative_position([0, 0, 10, 10], box) == relations


def test_half_of_the_offset_is_not_enough_and_a_pixel_can_be():
  box = [0, 0, 10, 10]
  for shift in ([0, 4, 10, 14], [4, 0, 14, 10]):  # (4 - 2) / 4
    assert geneval.relative_position(box, shift) == []
    assert geneval.relative_position(shift, box) == []
  assert geneval.relative_position([0] * 4, [1, 0, 1, 0]) == ["left of"]
  assert geneval.relative_position([0] * 4, [0, 1, 0, 1]) == ["above"]


def detections(count: int, score: float = 0.95) -> list[list[float]]:
  return [[20 * i, 0, 20 * i + 10, 10, score - i / 1000] for i in range(count)]


def test_scores_must_be_above_the_threshold_and_counting_has_its_own():
  boxes = {"cup": detections(1, 0.3), "dog": detections(1, 0.9)}
  keep = lambda tag: set(geneval.keep(boxes, tag, geneval.Settings()))
  assert keep("colors") == {"dog"}
  assert keep("counting") == set()
  # What a detector says is float32: its 0.3, written out, is above 0.3.
  boxes = {"cup": detections(1, float(np.float32(0.3)))}
  assert keep("colors") == set()


@QUICK
@given(st.permutations(range(20)), st.floats(0, 1))
def test_kept_boxes_are_the_best_sixteen_in_any_order(order, threshold):
  boxes = detections(20)
  given_order = {"cup": [boxes[i] for i in order]}
  found = geneval.keep(given_order, "", geneval.Settings(threshold=threshold))
  above = lambda score: np.float32(score) > np.float32(threshold)
  expected = [box for box in boxes if above(box[4])][:16]
  assert found == ({"cup": expected} if expected else {})
  # Idempotent: what is kept is kept again.
  assert geneval.keep(found, "", geneval.Settings(threshold=threshold)) == found


def test_overlapping_boxes_go_where_that_is_asked_for():
  boxes = {"cup": [[0, 0, 10, 10, 0.5], [1, 0, 11, 10, 0.9]]}
  keep = lambda overlap: geneval.keep(
    boxes, "", geneval.Settings(max_overlap=overlap)
  )
  assert len(keep(1.0)["cup"]) == 2
  assert keep(0.5) == {"cup": [[1, 0, 11, 10, 0.9]]}


def include(name: str, count: int = 1, **more) -> dict:
  return {"class": name, "count": count, **more}


@pytest.mark.smoke
def test_count_needs_as_many_and_exclude_forbids_more():
  metadata = {"include": [include("cup", 2)], "exclude": [include("cup", 3)]}
  judge = lambda n: geneval.evaluate({"cup": detections(n)}, metadata, ONCE)
  assert judge(1) == (False, "expected cup>=2, found 1")
  assert judge(2) == (True, "")
  assert judge(3) == (False, "expected cup<3, found 3")
  with pytest.raises(KeyError):  # less than none is not to be had
    geneval.evaluate({}, {"exclude": [include("cup", 0)]}, ONCE)
  # Without `exclude`, more is enough.
  assert geneval.evaluate(
    {"cup": detections(3)}, {"include": [include("cup", 2)]}, ONCE
  ) == (True, "")


def test_colours_are_those_of_the_best_boxes_alone():
  metadata = {"include": [include("cup", 1, color="red")]}
  objects = {"cup": detections(2)}
  judge = lambda *colors: geneval.evaluate(
    objects, metadata, geneval.given_colors({"cup": colors})
  )
  assert judge("red", "blue")[0]
  assert judge("blue", "red") == (
    False,
    "expected red cup>=1, found 0 red; and 1 blue",
  )


def test_a_colour_nobody_named_is_an_error():
  metadata = {"include": [include("cup", 1, color="red")]}
  with pytest.raises(KeyError, match="'cup' are needed, 0 are given"):
    geneval.evaluate({"cup": detections(1)}, metadata, ONCE)


def test_only_the_most_confident_object_is_tried_for_its_position():
  metadata = {
    "include": [include("bear"), include("dog", position=["right of", 0])]
  }
  near, far = [1, 1, 11, 11], [30, 0, 40, 10]
  judge = lambda *dogs: geneval.evaluate(
    {"bear": [[0, 0, 10, 10]], "dog": dogs}, metadata, ONCE
  )
  assert judge(far, near)[0]
  assert judge(near, far) == (
    False,
    "expected dog right of target, found  target",
  )


def test_a_target_that_failed_is_no_target():
  metadata = {
    "include": [
      include("car", color="red"),
      include("dog", position=["right of", 0]),
    ]
  }
  objects = {"car": [[0, 0, 10, 10]], "dog": [[30, 0, 40, 10]]}
  colors = geneval.given_colors({"car": ["blue"]})
  assert geneval.evaluate(objects, metadata, colors)[1].splitlines() == [
    "expected red car>=1, found 0 red; and 1 blue",
    "no target for dog to be right of",
  ]


@QUICK
@given(st.integers(0, 5), st.integers(1, 5))
def test_more_objects_never_hurt_without_exclude(found, wanted):
  metadata = {"include": [include("cup", wanted)]}
  judge = lambda n: geneval.evaluate({"cup": detections(n)}, metadata, ONCE)[0]
  assert judge(found) <= judge(found + 1)
  assert judge(found) == (found >= wanted)


def rows(**tags: list[bool]) -> list[dict]:
  return [
    {"tag": tag, "prompt": tag, "correct": correct}
    for tag, all_correct in tags.items()
    for correct in all_correct
  ]


def test_the_score_is_the_mean_of_tags_not_of_pictures():
  some = rows(single_object=[True] * 8, counting=[False] * 3 + [True])
  assert geneval.overall(some) == (1 + 0.25) / 2
  assert geneval.summary(some) == {
    "images": 12,
    "prompts": 2,
    "correct_images": "75.00%",
    "correct_prompts": "100.00%",  # one of four is enough
    "tasks": {"single_object": "100.00%", "counting": "25.00%"},
    "overall": 0.625,
  }


def test_printed_scores_have_five_decimals():
  some = rows(colors=[True, True, False])
  assert geneval.overall(some) == 2 / 3
  assert geneval.summary(some)["overall"] == 0.66667


@QUICK
@given(
  st.lists(st.tuples(st.sampled_from(geneval.TAGS), st.booleans()), min_size=1),
  st.randoms(use_true_random=False),
)
def test_the_order_of_pictures_does_not_matter(pairs, rng: random.Random):
  some = [{"tag": t, "prompt": t, "correct": c} for t, c in pairs]
  shuffled = rng.sample(some, len(some))
  assert geneval.overall(shuffled) == pytest.approx(geneval.overall(some))
  assert 0 <= geneval.overall(some) <= 1
  better = [{**row, "correct": True} for row in some]
  assert geneval.overall(better) == 1


def test_no_pictures_are_an_error():
  with pytest.raises(ValueError, match="at least one picture"):
    geneval.overall([])


def test_a_verdict_from_detections():
  metadata = {"tag": "counting", "include": [include("cup", 2)]}
  verdict = geneval.score_picture(
    {"cup": detections(20, 0.99), "dog": detections(1, 0.5)},
    metadata,
    ONCE,
    geneval.Settings(),
  )
  assert verdict.correct
  assert {name: len(boxes) for name, boxes in verdict.kept.items()} == {
    "cup": 16
  }
