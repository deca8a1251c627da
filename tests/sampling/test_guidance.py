"""What a request hands to the model: contexts, weights, noise, times.

The programs are replaced by stand-ins that remember their arguments, so nothing
is compiled; that the programs are right is held elsewhere.
"""

import contextlib
import dataclasses
from unittest import mock
import zlib

import jax
import numpy as np
import pytest

from emma_jax.build import session as build_session
from emma_jax.sampling import context, image
from tests.sampling import small

pytestmark = pytest.mark.smoke


@contextlib.contextmanager
def remembered():
  """The arguments of each chunk: batch, weights, keys, times and steps."""
  calls = []

  def prefill(emma, params, batch, route):
    assert route == "versatile"
    calls.append({"batch": batch})
    return None, None

  def sample_latents(emma, params, cache, weights, keys, times, steps, grid):
    calls[-1].update(
      weights=weights,
      steps=steps,
      times=times,
      grid=grid,
      keys=jax.random.key_data(keys).tolist(),
    )
    return np.zeros((len(keys), grid[0] * grid[1], 8))

  def decode(emma, params, latents, grid):
    made = np.zeros((len(latents), 32 * grid[0], 32 * grid[1], 3), np.uint8)
    return made, np.ones(len(latents), bool)

  with (
    mock.patch.object(context, "prefill", prefill),
    mock.patch.object(image, "sample_latents", sample_latents),
    mock.patch.object(image, "decode", decode),
  ):
    yield calls


def key_of(seed: int, task: str, place: int) -> list[int]:
  named = jax.random.fold_in(jax.random.key(seed), zlib.crc32(task.encode()))
  return jax.random.key_data(jax.random.fold_in(named, place)).tolist()


def seen(batch, words: str) -> list[tuple[bool, bool]]:
  """Of every row whether it has the words, and a reference."""
  tokenizer = small.session().requests.tokenizer
  has = lambda row: words in tokenizer.decode(row[row > 0].tolist())
  return [
    (has(row), bool(valid.any()))
    for row, valid in zip(batch.tokens_BU, batch.ref_valid_BR)
  ]


def test_the_contexts_of_an_edit_and_their_weights():
  """v = v(0, 0) + 1.5 (v(image, 0) - v(0, 0)) + 4 (v(both) - v(image, 0))."""
  pictures = [small.picture(0), small.picture(1)]
  with remembered() as calls:
    small.session().edit(
      pictures, ["make it red"] * 2, text_guidance=4.0, image_guidance=1.5
    )
  (call,) = calls
  np.testing.assert_allclose(call["weights"], [4.0, -2.5, -0.5])
  batch = call["batch"]
  assert seen(batch, "make it red") == (
    [(True, True)] * 2 + [(False, True)] * 2 + [(False, False)] * 2
  )
  # The pictures themselves, each in its own row, and in no row without one.
  for row, picture in enumerate(pictures * 2):
    np.testing.assert_array_equal(batch.ref_pixels_BRYXC[row, 0], picture)
  # And what attention sees of them: a reference of four tokens.
  tokens = (batch.gen_ids.segment > 0).sum(axis=1).tolist()
  assert tokens == [4, 4, 4, 4, 0, 0]


def test_the_contexts_of_a_drawing_and_their_weights():
  with remembered() as calls:
    small.session().draw(["red", "red"], guidance=3.0)
  (call,) = calls
  np.testing.assert_allclose(call["weights"], [3.0, -2.0])
  assert [text for text, _ in seen(call["batch"], "red")] == (
    [True] * 2 + [False] * 2
  )


def test_what_is_not_given_comes_from_the_config():
  s = small.session()
  picked = {
    "steps": 5,
    "shift": 2.0,
    "text_guidance": 1.25,
    "edit_text_guidance": 3.0,
    "edit_image_guidance": 1.75,
  }
  s = dataclasses.replace(s, defaults=s.defaults | picked)
  with remembered() as calls:
    s.draw(["red"])
    s.edit([small.picture(0)], ["red"])
    s.draw(["red"], steps=2, shift=1.0, guidance=2.0)
  np.testing.assert_allclose(calls[0]["weights"], [1.25, -0.25])
  np.testing.assert_allclose(calls[1]["weights"], [3.0, -1.25, -0.75])
  np.testing.assert_allclose(calls[2]["weights"], [2.0, -1.0])
  t = np.linspace(1, 0, 6)
  assert [c["steps"] for c in calls] == [5, 5, 2]
  for call in calls[:2]:
    np.testing.assert_allclose(call["times"][:6], 2 * t / (1 + t), atol=1e-6)
  np.testing.assert_allclose(calls[2]["times"][:3], [1, 0.5, 0])


