"""One step: what moves, what stays bit for bit, and the random streams."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from emma_jax import optimizer, rules, sharding
from emma_jax.structs import Mean
from emma_jax.training import state
from emma_jax.training.step import evaluate_loss, make_step, stream, task_norms
from tests import tiny
from tests.goldens import store
from tests.goldens import training as goldens

# ------------------------------------------------------------------- a toy

PARAMS = {"a": np.float32([3.0, 4.0]), "b": np.float32([100.0])}
POLICY = (("b", "frozen"), (".*", "train"))


def toy(params, batch, draw):
  """Gradient (3, 4) on a, (100,) on b where it is asked for."""
  loss = sum((x**2).sum() for x in params.values()) / 2
  noise = jax.random.normal(draw("noise"))
  return loss, {
    "loss/total": Mean(loss, jnp.float32(1)),
    "noise": Mean(noise, jnp.float32(1)),
  }


def toy_step(decay: float = 0.5, seed: int = 0, name: str = "stage"):
  optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.5))
  begin = state.begin(jax.tree.map(jnp.array, PARAMS), POLICY, optimizer, {})
  step = make_step(
    toy,
    optimizer,
    ema_decay=decay,
    seed=seed,
    name=name,
    accumulation=1,
    max_skipped_steps=0,
  )
  return step, begin


@pytest.mark.smoke
def test_frozen_weights_are_absent_from_the_norm_and_the_clipping():
  step, begin = toy_step()
  after, metrics = step(begin, None)
  np.testing.assert_allclose(metrics["norm/gradient"].value, 5.0, rtol=1e-6)
  # Clipped to (0.6, 0.8) by the trained part's norm alone, then half of it.
  np.testing.assert_allclose(after.trained["a"], [2.7, 3.6], rtol=1e-6)
  np.testing.assert_allclose(metrics["norm/update"].value, 0.5, rtol=1e-6)
  np.testing.assert_array_equal(after.frozen["b"], PARAMS["b"])
  assert after.step == 1 and after.ema.keys() == {"a"}


def test_the_average_forgets_half_in_its_half_life():
  """Behind the first steps, in which it follows faster; in samples, so that a
  step of twice as many forgets twice as much."""
  for samples in (128, 256, 1024):
    decay = 0.5 ** (samples / 4096)
    average = {"a": np.float32(1.0)}
    for step in range(4096 // samples):
      average = optimizer.ema_update(
        average, {"a": np.float32(0.0)}, decay, step + 10**6
      )
    np.testing.assert_allclose(average["a"], 0.5, rtol=1e-5)


def test_the_average_follows_the_weights():
  step, begin = toy_step(decay=0.9)
  after, _ = step(begin, None)
  # Early on the decay is (1 + step) / (10 + step) = 0.1.
  np.testing.assert_allclose(
    after.ema["a"], 0.1 * PARAMS["a"] + 0.9 * after.trained["a"], rtol=1e-6
  )


def test_the_state_is_donated():
  step, begin = toy_step()
  before = begin.trained["a"]
  step(begin, None)
  assert before.is_deleted()


def test_randomness_is_a_function_of_seed_stage_and_step():
  def noise(steps: int, **names) -> list[float]:
    step, s = toy_step(**names)
    out = []
    for _ in range(steps):
      s, metrics = step(s, None)
      out.append(float(metrics["noise"].value))
    return out

  first = noise(3)
  assert first == noise(3) and len(set(first)) == 3
  assert not set(first) & set(noise(3, seed=1))
  assert not set(first) & set(noise(3, name="other"))
  step, begin = toy_step()
  _later, metrics = step(begin.replace(step=jnp.int32(2)), None)
  assert float(metrics["noise"].value) == first[2]  # no chain of splits


def test_streams_of_other_names_are_independent():
  keys = [
    jax.random.key_data(stream(s, n, i)).tolist()
    for s in (0, 1)
    for n in ("a", "b")
    for i in (0, 1)
  ]
  assert len({tuple(k) for k in keys}) == 8


def test_evaluation_changes_with_its_key_only():
  run = lambda key: evaluate_loss(toy, PARAMS, None, jax.random.key(key))
  assert run(0)["noise"].value == run(0)["noise"].value
  assert run(0)["noise"].value != run(1)["noise"].value
  assert run(0)["loss/total"].value == run(1)["loss/total"].value


# ---------------------------------------------------------- the real stages


def moved(before: dict, after: dict) -> set[str]:
  a, b = rules.flatten(before), rules.flatten(after)
  assert a.keys() == b.keys()
  return {p for p in a if not np.array_equal(a[p], b[p])}


def still(paths: set[str]) -> set[str]:
  """Biases of keys: they add the same to all scores of a query, so that their
  gradient is rounding alone, and Adam's eps here lets it move nothing."""
  return {p for p in paths if p.endswith("key/bias")}


