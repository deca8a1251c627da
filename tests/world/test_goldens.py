"""The world draws, says, reads and scores what it always has.

The reference's scores and the shipped weights refer to these samples.
"""

import pytest

from tests.goldens import store, world

pytestmark = pytest.mark.smoke


@pytest.fixture(scope="module")
def now() -> dict:
  return world.cases()


@pytest.mark.parametrize("case", store.read("world"))
def test_the_world_is_what_it_was(case, now):
  store.check("world", case, now[case], store.EXACT, world.KEPT)


def test_every_case_is_there(now):
  assert now.keys() == store.read("world").keys()


def test_scorers_tell_right_from_wrong():
  """The goldens hold both answers, and all truths are found."""
  for letters in store.read("world")["scored"].values():
    assert set(letters) == {"0", "1"} and set(letters[::3]) == {"1"}
