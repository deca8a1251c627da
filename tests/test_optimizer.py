"""Schedules have their values; clipping sees the trained part only."""

import doctest

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from emma_jax import optimizer, rules
from tests import neutral


def config(**changes) -> optimizer.OptimizerConfig:
  base = dict(learning_rate=0.1, total_steps=110, warmup_steps=10)
  return neutral.optimizer_config(**(base | changes))


def test_docstrings():
  assert doctest.testmod(optimizer).failed == 0


@pytest.mark.parametrize(
  "name, middle, end",
  [("constant", 0.1, 0.1), ("linear", 0.06, 0.02), ("cosine", 0.06, 0.02)],
)
def test_schedule_values(name: str, middle: float, end: float):
  rate = jax.jit(optimizer.schedule(config(schedule=name, final_ratio=0.2)))
  steps = (0, 4, 9, 10, 60, 110, 500)
  wanted = (0.01, 0.05, 0.1, 0.1, middle, end, end)
  np.testing.assert_allclose([rate(s) for s in steps], wanted, rtol=1e-6)


@pytest.mark.parametrize(
  "changes, word",
  [
    (dict(schedule="stairs"), "stairs"),
    (dict(warmup_steps=111), "warmup_steps=111"),
    (dict(total_steps=0, warmup_steps=0), "total_steps=0"),
    (dict(learning_rate=-1.0), "learning_rate=-1.0"),
    (dict(learning_rate=float("nan")), "learning_rate=nan"),
    (dict(clip_norm=float("inf")), "clip_norm=inf"),
    (dict(eps=0.0), "eps=0.0"),
    (dict(b2=float("nan")), "b2=nan"),
  ],
)
def test_bad_configs_name_the_value(changes: dict, word: str):
  with pytest.raises(ValueError, match=word):
    config(**changes)


def step(transform, params, grads):
  updates, _ = transform.update(grads, transform.init(params), params)
  return updates


def test_clipping_sees_only_the_trained_part():
  params = {"a": {"w": jnp.zeros(2)}, "b": {"w": jnp.zeros(2)}}
  grads = {"a": {"w": jnp.array([3.0, 4.0])}, "b": {"w": jnp.full(2, 1e6)}}
  trained, _ = rules.split(params, lambda path: path == "a/w")
  chosen, _ = rules.split(grads, lambda path: path == "a/w")
  # Adam hides the scale of a gradient from its first update but not from its
  # first moment: 0.1 times the clipped gradient.
  transform = optimizer.build(config(clip_norm=1.0), {"a/w": 1.0})
  _, state = transform.update(chosen, transform.init(trained), trained)
  (moment,) = jax.tree.leaves(optax.tree_utils.tree_get(state, "mu"))
  np.testing.assert_allclose(moment, [0.06, 0.08], rtol=1e-6)
  _, state = optimizer.build(config(clip_norm=0.0), {"a/w": 1.0}).update(
    chosen, transform.init(trained), trained
  )
  (moment,) = jax.tree.leaves(optax.tree_utils.tree_get(state, "mu"))
  np.testing.assert_allclose(moment, [0.3, 0.4], rtol=1e-6)


def test_multipliers_scale_the_update_of_their_paths():
  params = {"a": jnp.ones(3), "b": jnp.ones(3)}
  updates = step(
    optimizer.build(config(), [("a", 1.0), (".*", 0.5)]), params, params
  )
  np.testing.assert_allclose(updates["b"], 0.5 * updates["a"], rtol=1e-6)
  np.testing.assert_allclose(updates["a"], -0.01, rtol=1e-5)


def test_multipliers_are_total_and_live():
  params = {"a": jnp.ones(3), "b": jnp.ones(3)}
  with pytest.raises(KeyError, match="b"):
    optimizer.build(config(), {"a": 1.0}).init(params)
  with pytest.raises(rules.RuleError, match="b"):
    optimizer.build(config(), [("a", 1.0)]).init(params)
  with pytest.raises(rules.RuleError, match="c"):
    optimizer.build(config(), [("a|b", 1.0), ("c", 1.0)]).init(params)