def test_noise_is_by_the_place_in_the_request_not_in_a_group_of_one_size():
  sizes = [(64, 64), (64, 96), (64, 64), (64, 96), (64, 64)]
  pictures = [small.picture(i, *n) for i, n in enumerate(sizes)]
  s = small.session()
  config = s.config | {"data": s.config["data"] | {"native": True}}
  native = build_session.session(config, s.params, "native", 0, batch=4)
  with remembered() as calls:
    native.edit(pictures, ["do"] * 5, seed=3)
  used = {call["grid"]: call["keys"] for call in calls}
  places = {(2, 2): [0, 2, 4, 4], (2, 3): [1, 3]}  # the last fills the chunk
  assert used == {
    grid: [key_of(3, "editing", i) for i in at] for grid, at in places.items()
  }


def test_streams_stand_for_places():
  """Of drawings and edits in groups of a size; a sample keeps its own."""
  names = [7, 2**32 - 1, 0, 40]
  s = small.session()
  with remembered() as calls:
    s.draw(["red"] * 4, seed=2, streams=names)
    s.draw(["red"] * 2, seed=2, streams=names[2:])
  assert calls[0]["keys"] == [key_of(2, "drawing", i) for i in names]
  assert calls[1]["keys"] == [key_of(2, "drawing", i) for i in names[2:]]
  sizes = [(64, 64), (64, 96), (64, 64), (64, 96)]
  pictures = [small.picture(i, *n) for i, n in enumerate(sizes)]
  config = s.config | {"data": s.config["data"] | {"native": True}}
  native = build_session.session(config, s.params, "native", 0, batch=4)
  with remembered() as calls:
    native.edit(pictures, ["do"] * 4, seed=3, streams=names)
  used = {call["grid"]: call["keys"] for call in calls}
  assert used == {
    (2, 2): [key_of(3, "editing", i) for i in (7, 0)],
    (2, 3): [key_of(3, "editing", i) for i in (2**32 - 1, 40)],
  }


@pytest.mark.parametrize(
  "streams, message",
  [
    ([1], "1 streams for 2 samples"),
    ([1, -1], "stream -1 is not in 0..4294967295"),
    ([2**32, 1], "stream 4294967296 is not in"),
    ([1.5, 1], "stream 1.5 is not in"),
  ],
)
def test_streams_that_cannot_be_are_refused(streams, message):
  s = small.session()
  for sample in (
    lambda: s.draw(["red"] * 2, streams=streams),
    lambda: s.ask([[], []], [["a"], ["b"]], streams=streams),
    lambda: s.edit([small.picture(0)] * 2, ["do"] * 2, streams=streams),
  ):
    with pytest.raises(context.SampleError, match=message):
      sample()


def test_an_answer_is_drawn_by_its_stream():
  """At a temperature, whatever else is asked beside it."""
  s = small.session()
  ask = lambda n, streams: s.ask(
    [[]] * n, [["what?"]] * n, max_tokens=8, temperature=3.0, streams=streams
  )
  first, second, again = ask(3, [5, 6, 5])
  assert first == again != second
  assert ask(2, [6, 5]) == [second, first]


def test_noise_of_further_chunks_goes_on_counting():
  with remembered() as calls:
    small.session().draw(["red"] * 6, seed=2)
  assert [c["keys"] for c in calls] == [
    [key_of(2, "drawing", i) for i in at] for at in ((0, 1, 2, 3), (4, 5))
  ]


def test_no_two_of_seed_task_and_number_share_noise():
  """Seeds and numbers were added once: n + 1 of seed 0 was n of seed 1."""
  keys = [
    tuple(map(int, key))
    for seed in range(6)
    for task in ("drawing", "editing", "understanding")
    for key in jax.random.key_data(context.keys(seed, task, range(40)))
  ]
  assert len(set(keys)) == len(keys) == 6 * 3 * 40


@pytest.mark.parametrize("seed", [0, 5])
def test_noise_is_normal_and_by_key_alone(seed: int):
  """Of two equal keys equal, of others independent, of unit deviation."""
  keys = context.keys(seed, "drawing", [0, 1, 0])
  noise = []

  def integrate(velocity, x, times, steps):
    noise.append(x)
    return x

  with mock.patch.object(image, "integrate", integrate):
    cache = mock.Mock()
    cache.ids.segment = np.zeros((3, 2), np.int32)
    image.sample_latents.__wrapped__(
      small.session().emma, {}, cache, np.ones(1), keys, None, 1, (20, 20)
    )
  a, b, c = np.asarray(noise[0])
  np.testing.assert_array_equal(a, c)
  assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.06
  assert abs(a.std() - 1) < 0.06 and abs(a.mean()) < 0.06
