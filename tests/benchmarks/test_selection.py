from hypothesis import given
from hypothesis import strategies as st
import pytest

from emma_jax.benchmarks.selection import Shard, limited

pytestmark = pytest.mark.smoke

GROUPS = st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=30)


@given(st.lists(st.text(), unique=True), st.integers(1, 7))
def test_every_item_is_exactly_one_shards(ids, count):
  for item in ids:
    assert sum(Shard(i, count).has(item) for i in range(count)) == 1


@given(GROUPS, st.integers(1, 40), st.randoms())
def test_a_limit_takes_whole_groups_whatever_the_order(groups, limit, rng):
  places = limited(groups, limit)
  taken = {groups[i] for i in places}
  assert [i for i, g in enumerate(groups) if g in taken] == places
  shuffled = rng.sample(groups, len(groups))
  assert {shuffled[i] for i in limited(shuffled, limit)} == taken
  assert len(places) <= limit or len(taken) == 1


@given(GROUPS, st.integers(1, 40), st.integers(0, 40))
def test_a_larger_limit_keeps_what_a_smaller_one_took(groups, limit, more):
  assert set(limited(groups, limit)) <= set(limited(groups, limit + more))


def test_no_limit_takes_all():
  assert limited(["a", "b", "a"], 0) == [0, 1, 2]


@pytest.mark.parametrize("index, count", [(1, 1), (-1, 2), (0, 0)])
def test_a_shard_that_cannot_be(index, count):
  with pytest.raises(ValueError, match="counts from 0"):
    Shard(index, count)
