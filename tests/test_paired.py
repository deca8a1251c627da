import itertools
import math

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest
import scipy.stats

from emma_jax import paired

QUICK = settings(max_examples=50, deadline=None)


# -------------------------------------------------------------------- tests


@pytest.mark.smoke
@pytest.mark.parametrize(
  "only_a, only_b, p",
  [
    (0, 0, 1.0),
    (1, 0, 1.0),
    (5, 0, 2 / 32),
    (0, 6, 2 / 64),
    (1, 8, 2 * 10 / 512),
    (2, 8, 2 * 56 / 1024),
    (5, 5, 1.0),
  ],
)
def test_mcnemar_by_hand(only_a, only_b, p):
  assert paired.mcnemar(only_a, only_b) == p


def test_mcnemar_is_scipys_binomial_test():
  for a, b in [(3, 14), (120, 170), (2000, 2100), (0, 3000)]:
    theirs = scipy.stats.binomtest(a, a + b, 0.5).pvalue
    assert paired.mcnemar(a, b) == pytest.approx(theirs, rel=1e-9)


@QUICK
@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_is_symmetric_and_falls_with_the_gap(a, b):
  p = paired.mcnemar(a, b)
  assert 0 < p <= 1
  assert paired.mcnemar(b, a) == p
  high, low = max(a, b), min(a, b)
  assert paired.mcnemar(high + 1, low) <= p


def test_mcnemar_refuses_negative_counts():
  with pytest.raises(ValueError, match="negative"):
    paired.mcnemar(-1, 3)


def flips(shares: list[float]) -> float:
  """All sign flips, one by one."""
  seen = abs(sum(shares)) - 1e-12
  sums = [
    abs(sum(s * x for s, x in zip(signs, shares)))
    for signs in itertools.product([1, -1], repeat=len(shares))
  ]
  return float(np.mean([x >= seen for x in sums]))


@QUICK
@given(
  st.lists(st.integers(-4, 4).map(lambda x: x / 4), min_size=1, max_size=8)
)
def test_few_clusters_are_flipped_in_all_ways(differences):
  got = paired.permutation(differences, seed=0)
  assert got == pytest.approx(flips(differences))


def test_flips_by_clusters_within_strata():
  differences = [0.5, 0.25, -0.25, 1.0, 0.5, 0.0]
  clusters = ["a", "a", "b", "c", "c", "d"]
  strata = ["x", "x", "x", "y", "y", "y"]
  # Means of strata: sums over 3 items, averaged over 2 strata.
  shares = [0.75 / 6, -0.25 / 6, 1.5 / 6]
  got = paired.permutation(differences, clusters, strata, seed=0)
  assert got == pytest.approx(flips(shares))


def test_on_single_0_1_items_permutation_is_mcnemar():
  differences = [1.0] * 9 + [-1.0] * 2 + [0.0] * 50
  assert paired.permutation(differences, seed=0) == pytest.approx(
    paired.mcnemar(2, 9)
  )
  many = [1.0] * 60 + [-1.0] * 40
  assert paired.permutation(many, seed=0) == pytest.approx(
    paired.mcnemar(40, 60), abs=0.01
  )


def test_a_p_is_never_zero_and_one_without_differences():
  assert paired.permutation([1.0] * 500, seed=0) == 1 / 10_001
  assert paired.permutation([0.0] * 500, seed=0) == 1


def test_under_no_difference_p_is_uniform():
  rng = np.random.default_rng(0)
  found = [
    paired.permutation(rng.normal(size=30), seed=i, replicates=400)
    for i in range(300)
  ]
  assert np.mean(np.array(found) <= 0.05) == pytest.approx(0.05, abs=0.035)
  assert np.mean(found) == pytest.approx(0.5, abs=0.05)


def test_permutations_have_seeds_and_chunks_do_not_matter(monkeypatch):
  differences = np.random.default_rng(1).normal(0.2, 1, 40).tolist()
  run = lambda seed: paired.permutation(differences, seed=seed)
  whole = run(5)
  assert run(6) != whole
  assert run(6) == pytest.approx(whole, abs=0.02)
  monkeypatch.setattr(paired, "CHUNK", 640)
  assert run(5) == pytest.approx(whole, abs=0.02)


def test_only_common_items_are_compared():
  both = paired.pair({"a": 1, "b": 0, "c": 1}, {"b": 1, "c": 1, "d": 0, "e": 0})
  assert both.ids == ("b", "c")
  assert both.a.tolist() == [0, 1] and both.b.tolist() == [1, 1]
  assert (both.only_a, both.only_b) == (1, 2)
  with pytest.raises(ValueError, match="no item in common"):
    paired.pair({"a": 1}, {"b": 1})


def runs(count: int, better: int, worse: int) -> tuple[dict, dict]:
  """Two runs that differ in `better` and `worse` items, by b."""
  names = [f"{i:04}" for i in range(count)]
  a = {name: float(i < worse or i % 2) for i, name in enumerate(names)}
  b = dict(a)
  for name in [n for n in names if not a[n]][:better]:
    b[name] = 1.0
  for name in names[:worse]:
    b[name] = 0.0
  return a, b


def test_runs_of_zeros_and_ones_are_compared_by_mcnemar():
  a, b = runs(200, better=20, worse=4)
  got = paired.compare(a, b, seed=0)
  assert got.test == "mcnemar"
  assert got.p == paired.mcnemar(20, 4)
  assert got.difference.value == pytest.approx(16 / 200)
  assert got.difference.interval.low > 0
  assert got.needed is None  # it is decided
  back = paired.compare(b, a, seed=0)
  assert back.p == got.p
  assert back.difference.value == -got.difference.value


