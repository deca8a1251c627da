import json

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
from PIL import Image
import pytest

from emma_jax.benchmarks import suite
from emma_jax.benchmarks.protocols import edits, emu_edit
from emma_jax.benchmarks.scoring import pixels
from emma_jax.judge.base import Reply
from tests.benchmarks.protocols.edit_cases import (
  HTML,
  item,
  picture,
  score,
  seen,
)

pytestmark = pytest.mark.smoke
CAPTIONS = {"input_caption": "a red field", "output_caption": "a blüe field"}
ITEM = item("color", **CAPTIONS)
ENCODED = [impl for impl in emu_edit.IMPLS if impl != "minus_l1:input"]


def encoder_of(impl: str) -> str:
  return "dino" if impl == "dino:input" else f"clip-{impl.split(':')[1]}"


def features(count: int, seed: int = 0) -> list[list[float]]:
  return np.random.default_rng(seed).normal(size=(count, 16)).tolist()


def reply(images, texts=()) -> str:
  return json.dumps({"images": images, "texts": texts})


GOOD = reply(features(2), features(2, 1))


@pytest.mark.parametrize("impl", ENCODED)
def test_encoders_are_asked_of_both_pictures_and_captions(impl):
  found, judge = score("emu_edit", impl, ITEM, {encoder_of(impl): GOOD})
  assert not found.failure and -1 <= found.value <= 1
  assert judge.names == [encoder_of(impl)]
  (call,) = judge.calls
  captions = [] if impl == "dino:input" else list(CAPTIONS.values())
  assert json.loads(call.text) == captions
  assert list(map(seen, call.pictures)) == [
    ("PNG", (64, 48), "r"),
    ("PNG", (100, 100), "b"),
  ]


@pytest.mark.parametrize("clip", ["b32", "l14"])
def test_clip_scores_are_the_golden_functions(clip):
  unit = lambda rows: [np.array(x) / np.linalg.norm(x) for x in rows]
  golden = pixels.clip_similarities(*unit(features(2)), *unit(features(2, 1)))
  replies = {f"clip-{clip}": GOOD}
  for impl, key in (
    (f"clip_dir:{clip}", "clip_dir"),
    (f"clip_img:{clip}:input", "clip_img"),
    (f"clip_out:{clip}:caption", "clip_out_sim_1"),
  ):
    found, _ = score("emu_edit", impl, ITEM, replies)
    assert found.value == pytest.approx(golden[key], abs=1e-6)
    assert found.parts[impl.split(":")[0]] == found.value
    assert found.parts["clip_in"] == pytest.approx(golden["sim_0"], abs=1e-6)


def test_dino_is_the_golden_function_and_needs_no_captions():
  a, b = features(2)
  found, _ = score("emu_edit", "dino:input", item("x"), {"dino": reply([a, b])})
  assert found.value == pytest.approx(pixels.clip_i([(b, a)]), abs=1e-6)
  without = {"dino": json.dumps({"images": [a, b]})}
  assert score("emu_edit", "dino:input", item("x"), without)[0] == found


def test_l1_is_the_golden_function_and_needs_no_encoder():
  rng = np.random.default_rng(0)
  noise = Image.fromarray(rng.integers(0, 255, (30, 40, 3), np.uint8))
  made = edits.encode(noise, "PNG")
  found, judge = score("emu_edit", "minus_l1:input", ITEM, {}, made=[made])
  source = np.full((48, 64, 3), (200, 0, 0), np.uint8)
  golden = pixels.l1([(np.asarray(noise), source)])
  assert (found.value, found.parts) == (-golden, {"l1": golden})
  assert not found.failure and not judge.calls


def test_a_source_given_back_has_no_distance_of_either_sign():
  found, _ = score("emu_edit", "minus_l1:input", ITEM, {}, made=[picture()])
  assert str(found.value) == "0.0"


@pytest.mark.parametrize("impl", ENCODED)
@pytest.mark.parametrize("status", ["absent", "unreachable", "refused"])
def test_without_an_encoder_there_is_no_score(impl, status):
  gone = {encoder_of(impl): Reply(status=status)}
  found, _ = score("emu_edit", impl, ITEM, gone)
  assert (found.value, found.failure) == (-1, f"judge:{status}")
  assert not found.parts


@pytest.mark.parametrize(
  "bad",
  [
    "no",
    HTML,
    "[]",
    "null",
    reply(features(1), features(2)),
    reply(features(2)),
    reply([[1.0, 0.0], [1.0]], features(2)),
    reply([[0.0] * 16, [1.0] * 16], features(2)),
    reply([[float("nan")] * 16, [1.0] * 16], features(2)),
    reply([["x"], ["y"]], features(2)),
    reply([1.0, 2.0], features(2)),
    reply([[[1.0]], [[1.0]]], features(2)),
  ],
)
def test_what_is_no_features_is_a_failure(bad):
  found, _ = score("emu_edit", "clip_dir:b32", ITEM, {"clip-b32": bad})
  assert (found.value, found.failure) == (-1, "judge:unparsable")


def test_captions_that_are_missing_are_told_with_what_helps():
  with pytest.raises(ValueError, match="Edit '7' has the captions None"):
    score("emu_edit", "clip_dir:b32", item("x"), {"clip-b32": GOOD})


@settings(max_examples=30, deadline=None)
@given(
  st.lists(
    st.lists(st.floats(-1e3, 1e3), min_size=3, max_size=3),
    min_size=4,
    max_size=4,
  ),
  st.sampled_from(ENCODED),
)
def test_scores_are_cosines_or_failures(rows, impl):
  texts = [] if impl == "dino:input" else rows[2:]
  replies = {encoder_of(impl): reply(rows[:2], texts)}
  found, _ = score("emu_edit", impl, ITEM, replies)
  assert abs(found.value) <= 1 + 1e-6
  assert not found.failure or found.value == -1


@settings(max_examples=30, deadline=None)
@given(*[st.tuples(*[st.integers(0, 255)] * 3)] * 2)
def test_distances_are_in_bounds_and_symmetric(a, b):
  one, other = picture((8, 8), a), picture((8, 8), b)
  there, _ = score(
    "emu_edit", "minus_l1:input", item("x", one), {}, made=[other]
  )
  back, _ = score(
    "emu_edit", "minus_l1:input", item("x", other), {}, made=[one]
  )
  assert -1 <= there.value <= 0
  assert there.value == pytest.approx(back.value, abs=1e-6)


def test_every_name_says_the_encoder_and_what_is_compared():
  found = suite.find("emu_edit")
  assert found.impls[0] == "clip_dir:b32"
  assert len(set(found.impls)) == 8
  assert (found.scale, found.unit, found.lowest) == (1.0, "", -1.0)
  assert found.stratum is None and found.categories(ITEM) == {
    "category": "color"
  }
