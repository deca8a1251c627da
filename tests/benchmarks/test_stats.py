import itertools
import math

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest
import scipy.stats

from emma_jax.benchmarks import stats

QUICK = settings(max_examples=50, deadline=None)


# ---------------------------------------------------------------- intervals


@pytest.mark.smoke
@pytest.mark.parametrize(
  "percent, count, low, high",
  [  # the paper's values on sets of the true size
    (88.0, 2500, 86.7, 89.2),  # ChartQA
    (89.0, 1000, 86.9, 90.8),  # OCRBench
    (85.8, 1164, 83.7, 87.7),  # MMBench dev, base questions
    (62.5, 900, 59.3, 65.6),  # MMMU
    (75.8, 1000, 73.0, 78.4),  # MathVista
    (83.9, 3088, 82.6, 85.2),  # AI2D
    (64.8, 1500, 62.3, 67.2),  # MMStar
    (73.0, 218, 66.7, 78.5),  # MM-Vet
  ],
)
def test_wilson_at_the_papers_values(percent, count, low, high):
  got = stats.wilson(percent / 100 * count, count)
  assert round(100 * got.low, 1) == low
  assert round(100 * got.high, 1) == high


def test_wilson_by_hand():
  # z = 1.959964: middle (.5 + z^2/20) / (1 + z^2/10) of 5 in 10.
  got = stats.wilson(5, 10)
  assert got.low == pytest.approx(0.236593090)
  assert got.high == pytest.approx(0.763406909)
  assert stats.wilson(0, 10) == stats.Interval(0, pytest.approx(0.277532799))
  assert stats.wilson(10, 10) == stats.Interval(pytest.approx(0.722467200), 1)


@QUICK
@given(st.integers(1, 5000), st.floats(0, 1), st.floats(0.5, 0.999))
def test_wilson_holds_the_share_and_is_symmetric(count, share, confidence):
  got = stats.wilson(share * count, count, confidence)
  assert 0 <= got.low <= share <= got.high <= 1
  back = stats.wilson(count - share * count, count, confidence)
  assert back.low == pytest.approx(1 - got.high, abs=1e-9)
  wider = stats.wilson(share * count, count, (1 + confidence) / 2)
  assert wider.low <= got.low + 1e-12 and wider.high >= got.high - 1e-12


def test_wilson_is_scipys():
  for k, n in [(0, 1), (3, 7), (500, 900), (2999, 3000)]:
    theirs = scipy.stats.binomtest(k, n).proportion_ci(method="wilson")
    ours = stats.wilson(k, n)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high))


@pytest.mark.parametrize("successes, count", [(0, 0), (-1, 5), (6, 5)])
def test_what_is_no_share(successes, count):
  with pytest.raises(ValueError, match="no share"):
    stats.wilson(successes, count)


def test_confidence_is_between_0_and_1():
  for confidence in (0.0, 1.0, 95):
    with pytest.raises(ValueError, match="between 0 and 1"):
      stats.wilson(1, 2, confidence)


def bernoulli(count: int, share: float, seed: int = 0) -> list[float]:
  return np.random.default_rng(seed).binomial(1, share, count).tolist()


def test_the_bootstrap_of_independent_items_is_wilsons_interval():
  values = bernoulli(1000, 0.7)
  got = stats.cluster_bootstrap(values, seed=1)
  wilson = stats.wilson(sum(values), len(values))
  assert got.value == pytest.approx(np.mean(values))
  assert got.interval.low == pytest.approx(wilson.low, abs=0.003)
  assert got.interval.high == pytest.approx(wilson.high, abs=0.003)
  error = np.std(values) / math.sqrt(1000)
  assert got.standard_error == pytest.approx(error, rel=0.03)
  assert got.design_effect == pytest.approx(1, rel=0.06)
  assert (got.items, got.clusters) == (1000, 1000)


def test_copies_of_an_item_are_one_item():
  values = bernoulli(300, 0.6)
  copies = [v for v in values for _ in range(4)]
  clusters = [i for i in range(300) for _ in range(4)]
  once = stats.cluster_bootstrap(values, seed=2)
  four = stats.cluster_bootstrap(copies, clusters, seed=2)
  assert four.interval == once.interval  # the same draws
  assert four.design_effect == pytest.approx(4 * once.design_effect)
  blind = stats.cluster_bootstrap(copies, seed=2)
  assert blind.standard_error == pytest.approx(
    once.standard_error / 2, rel=0.05
  )


