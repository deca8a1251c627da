"""Names, palette and renders."""

import itertools

import numpy as np
import pytest

from emma_jax.world import draws
from emma_jax.world.render import coverage, render
from emma_jax.world.scene import (
  BACKGROUND_RGB,
  BACKGROUNDS,
  CANVAS,
  CELLS,
  COLOURS,
  HELD_OUT,
  PLACES,
  RADIUS,
  RGB,
  SHAPES,
  SIZES,
  Chart,
  Digit,
  Polygon,
  Scene,
  Sum,
  Thing,
  pairs_of,
  place,
)


def _distance(a, b):
  return np.linalg.norm(np.subtract(a, b))


def test_names_of_the_palette_are_far_apart():
  for a, b in itertools.combinations(BACKGROUND_RGB.values(), 2):
    assert _distance(a, b) > 55
  for a, b in itertools.combinations(RGB.values(), 2):
    assert _distance(a, b) > 75
  for a, b in itertools.product(RGB.values(), BACKGROUND_RGB.values()):
    assert _distance(a, b) > 150


def test_held_out_pairs_leave_every_colour_and_shape_frequent():
  colours, shapes = zip(*HELD_OUT)
  assert len(HELD_OUT) == len(set(colours)) == len(set(shapes)) == 4
  assert set(colours) <= set(COLOURS) and set(shapes) <= set(SHAPES)


def test_places_are_named_row_by_row():
  assert [place(cell) for cell in CELLS] == list(PLACES)
  assert place((0, 2)) == "top right"


def test_scene_is_sorted_checked_and_blind_to_jitter():
  star = Thing(shape="star", colour="red", size="large", cell=(2, 1))
  cross = Thing(shape="cross", colour="blue", size="small", cell=(0, 1))
  scene = Scene((star, cross))
  assert scene.things == (cross, star) and len(scene.free) == 7
  shifted = Thing(
    shape="star", colour="red", size="large", cell=(2, 1), shift=(2, -2)
  )
  assert Scene((cross, shifted)) == scene
  assert hash(Scene((cross, shifted))) == hash(scene)
  with pytest.raises(ValueError, match="share a cell"):
    Scene((star, shifted))
  with pytest.raises(ValueError, match="shape='blob'"):
    Thing(shape="blob", colour="red", size="large", cell=(0, 0))


@pytest.mark.parametrize("shape", SHAPES)
def test_a_thing_stays_clear_of_its_neighbours(shape):
  for size, shift in itertools.product(SIZES, ((-2, -2), (0, 0), (2, 2))):
    mask = coverage(shape, size, shift)
    assert 0.4 < mask.sum() / (np.pi * RADIUS[size] ** 2) < 1.01
    edge = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
    assert edge.max() < 0.7 and edge.sum() < 2
  fine = coverage(shape, "large", (0, 0))
  assert np.array_equal(coverage(shape, "large", (2, 0))[1:], fine[:-1])


def test_render_paints_only_where_things_are():
  thing = Thing(shape="square", colour="green", size="small", cell=(1, 2))
  picture = render(Scene((thing,), "pink"))
  assert picture.shape == (CANVAS, CANVAS, 3) and picture.dtype == np.uint8
  assert tuple(picture[48, 80]) == RGB["green"]
  picture[32:64, 64:] = BACKGROUND_RGB["pink"]
  assert (picture == BACKGROUND_RGB["pink"]).all()


def test_stem_pictures_differ_where_their_answers_differ():
  pictures = [Digit(value, "red") for value in range(10)]
  pictures += [Sum(a, b, "red") for a, b in ((1, 2), (2, 1), (0, 3))]
  pictures += [Polygon(sides, "red") for sides in (3, 4, 5, 6)]
  pictures += [
    Chart((("red", a), ("blue", b), ("green", 1)))
    for a, b in ((2, 3), (3, 2), (5, 1))
  ]
  renders = [render(picture).astype(int) for picture in pictures]
  for a, b in itertools.combinations(renders, 2):
    assert (np.abs(a - b).sum(-1) > 60).sum() > 150


def test_height_of_a_bar_is_its_value():
  picture = render(Chart((("red", 5), ("blue", 1), ("green", 3)), "cream"))
  heights = [
    (picture[:, 16 + 32 * column] == RGB[colour]).all(-1).sum()
    for column, colour in enumerate(("red", "blue", "green"))
  ]
  assert heights == [75, 15, 45]


def test_polygons_count_as_shapes_of_a_pair():
  assert pairs_of(Polygon(3, "red")) == {("red", "triangle")}
  assert pairs_of(Digit(3, "red")) == set()
  drawn = (draws.stem_picture(draws.stream("t", "s", i)) for i in range(500))
  assert not any(pairs_of(picture) & set(HELD_OUT) for picture in drawn)


def test_backgrounds_render_as_named():
  for name in BACKGROUNDS:
    assert (render(Scene((), name)) == BACKGROUND_RGB[name]).all()