def test_decay_is_decoupled_and_spares_vectors():
  params = {
    "kernel": jnp.ones((2, 2)),
    "attn_norm": {"scale": jnp.ones((3, 2))},  # a stack of three layers
    "q_norm": jnp.ones((3, 2)),
    "bias": jnp.ones(2),
  }
  zero = jax.tree.map(jnp.zeros_like, params)
  one = {path: 1.0 for path in rules.flatten(params)}
  updates = step(optimizer.build(config(weight_decay=0.5), one), params, zero)
  np.testing.assert_allclose(updates.pop("kernel"), -0.01 * 0.5, rtol=1e-6)
  assert all(not np.any(u) for u in jax.tree.leaves(updates))


def test_jitted_update_keeps_the_structure():
  params = {"a": {"w": jnp.ones((2, 2))}}
  transform = optimizer.build(config(weight_decay=0.1), [(".*", 1.0)])
  state = transform.init(params)
  updates, new = jax.jit(transform.update)(params, state, params)
  assert jax.tree.structure(new) == jax.tree.structure(state)
  assert jax.tree.structure(updates) == jax.tree.structure(params)


def test_ema_warms_up_then_averages():
  ema, params = {"w": jnp.zeros(1)}, {"w": jnp.ones(1)}
  first = optimizer.ema_update(ema, params, 0.999, 0)
  np.testing.assert_allclose(first["w"], 0.9, rtol=1e-6)  # keeps 1 / 10
  late = optimizer.ema_update(ema, params, 0.999, 10**6)
  np.testing.assert_allclose(late["w"], 0.001, rtol=1e-3)
  low = optimizer.ema_update(
    {"w": jnp.zeros(1, jnp.float32)}, {"w": jnp.ones(1, jnp.bfloat16)}, 0.5, 9
  )
  assert low["w"].dtype == jnp.float32


def test_an_average_of_other_shapes_is_refused():
  with pytest.raises(AssertionError, match="shape"):
    optimizer.ema_update({"a": np.zeros(3)}, {"a": np.zeros(1)}, 0.9, 0)


@pytest.mark.smoke
def test_three_updates_by_hand():
  """Warm-up, clipping, moments, their bias, decay and multipliers, in numpy."""
  c = config(
    warmup_steps=2,
    total_steps=4,
    schedule="linear",
    final_ratio=0.1,
    b1=0.8,
    b2=0.9,
    eps=1e-2,
    weight_decay=0.3,
    clip_norm=1.5,
  )
  factors = {"w": 0.7, "bias": 0.5}
  transform = optimizer.build(c, factors)
  rng = np.random.default_rng(0)
  params = {"w": rng.normal(size=(2, 3)), "bias": rng.normal(size=3)}
  params = {k: v.astype(np.float32) for k, v in params.items()}
  state = transform.init(params)
  update = jax.jit(transform.update)
  hand = {k: v.astype(np.float64) for k, v in params.items()}
  mu, nu = ({k: 0.0 for k in params} for _ in range(2))
  rates = [0.05, 0.1, 0.1, 0.055, 0.01]
  for n, size in enumerate((3.0, 0.1, 2.0, 0.5, 1.0)):
    grads = {
      k: (size * rng.normal(size=v.shape)).astype(np.float32)
      for k, v in params.items()
    }
    updates, state = update(grads, state, params)
    params = optax.apply_updates(params, updates)
    norm = np.sqrt(
      sum((g.astype(np.float64) ** 2).sum() for g in grads.values())
    )
    for k, g in grads.items():
      g = g * min(1.0, 1.5 / norm)
      mu[k] = 0.8 * mu[k] + 0.2 * g
      nu[k] = 0.9 * nu[k] + 0.1 * g * g
      step = (
        mu[k]
        / (1 - 0.8 ** (n + 1))
        / (np.sqrt(nu[k] / (1 - 0.9 ** (n + 1))) + 1e-2)
      )
      decay = 0.3 * hand[k] if k == "w" else 0.0
      hand[k] = hand[k] - rates[n] * factors[k] * (step + decay)
    for k in params:
      np.testing.assert_allclose(params[k], hand[k], rtol=2e-5, atol=1e-6)


