import itertools
import math

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest
import scipy.stats

from emma_jax import stats

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
  # But for one degree of freedom, of 1,200 items and of 300.
  assert four.design_effect == pytest.approx(
    4 * once.design_effect * (1199 / 1200) / (299 / 300)
  )
  blind = stats.cluster_bootstrap(copies, seed=2)
  assert blind.standard_error == pytest.approx(
    once.standard_error / 2, rel=0.05
  )


def test_all_samples_of_a_small_set_by_brute_force():
  """2 of 3 clusters of unequal sizes: 9 draws, each as likely."""
  groups = [[0.0, 1.0], [1.0], [0.25, 0.5, 0.75]]
  values = [v for group in groups for v in group]
  clusters = [i for i, group in enumerate(groups) for _ in group]
  means = [
    np.mean([v for i in draw for v in groups[i]])
    for draw in itertools.product(range(3), repeat=2)
  ]
  got = stats.cluster_bootstrap(values, clusters, seed=0, replicates=100_000)
  assert got.standard_error == pytest.approx(np.std(means), rel=0.02)
  low, high = np.quantile(means, [0.025, 0.975], method="inverted_cdf")
  assert got.interval.low == pytest.approx(low)
  assert got.interval.high == pytest.approx(high)
  independent = np.var(values, ddof=1) / len(values)
  assert got.design_effect == pytest.approx(
    np.var(means) / independent, rel=0.04
  )


def test_small_strata_vary_as_much_as_their_mean_of_means():
  """Of 11 strata of 3 items each, as a category's rows can be."""
  rng = np.random.default_rng(8)
  strata = [i % 11 for i in range(33)]
  values, errors = [], []
  for seed in range(300):
    scores = rng.normal(size=33).tolist()
    found = stats.cluster_bootstrap(
      scores, strata=strata, seed=seed, replicates=300
    )
    values.append(found.value)
    errors.append(found.standard_error)
  root = math.sqrt(np.mean(np.square(errors)))
  assert root == pytest.approx(np.std(values), rel=0.1)


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
  monkeypatch.setattr(stats, "CHUNK", 700)
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
