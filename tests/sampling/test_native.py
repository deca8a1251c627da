"""Questions about pictures of native sizes; drawing keeps its one size."""

import functools

import numpy as np

from emma_jax.build import session as build_session
from emma_jax.sampling.session import Session
from tests.sampling import small


def _config(**data) -> dict:
  s = small.session()
  return s.config | {
    "data": s.config["data"]
    | {"native": True, "min_tokens": 1, "max_tokens": 9}
    | data
  }


@functools.cache
def _native() -> Session:
  return build_session.session(
    _config(), small.session().params, "native", 0, batch=4
  )


def test_a_picture_of_the_trained_size_gets_the_same_answer():
  pictures, turns = [[small.picture(0)], [small.picture(1)]], [["what?"]] * 2
  want = small.session().ask(pictures, turns, max_tokens=16)
  assert _native().ask(pictures, turns, max_tokens=16) == want
  assert want[0] != want[1]


def test_sizes_mix_in_a_conversation_and_in_a_request():
  """What else is asked, about pictures of whatever sizes, changes nothing."""
  large, little = small.picture(2, 90, 64), small.picture(3, 30, 32)
  both = ([large, little], ["<image>or<image>?"])
  ask = lambda *talks: _native().ask(*map(list, zip(*talks)), max_tokens=16)
  first, second, third = ask(
    ([small.picture(0)], ["what?"]), both, ([large], ["what?"])
  )
  assert ask(both) == [second] and first != third
  assert ask(([little, large], both[1])) != [second]


def test_only_what_was_trained_so_is_drawn_at_native_size():
  """A training on native questions edits in its one size, as without them."""
  picture = small.picture(5, 40, 70)
  edit = lambda s: s.edit([picture], ["do"], steps=1)[0]
  trained = build_session.session(
    _config() | {"stages": {"s": {"und_patches": 64}}},
    small.session().params,
    "trained",
    0,
    batch=4,
  )
  assert trained.requests.framing.understanding.native
  assert not trained.requests.framing.generation.native
  np.testing.assert_array_equal(edit(trained), edit(small.session()))
  assert _native().requests.framing.generation.native