def test_a_schedule_without_warm_up_starts_at_its_peak():
  """And a cosine ends where it should, quarter by quarter."""
  rate = optimizer.schedule(
    config(warmup_steps=0, total_steps=8, schedule="cosine", final_ratio=0.0)
  )
  want = 0.1 * 0.5 * (1 + np.cos(np.pi * np.array([0, 2, 4, 6, 8]) / 8))
  np.testing.assert_allclose(
    [rate(s) for s in (0, 2, 4, 6, 8)], want, rtol=1e-5, atol=1e-8
  )


def test_the_average_of_every_early_step():
  ema = {"w": jnp.full(1, 5.0)}
  by_hand = 5.0
  for step in range(40):
    ema = optimizer.ema_update(ema, {"w": jnp.full(1, float(step))}, 0.75, step)
    keep = min(0.75, (1 + step) / (10 + step))
    by_hand = keep * by_hand + (1 - keep) * step
    np.testing.assert_allclose(ema["w"], by_hand, rtol=1e-5)


@pytest.mark.parametrize("exponent", [-12, 0, 11, 14, 20, 25, 37])
def test_norms_do_not_overflow(exponent: int):
  """Of sizes mixed within leaves and among them, as float64 has it."""
  rng = np.random.default_rng(0)
  tree = {
    "a": (rng.normal(size=(30, 7)) * 10.0**exponent).astype(np.float32),
    "b": rng.normal(size=1000).astype(np.float32),
    "c": np.float32([0.0, -(10.0 ** (exponent / 2))]),
  }
  whole = np.concatenate([x.ravel() for x in tree.values()]).astype(float)
  found = jax.jit(optimizer.global_norm)(tree)
  np.testing.assert_allclose(found, np.linalg.norm(whole), rtol=1e-6)
  if exponent <= 11:  # what is summed as it is, is as it was
    np.testing.assert_allclose(found, optax.tree.norm(tree), rtol=3e-7)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_norm_is_finite_only_where_all_numbers_are(value):
  for at in range(4):
    x = np.ones(4, np.float32)
    x[at] = value
    assert not np.isfinite(optimizer.global_norm([np.ones(3), jnp.array(x)]))


@pytest.mark.parametrize("clip", [1.0, 0.0])
@pytest.mark.parametrize("size", [1e19, 1e25, 1e37])
def test_huge_gradients_move_weights_and_leave_finite_moments(clip, size):
  """The first update of Adam is the rate, whatever the gradient's size."""
  params = {"w": jnp.ones(3)}
  transform = optimizer.build(config(clip_norm=clip, warmup_steps=0), {"w": 1})
  grads = {"w": jnp.float32([size, -size, size])}
  updates, state = transform.update(grads, transform.init(params), params)
  np.testing.assert_allclose(updates["w"], [-0.1, 0.1, -0.1], rtol=1e-4)
  for leaf in jax.tree.leaves(state):
    assert np.isfinite(leaf).all()


def test_clipping_is_optaxs_where_that_is_sound():
  rng = np.random.default_rng(0)
  for size in (0.01, 1.0, 50.0):
    grads = {"a": jnp.float32(rng.normal(size=(5, 5)) * size)}
    ours, _ = optimizer.clip_by_norm(1.0).update(grads, optax.EmptyState())
    theirs, _ = optax.clip_by_global_norm(1.0).update(grads, optax.EmptyState())
    np.testing.assert_allclose(ours["a"], theirs["a"], rtol=3e-7)
