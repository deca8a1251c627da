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
  CANVASES,
  CELL,
  COLOURS,
  HELD_OUT,
  MAX_THINGS,
  PLACES,
  PLAIN,
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
  cells_of,
  corner,
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
  assert [place(cell) for cell in cells_of(PLAIN)] == list(PLACES)
  assert place((0, 2)) == "top right"


def test_places_are_the_ninths_of_any_canvas():
  """By the definition: of three equal parts, that of the cell's centre."""
  for canvas in (*CANVASES, (64, 64), (100, 181), (224, 96)):
    for cell in cells_of(canvas):
      top, left = corner(cell, canvas)
      margins = [side % CELL // 2 for side in canvas]
      middles = [
        at + CELL / 2 - margin for at, margin in zip((top, left), margins)
      ]
      sides = [side // CELL * CELL for side in canvas]
      row, column = (int(3 * m / n) for m, n in zip(middles, sides))
      assert place(cell, canvas) == PLACES[3 * row + column]
      # Whole, inside, and as far from either edge as it can be.
      assert 0 <= top <= canvas[0] - CELL and 0 <= left <= canvas[1] - CELL
  names = [place(cell, (64, 128)) for cell in cells_of((64, 128))]
  top = ["top left", "top", "top", "top right"]
  assert names == top + [name.replace("top", "bottom") for name in top]


def test_canvases_are_wide_tall_and_roomy():
  assert len(set(CANVASES)) == len(CANVASES) == 5 and PLAIN == CANVASES[0]
  assert {(x, y) for y, x in CANVASES} == set(CANVASES)
  ratios = [y / x for y, x in CANVASES]
  assert min(ratios) == 0.5 and max(ratios) == 2
  for canvas in CANVASES:
    assert all(side % CELL == 0 for side in canvas)
    assert len(cells_of(canvas)) >= 2 * MAX_THINGS


def test_a_canvas_holds_what_is_on_it():
  star = Thing(shape="star", colour="red", size="large", cell=(1, 3))
  scene = Scene((star,), "white", (64, 128))
  assert len(scene.free) == 7 and scene.place((1, 3)) == "bottom right"
  assert scene != Scene((star,), "white", (96, 128))
  with pytest.raises(ValueError, match=r"\[\(1, 3\)\] are outside .* of 96x96"):
    Scene((star,))
  with pytest.raises(ValueError, match="48x96 .* at least 64 pixels"):
    Scene((), "white", (48, 96))
  with pytest.raises(ValueError, match="48x96 .* at least 64 pixels"):
    render(Digit(3, "red", canvas=(48, 96)))
  with pytest.raises(ValueError, match="negative"):
    Thing(shape="star", colour="red", size="large", cell=(0, -1))


def test_a_thing_looks_the_same_on_every_canvas():
  """But for where it stands: what no cell covers is a margin around them."""
  plain = render(Scene((_star((1, 1)),), "pink"))[32:64, 32:64]
  for canvas, top, left in (
    ((64, 128), 32, 32),
    ((128, 64), 32, 32),
    ((100, 71), 34, 35),
  ):
    picture = render(Scene((_star((1, 1)),), "pink", canvas))
    assert picture.shape == (*canvas, 3)
    patch = picture[top : top + 32, left : left + 32]
    assert np.array_equal(patch, plain)
    patch[:] = BACKGROUND_RGB["pink"]
    assert (picture == BACKGROUND_RGB["pink"]).all()


def _star(cell: tuple[int, int]) -> Thing:
  return Thing(shape="star", colour="red", size="large", cell=cell)


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


@pytest.mark.parametrize("canvas", CANVASES)
def test_stem_pictures_differ_where_their_answers_differ(canvas):
  on = dict(canvas=canvas)
  pictures = [Digit(value, "red", **on) for value in range(10)]
  pictures += [Sum(a, b, "red", **on) for a, b in ((1, 2), (2, 1), (0, 3))]
  pictures += [Polygon(sides, "red", **on) for sides in (3, 4, 5, 6)]
  pictures += [
    Chart((("red", a), ("blue", b), ("green", 1)), **on)
    for a, b in ((2, 3), (3, 2), (5, 1))
  ]
  renders = [render(picture).astype(int) for picture in pictures]
  # What differs is in lines or areas: the shorter side scales both.
  scale = min(canvas) / CANVAS
  for a, b in itertools.combinations(renders, 2):
    assert a.shape == (*canvas, 3)
    assert (np.abs(a - b).sum(-1) > 60).sum() > 150 * scale**2


@pytest.mark.parametrize(
  "canvas, unit", [(PLAIN, 15), ((64, 128), 8), ((128, 64), 21)]
)
def test_height_of_a_bar_is_its_value(canvas, unit):
  bars = (("red", 5), ("blue", 1), ("green", 3))
  picture = render(Chart(bars, "cream", canvas))
  pitch = canvas[1] // 3
  heights = [
    (picture[:, pitch // 2 + pitch * column] == RGB[colour]).all(-1).sum()
    for column, colour in enumerate(("red", "blue", "green"))
  ]
  assert heights == [5 * unit, unit, 3 * unit]


def test_polygons_count_as_shapes_of_a_pair():
  assert pairs_of(Polygon(3, "red")) == {("red", "triangle")}
  assert pairs_of(Digit(3, "red")) == set()
  drawn = (draws.stem_picture(draws.stream("t", "s", i)) for i in range(500))
  assert not any(pairs_of(picture) & set(HELD_OUT) for picture in drawn)


def test_backgrounds_render_as_named():
  for name in BACKGROUNDS:
    assert (render(Scene((), name)) == BACKGROUND_RGB[name]).all()