def policy(name: str, value: str) -> set[str]:
  table = goldens.run().stage(name).policy
  decided = rules.resolve(table, rules.flatten(tiny.shapes()))
  return {p for p, v in decided.items() if v == value}


@pytest.mark.parametrize("name", goldens.STAGES)
def test_three_steps_of_a_stage_are_as_they_were(name):
  """Metrics, and how far every leaf of the state went."""
  found = goldens.summary(goldens.start(name), *goldens.trained(name))
  store.check("training", name, found, kept=goldens.KEPT)


@pytest.mark.parametrize("name", goldens.STAGES)
def test_a_stage_moves_what_its_policy_trains_and_nothing_else(name):
  before = rules.flatten(goldens.start(name))
  after, _ = goldens.trained(name)
  trained = policy(name, "train")
  assert moved(before, rules.flatten(after.params())) == (
    trained - still(trained)
  )
  frozen = rules.flatten(after.frozen)
  assert frozen.keys() == policy(name, "frozen")
  chex.assert_trees_all_equal(frozen, {p: before[p] for p in frozen})
  for part in (after.ema, after.opt_state[1].mu, after.opt_state[1].nu):
    assert rules.flatten(part).keys() == policy(name, "train")


@pytest.mark.parametrize("name", ["1_pretraining", "2_finetuning"])
def test_the_long_stages_are_the_third_with_other_numbers(name):
  """So its program stands for theirs; the numbers are goldens of configs."""
  run = goldens.run()
  one, three = run.stage(name), run.stage("3_quality")
  numbers = ("name", "steps", "source", "optimizer", "load")
  for field in dataclasses.fields(one):
    if field.name not in numbers:
      assert getattr(one, field.name) == getattr(three, field.name), field.name
  c, section = one.optimizer, run.config["stages"][name]
  assert {
    k: getattr(c, k) for k in ("b1", "b2", "eps", "weight_decay", "clip_norm")
  } == run.config["optimizer"]
  assert c.total_steps == one.steps == section["steps"]
  for key in ("learning_rate", "schedule", "warmup_steps", "final_ratio"):
    assert getattr(c, key) == section[key]


def test_norms_of_tasks_are_of_each_ones_own_loss():
  """With the step's own noise. The batch's gradient is their sum, so its norm
  is no more than theirs; a stage without targets has one task, and no norms."""
  run, mesh = goldens.run(), one_device()
  stage = run.stage("3_quality")
  state = stage.begin(jax.tree.map(jnp.array, goldens.start("3_quality")))
  batch = stage.source[0].batch
  norms = task_norms(run, stage, mesh)(state, batch)
  assert norms.keys() == {"understanding", "drawing", "editing"}
  whole = goldens.trained("3_quality")[1][0]["norm/gradient"].value
  assert min(norms.values()) > 0
  assert max(norms.values()) < whole * 3
  assert whole <= sum(norms.values()) * (1 + 1e-5)
  assert not state.trained["heads"]["velocity"]["kernel"].is_deleted()
  assert task_norms(run, run.stage("4a_expert"), mesh) is None
  assert task_norms(run, run.stage("4b_router"), mesh) is None


def one_device():
  return sharding.make_mesh(goldens.run().mesh, jax.devices()[:1])


def test_expert_and_router_stages_leave_drawings_and_edits_alone():
  """Bit for bit, also where the router chooses (paper section 9.5)."""
  args = tiny.inputs(
    tiny.packed([tiny.understanding(), tiny.editing(), tiny.drawing(1)])
  )
  draw = lambda p: tiny.run(tiny.emma(), p, args, "router")
  before, _ = draw(goldens.start("4a_expert"))
  after, _ = draw(goldens.trained("4b_router")[0].params())
  np.testing.assert_array_equal(after.velocity_BMTC, before.velocity_BMTC)
  assert np.abs(before.velocity_BMTC).max() > 0.1
  assert (
    np.abs(after.router_logits_BNe[0, 0] - before.router_logits_BNe[0, 0]).max()
    > 1e-4
  )


@pytest.mark.parametrize("variant", tiny.MIXTURES)
def test_every_variant_trains(variant):
  """Steps of the stage that trains all but the autoencoder are as they were
  and lower the loss; weights that no token can reach are named here."""
  before = tiny.params(variant)
  after, measured = goldens.varied(variant)
  frozen = set(rules.flatten(after.frozen))
  dead = set(rules.flatten(before)) - moved(before, after.params()) - frozen
  # With references in the Und branch, nothing clean enters the Gen adapter.
  unused = {"adapters/gen/norm/scale", "adapters/gen/norm/bias"}
  assert dead - still(dead) == (unused if "und" in variant else set())
  losses = [float(m["loss/total"].value) for m in measured]
  assert losses[0] > losses[1] > losses[2]
  store.check(
    "training",
    variant,
    goldens.summary(before, after, measured),
    kept=goldens.KEPT,
  )
