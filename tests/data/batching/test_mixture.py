"""Shares are exact, the plan is a function of the step alone."""

import collections

import pytest

from emma_jax.data.batching.mixture import Mixture, Phase
from tests import neutral


def _mixture(*phases: Phase, n: int = 6, shuffled=(), lengths=None) -> Mixture:
  return Mixture(
    phases=phases,
    samples_per_batch=n,
    seed=3,
    shuffled=frozenset(shuffled),
    lengths=lengths or {"a": 10, "b": 1000, "c": 7},
  )


def _names(mixture: Mixture, steps: range) -> list[str]:
  return [d.name for s in steps for d in mixture.batch_plan(s)]


def test_equal_shares_alternate():
  mixture = _mixture(neutral.phase({"a": 1, "b": 1, "c": 1}))
  assert _names(mixture, range(1)) == list("abcabc")


@pytest.mark.parametrize(
  "weights",
  [
    {"a": 0.7, "b": 0.3},
    {"a": 2, "b": 1, "c": 0.5},
    {"a": 0.333, "b": 0.333, "c": 0.334},
    {"a": 97, "b": 2, "c": 1},
  ],
)
def test_every_count_stays_within_one_of_its_share(weights):
  mixture = _mixture(neutral.phase(weights), n=7)
  total = sum(weights.values())
  counts = collections.Counter()
  for i, name in enumerate(_names(mixture, range(300)), start=1):
    counts[name] += 1
    for other, weight in weights.items():
      assert abs(counts[other] - i * weight / total) < 1 + 1e-9


def test_another_seed_reads_another_stretch():
  first = [
    Mixture(
      phases=(neutral.phase({"a": 1}),),
      lengths={"a": 10**9},
      seed=seed,
      shuffled=frozenset(),
      samples_per_batch=1,
    )
    .batch_plan(0)[0]
    .index
    for seed in range(3)
  ]
  assert first[0] == 0 and len(set(first)) == 3


def test_elements_follow_each_other_across_phases():
  mixture = _mixture(
    neutral.phase({"b": 1}, steps=2),
    neutral.phase({"a": 1, "b": 2}, steps=3),
    neutral.phase({"b": 1, "c": 1}),
  )
  seen = [d for s in range(9) for d in mixture.batch_plan(s)]
  for name in "abc":
    own = [d for d in seen if d.name == name]
    length = mixture.lengths[name]
    first = own[0].index if own else 0  # where the seed says
    assert [d.index for d in own] == [
      (first + i) % length for i in range(len(own))
    ]
    assert [d.epoch for d in own] == [i // length for i in range(len(own))]
  assert collections.Counter(d.name for d in seen[:12]) == {"b": 12}
  assert collections.Counter(d.name for d in seen[12:30]) == {"a": 6, "b": 12}
  assert collections.Counter(d.name for d in seen[30:]) == {"b": 12, "c": 12}


def test_every_epoch_is_a_new_permutation():
  mixture = _mixture(neutral.phase({"a": 1, "c": 1}), n=70, shuffled="ac")
  orders = collections.defaultdict(list)
  for step in range(4):
    for d in mixture.batch_plan(step):
      orders[d.name, d.epoch].append(d.index)
  assert all(sorted(orders["a", e]) == list(range(10)) for e in range(14))
  assert all(sorted(orders["c", e]) == list(range(7)) for e in range(20))
  assert len({tuple(orders["a", e]) for e in range(14)}) == 14


def test_the_plan_does_not_depend_on_what_was_asked_before():
  phases = neutral.phase({"a": 1, "b": 3}, steps=5), neutral.phase({"c": 1})
  forward = _mixture(*phases, shuffled="abc")
  plans = [forward.batch_plan(s) for s in range(12)]
  again = _mixture(*phases, shuffled="abc")
  assert [again.batch_plan(s) for s in reversed(range(12))] == plans[::-1]


def test_mistakes_are_named():
  for weights, match in (({}, "at least one"), ({"a": 0}, r"weights\['a'\]=0")):
    with pytest.raises(ValueError, match=match):
      neutral.phase(weights)
  with pytest.raises(ValueError, match="steps=0"):
    neutral.phase({"a": 1}, steps=0)
  with pytest.raises(ValueError, match="names the source 'x'"):
    _mixture(neutral.phase({"x": 1}))
  with pytest.raises(ValueError, match="no `steps`"):
    _mixture(neutral.phase({"a": 1}), neutral.phase({"b": 1}))
  with pytest.raises(ValueError, match="is empty"):
    _mixture(neutral.phase({"a": 1}), lengths={"a": 0})
  with pytest.raises(ValueError, match="rounder"):
    _mixture(neutral.phase({"a": 0.1234567, "b": 1})).batch_plan(0)