def test_all_samples_of_a_small_set_by_brute_force():
  """3 clusters of unequal sizes: 27 draws, each as likely."""
  groups = [[0.0, 1.0], [1.0], [0.25, 0.5, 0.75]]
  values = [v for group in groups for v in group]
  clusters = [i for i, group in enumerate(groups) for _ in group]
  means = [
    np.mean([v for i in draw for v in groups[i]])
    for draw in itertools.product(range(3), repeat=3)
  ]
  got = stats.cluster_bootstrap(values, clusters, seed=0, replicates=100_000)
  assert got.standard_error == pytest.approx(np.std(means), rel=0.02)
  low, high = np.quantile(means, [0.025, 0.975], method="inverted_cdf")
  assert got.interval.low == pytest.approx(low)
  assert got.interval.high == pytest.approx(high)
  independent = np.var(values) / len(values)
  assert got.design_effect == pytest.approx(
    np.var(means) / independent, rel=0.04
  )


def test_the_mean_of_strata_is_made_anew_in_each_replicate():
  """GenEval: 80 prompts of one tag, 100 of another, weigh alike."""
  values = bernoulli(80 * 4, 0.95) + bernoulli(100 * 4, 0.4)
  tags = ["single"] * 320 + ["position"] * 400
  prompts = [i // 4 for i in range(720)]
  got = stats.cluster_bootstrap(values, prompts, tags, seed=3)
  means = np.mean(values[:320]), np.mean(values[320:])
  assert got.value == pytest.approx(np.mean(means))
  assert got.value != pytest.approx(np.mean(values), abs=0.01)
  error = math.sqrt(sum(m * (1 - m) / n for m, n in zip(means, (320, 400))))
  assert got.standard_error == pytest.approx(error / 2, rel=0.15)
  assert got.clusters == 180


def test_a_cluster_in_two_strata_is_an_error():
  with pytest.raises(ValueError, match="two strata"):
    stats.cluster_bootstrap([0, 1], ["a", "a"], ["x", "y"], seed=0)


@pytest.mark.parametrize(
  "values, clusters, message",
  [
    ([], None, "must be a list of numbers"),
    ([0.0, math.nan], None, "NaN or infinite"),
    ([0.0, 1.0], ["a"], "1 clusters for 2 scores"),
  ],
)
def test_what_cannot_be_resampled(values, clusters, message):
  with pytest.raises(ValueError, match=message):
    stats.cluster_bootstrap(values, clusters, seed=0)


def test_seeds_decide_and_chunks_do_not_matter(monkeypatch):
  values, clusters = bernoulli(60, 0.5), [i // 3 for i in range(60)]
  run = lambda seed: stats.cluster_bootstrap(values, clusters, seed=seed)
  assert run(1) == run(1)
  assert run(1) != run(2)
  whole = run(1)
  monkeypatch.setattr(stats, "_CHUNK", 700)
  assert run(1) == whole


def test_scores_that_do_not_vary_are_certain():
  got = stats.cluster_bootstrap([0.1] * 30, [i // 3 for i in range(30)], seed=0)
  assert got.standard_error == 0
  assert got.design_effect == 1
  assert got.interval.low == pytest.approx(0.1)
  assert got.interval.high == pytest.approx(0.1)


@QUICK
@given(
  st.lists(st.tuples(st.floats(0, 10), st.integers(0, 5)), min_size=1),
  st.integers(0, 9),
)
def test_an_interval_lies_within_the_scores(pairs, seed):
  values, clusters = zip(*pairs)
  got = stats.cluster_bootstrap(values, clusters, seed=seed, replicates=200)
  assert min(values) - 1e-9 <= got.interval.low <= got.interval.high
  assert got.interval.high <= max(values) + 1e-9
  shifted = stats.cluster_bootstrap(
    [v + 1 for v in values], clusters, seed=seed, replicates=200
  )
  assert shifted.value == pytest.approx(got.value + 1)
  assert shifted.interval.low == pytest.approx(got.interval.low + 1)


# -------------------------------------------------------------------- tests


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
  assert stats.mcnemar(only_a, only_b) == p


def test_mcnemar_is_scipys_binomial_test():
  for a, b in [(3, 14), (120, 170), (2000, 2100), (0, 3000)]:
    theirs = scipy.stats.binomtest(a, a + b, 0.5).pvalue
    assert stats.mcnemar(a, b) == pytest.approx(theirs, rel=1e-9)


@QUICK
@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_is_symmetric_and_falls_with_the_gap(a, b):
  p = stats.mcnemar(a, b)
  assert 0 < p <= 1
  assert stats.mcnemar(b, a) == p
  high, low = max(a, b), min(a, b)
  assert stats.mcnemar(high + 1, low) <= p


def test_mcnemar_refuses_negative_counts():
  with pytest.raises(ValueError, match="negative"):
    stats.mcnemar(-1, 3)


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
  got = stats.permutation(differences, seed=0)
  assert got == pytest.approx(flips(differences))


def test_flips_by_clusters_within_strata():
  differences = [0.5, 0.25, -0.25, 1.0, 0.5, 0.0]
  clusters = ["a", "a", "b", "c", "c", "d"]
  strata = ["x", "x", "x", "y", "y", "y"]
  # Means of strata: sums over 3 items, averaged over 2 strata.
  shares = [0.75 / 6, -0.25 / 6, 1.5 / 6]
  got = stats.permutation(differences, clusters, strata, seed=0)
  assert got == pytest.approx(flips(shares))


def test_on_single_0_1_items_permutation_is_mcnemar():
  differences = [1.0] * 9 + [-1.0] * 2 + [0.0] * 50
  assert stats.permutation(differences, seed=0) == pytest.approx(
    stats.mcnemar(2, 9)
  )
  many = [1.0] * 60 + [-1.0] * 40
  assert stats.permutation(many, seed=0) == pytest.approx(
    stats.mcnemar(40, 60), abs=0.01
  )


def test_a_p_is_never_zero_and_one_without_differences():
  assert stats.permutation([1.0] * 500, seed=0) == 1 / 10_001
  assert stats.permutation([0.0] * 500, seed=0) == 1


def test_under_no_difference_p_is_uniform():
  rng = np.random.default_rng(0)
  found = [
    stats.permutation(rng.normal(size=30), seed=i, replicates=400)
    for i in range(300)
  ]
  assert np.mean(np.array(found) <= 0.05) == pytest.approx(0.05, abs=0.035)
  assert np.mean(found) == pytest.approx(0.5, abs=0.05)


def test_permutations_have_seeds_and_chunks_do_not_matter(monkeypatch):
  differences = np.random.default_rng(1).normal(0.2, 1, 40).tolist()
  run = lambda seed: stats.permutation(differences, seed=seed)
  whole = run(5)
  assert run(6) != whole
  assert run(6) == pytest.approx(whole, abs=0.02)
  monkeypatch.setattr(stats, "_CHUNK", 640)
  assert run(5) == pytest.approx(whole, abs=0.02)


def test_only_common_items_are_compared():
  both = stats.pair({"a": 1, "b": 0, "c": 1}, {"b": 1, "c": 1, "d": 0, "e": 0})
  assert both.ids == ("b", "c")
  assert both.a.tolist() == [0, 1] and both.b.tolist() == [1, 1]
  assert (both.only_a, both.only_b) == (1, 2)
  with pytest.raises(ValueError, match="no item in common"):
    stats.pair({"a": 1}, {"b": 1})


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
  got = stats.compare(a, b, seed=0)
  assert got.test == "mcnemar"
  assert got.p == stats.mcnemar(20, 4)
  assert got.difference.value == pytest.approx(16 / 200)
  assert got.difference.interval.low > 0
  assert got.needed is None  # it is decided
  back = stats.compare(b, a, seed=0)
  assert back.p == got.p
  assert back.difference.value == -got.difference.value


def test_clusters_strata_and_other_scores_are_compared_by_permutation():
  a, b = runs(200, better=20, worse=4)
  clusters = {name: int(name) // 4 for name in a}
  strata = {name: int(name) // 100 for name in a}
  assert stats.compare(a, b, clusters, seed=0).test == "permutation"
  assert stats.compare(a, b, None, strata, seed=0).test == "permutation"
  half = {name: score / 2 for name, score in a.items()}
  assert stats.compare(half, b, seed=0).test == "permutation"
  one = dict.fromkeys(a, "x")
  assert stats.compare(a, b, None, one, seed=0).test == "mcnemar"


def test_an_undecided_difference_says_how_many_items_it_takes():
  a, b = runs(900, better=29, worse=25)
  got = stats.compare(a, b, seed=0)
  assert got.p > 0.5
  assert got.needed is not None and got.needed > 10_000
  same = stats.compare(a, a, seed=0)
  assert (same.p, same.needed) == (1.0, None)


def test_the_papers_gain_of_half_a_point_on_mmmu_is_not_resolvable():
  """4.5 of 900 questions, at 6% that differ: z = 0.6."""
  difference, deviation = 0.005, math.sqrt(0.06 - 0.005**2)
  z = difference / (deviation / math.sqrt(900))
  assert z == pytest.approx(0.6, abs=0.02)
  needed = stats.needed_items(difference, deviation)
  assert needed == math.ceil(((1.959964 + 0.841621) * deviation / 0.005) ** 2)
  assert 18_000 < needed < 20_000


def test_how_many_items():
  # (1.96 + 0.84)^2 = 7.85 at one standard deviation.
  assert stats.needed_items(1.0, 1.0) == 8
  assert stats.needed_items(-0.5, 1.0) == 32
  assert stats.needed_items(0.0, 1.0) is None
  assert stats.needed_items(0.1, 0.0) == 1
  assert stats.needed_items(1.0, 1.0, power=0.99) > 8
  for power in (0.0, 1.0):
    with pytest.raises(ValueError, match="out of range"):
      stats.needed_items(1.0, 1.0, power=power)


def test_the_needed_items_do_find_it():
  """Of sets of that size, four in five show the difference."""
  share, difference = 0.1, 0.05
  deviation = math.sqrt(share - difference**2)
  count = stats.needed_items(difference, deviation)
  assert count is not None
  better, worse = (share + difference) / 2, (share - difference) / 2
  rng = np.random.default_rng(0)
  drawn = rng.multinomial(count, [better, worse, 1 - share], 400)
  found = [stats.mcnemar(a, b) <= 0.05 for a, b in drawn[:, :2].tolist()]
  assert np.mean(found) == pytest.approx(0.8, abs=0.07)


def test_holm_by_hand():
  got = stats.holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})
  assert got == pytest.approx({"d": 0.02, "a": 0.03, "c": 0.06, "b": 0.06})
  assert list(got) == ["a", "b", "c", "d"]
  assert stats.holm({"a": 0.6, "b": 0.7}) == {"a": 1.0, "b": 1.0}
  assert stats.holm({}) == {}
  with pytest.raises(ValueError, match="not in 0..1"):
    stats.holm({"a": 1.5})


@QUICK
@given(st.dictionaries(st.text(max_size=3), st.floats(0, 1), min_size=1))
def test_holm_lies_between_p_and_bonferroni_and_keeps_the_order(p_values):
  got = stats.holm(p_values)
  for name, p in p_values.items():
    assert p <= got[name] <= min(1.0, len(p_values) * p) + 1e-12
    for other, q in p_values.items():
      assert p > q or got[name] <= got[other]


# --------------------------------------------------------------------- gate

YARDSTICK = {"impl": "original", "judge": "gpt-4.1", "data": "sha"}


def gate(new, old, margin=0.01, yardsticks=(YARDSTICK, dict(YARDSTICK))):
  return stats.gate(new, old, yardsticks, margin=margin, seed=0)


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
  with pytest.raises(stats.ChangedYardstick, match=message):
    gate(new, old, yardsticks=(YARDSTICK | changed, YARDSTICK))


def test_other_items_are_another_yardstick():
  old, new = runs(100, better=5, worse=0)
  del new["0000"]
  with pytest.raises(stats.ChangedYardstick, match="0 are new, 1 are gone"):
    gate(new, old)
  with pytest.raises(ValueError, match="must not be negative"):
    gate(old, old, margin=-0.1)


def test_a_gate_by_clusters_is_wider():
  old, new = runs(400, better=0, worse=8)
  clusters = {name: int(name) // 8 for name in old}
  both = (YARDSTICK, YARDSTICK)
  alone = stats.gate(new, old, both, margin=0.005, seed=0)
  grouped = stats.gate(new, old, both, clusters, margin=0.005, seed=0)
  assert not alone.passed  # eight items that got worse
  assert grouped.passed  # one document