def test_clusters_strata_and_other_scores_are_compared_by_permutation():
  a, b = runs(200, better=20, worse=4)
  clusters = {name: int(name) // 4 for name in a}
  strata = {name: int(name) // 100 for name in a}
  assert paired.compare(a, b, clusters, seed=0).test == "permutation"
  assert paired.compare(a, b, None, strata, seed=0).test == "permutation"
  half = {name: score / 2 for name, score in a.items()}
  assert paired.compare(half, b, seed=0).test == "permutation"
  one = dict.fromkeys(a, "x")
  assert paired.compare(a, b, None, one, seed=0).test == "mcnemar"


def test_an_undecided_difference_says_how_many_items_it_takes():
  a, b = runs(900, better=29, worse=25)
  got = paired.compare(a, b, seed=0)
  assert got.p > 0.5
  assert got.needed is not None and got.needed > 10_000
  same = paired.compare(a, a, seed=0)
  assert (same.p, same.needed) == (1.0, None)


def test_the_papers_gain_of_half_a_point_on_mmmu_is_not_resolvable():
  """4.5 of 900 questions, at 6% that differ: z = 0.6."""
  difference, deviation = 0.005, math.sqrt(0.06 - 0.005**2)
  z = difference / (deviation / math.sqrt(900))
  assert z == pytest.approx(0.6, abs=0.02)
  needed = paired.needed_items(difference, deviation)
  assert needed == math.ceil(((1.959964 + 0.841621) * deviation / 0.005) ** 2)
  assert 18_000 < needed < 20_000


def test_how_many_items():
  # (1.96 + 0.84)^2 = 7.85 at one standard deviation.
  assert paired.needed_items(1.0, 1.0) == 8
  assert paired.needed_items(-0.5, 1.0) == 32
  assert paired.needed_items(0.0, 1.0) is None
  assert paired.needed_items(0.1, 0.0) == 1
  assert paired.needed_items(1.0, 1.0, power=0.99) > 8
  for power in (0.0, 1.0):
    with pytest.raises(ValueError, match="out of range"):
      paired.needed_items(1.0, 1.0, power=power)


def test_the_needed_items_do_find_it():
  """Of sets of that size, four in five show the difference."""
  share, difference = 0.1, 0.05
  deviation = math.sqrt(share - difference**2)
  count = paired.needed_items(difference, deviation)
  assert count is not None
  better, worse = (share + difference) / 2, (share - difference) / 2
  rng = np.random.default_rng(0)
  drawn = rng.multinomial(count, [better, worse, 1 - share], 400)
  found = [paired.mcnemar(a, b) <= 0.05 for a, b in drawn[:, :2].tolist()]
  assert np.mean(found) == pytest.approx(0.8, abs=0.07)


def test_holm_by_hand():
  got = paired.holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})
  assert got == pytest.approx({"d": 0.02, "a": 0.03, "c": 0.06, "b": 0.06})
  assert list(got) == ["a", "b", "c", "d"]
  assert paired.holm({"a": 0.6, "b": 0.7}) == {"a": 1.0, "b": 1.0}
  assert paired.holm({}) == {}
  with pytest.raises(ValueError, match="not in 0..1"):
    paired.holm({"a": 1.5})


@QUICK
@given(st.dictionaries(st.text(max_size=3), st.floats(0, 1), min_size=1))
def test_holm_lies_between_p_and_bonferroni_and_keeps_the_order(p_values):
  got = paired.holm(p_values)
  for name, p in p_values.items():
    assert p <= got[name] <= min(1.0, len(p_values) * p) + 1e-12
    for other, q in p_values.items():
      assert p > q or got[name] <= got[other]


# --------------------------------------------------------------------- gate

YARDSTICK = {"impl": "original", "judge": "gpt-4.1", "data": "sha"}


def gate(new, old, margin=0.01, yardsticks=(YARDSTICK, dict(YARDSTICK))):
  return paired.gate(new, old, yardsticks, margin=margin, seed=0)


def test_a_run_that_is_worse_for_sure_fails():
  old, new = runs(1000, better=5, worse=120)
  got = gate(new, old)
  assert got.difference.value == pytest.approx(-0.115)
  assert not got.passed
  assert gate(new, old, margin=0.2).passed
  assert gate(old, new).passed


def test_a_small_loss_and_one_that_is_not_decided_pass():
  old, new = runs(1000, better=100, worse=104)
  assert gate(new, old).passed
  assert gate(new, old, margin=0.0).passed
  old, new = runs(20, better=1, worse=3)
  assert gate(new, old).passed


@pytest.mark.parametrize(
  "changed, message",
  [
    ({"judge": "gpt-4o"}, "judge: 'gpt-4o', was 'gpt-4.1'"),
    ({"prompt": "x"}, "prompt: 'x', was 'absent'"),
  ],
)
def test_a_changed_yardstick_is_an_error_not_a_pass(changed, message):
  old, new = runs(100, better=5, worse=0)
  with pytest.raises(paired.ChangedYardstick, match=message):
    gate(new, old, yardsticks=(YARDSTICK | changed, YARDSTICK))


def test_other_items_are_another_yardstick():
  old, new = runs(100, better=5, worse=0)
  del new["0000"]
  with pytest.raises(paired.ChangedYardstick, match="0 are new, 1 are gone"):
    gate(new, old)
  with pytest.raises(ValueError, match="is not a number from 0 on"):
    gate(old, old, margin=-0.1)


def test_a_gate_by_clusters_is_wider():
  old, new = runs(400, better=0, worse=8)
  clusters = {name: int(name) // 8 for name in old}
  both = (YARDSTICK, YARDSTICK)
  alone = paired.gate(new, old, both, margin=0.005, seed=0)
  grouped = paired.gate(new, old, both, clusters, margin=0.005, seed=0)
  assert not alone.passed  # eight items that got worse
  assert grouped.passed  # one document
