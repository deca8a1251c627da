"""One step: what moves, what stays bit for bit, and the random streams."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import tiny as tiny_config
from emma_jax import flow, rules
from emma_jax.structs import Mean
from emma_jax.training import assemble, loop, objectives, state
from emma_jax.training.step import evaluate_loss, make_step, stream
from tests import tiny

# ------------------------------------------------------------------- a toy

PARAMS = {"a": np.float32([3.0, 4.0]), "b": np.float32([100.0])}
POLICY = (("b", "frozen"), (".*", "train"))


def toy(params, batch, draw):
  """Gradient (3, 4) on a, (100,) on b where it is asked for."""
  loss = sum((x**2).sum() for x in params.values()) / 2
  noise = jax.random.normal(draw("noise"))
  return loss, {"loss/total": Mean(loss, jnp.float32(1)),
                "noise": Mean(noise, jnp.float32(1))}


def toy_step(decay: float = 0.5, seed: int = 0, name: str = "stage"):
  optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.5))
  begin = state.begin(jax.tree.map(jnp.array, PARAMS), POLICY, optimizer)
  return make_step(toy, optimizer, ema_decay=decay, seed=seed, name=name), begin


def test_frozen_weights_are_absent_from_the_norm_and_the_clipping():
  step, begin = toy_step()
  after, metrics = step(begin, None)
  np.testing.assert_allclose(metrics["norm/gradient"].value, 5.0, rtol=1e-6)
  # Clipped to (0.6, 0.8) by the trained part's norm alone, then half of it.
  np.testing.assert_allclose(after.trained["a"], [2.7, 3.6], rtol=1e-6)
  np.testing.assert_allclose(metrics["norm/update"].value, 0.5, rtol=1e-6)
  np.testing.assert_array_equal(after.frozen["b"], PARAMS["b"])
  assert after.step == 1 and after.ema.keys() == {"a"}


def test_the_average_follows_the_weights():
  step, begin = toy_step(decay=0.9)
  after, _ = step(begin, None)
  # Early on the decay is (1 + step) / (10 + step) = 0.1.
  np.testing.assert_allclose(
      after.ema["a"], 0.1 * PARAMS["a"] + 0.9 * after.trained["a"], rtol=1e-6)


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
  later, metrics = step(begin.replace(step=jnp.int32(2)), None)
  assert float(metrics["noise"].value) == first[2]  # no chain of splits


def test_streams_of_other_names_are_independent():
  keys = [jax.random.key_data(stream(s, n, i)).tolist()
          for s in (0, 1) for n in ("a", "b") for i in (0, 1)]
  assert len({tuple(k) for k in keys}) == 8


def test_evaluation_changes_with_its_key_only():
  run = lambda key: evaluate_loss(toy, PARAMS, None, jax.random.key(key))
  assert run(0)["noise"].value == run(0)["noise"].value
  assert run(0)["noise"].value != run(1)["noise"].value
  assert run(0)["loss/total"].value == run(1)["loss/total"].value


# ---------------------------------------------------------- the real stages


@pytest.fixture(scope="module")
def stages() -> dict[str, loop.Stage]:
  """The stages of configs/tiny.py, on the world's data, at micro size."""
  c = tiny.config()
  c.data.text_dropout = c.data.reference_dropout = 0.0
  c.stages = tiny_config.tiny_stages(c.model)
  for name, s in c.stages.items():
    drawn = name < "4"
    s.update(rows=1, samples_per_batch=3, und_tokens=320, und_pictures=3,
             references=int(drawn), targets=2 * drawn, warmup_steps=0)
  return {s.name: s for s in assemble.run(c).stages}


def quick(step, *args):
  return step.lower(*args).compile(compiler_options=tiny.QUICK)


def train(stage: loop.Stage, params: dict, steps: int = 1) -> dict:
  """All parameters after some steps of a stage."""
  step = make_step(stage.objective, stage.transformation(), ema_decay=0.9,
                   seed=0, name=stage.name)
  s = stage.begin(jax.tree.map(jnp.array, params))
  step = quick(step, s, stage.source[0].batch)
  for i in range(steps):
    host = stage.source[i]
    assert not host.info.unusable
    s, metrics = step(s, host.batch)
    assert all(np.isfinite(m.total) for m in metrics.values())
  return s.params()


def moved(before: dict, after: dict) -> set[str]:
  a, b = rules.flatten(before), rules.flatten(after)
  assert a.keys() == b.keys()
  return {p for p in a if not np.array_equal(a[p], b[p])}


def trained(stage: loop.Stage) -> set[str]:
  decided = rules.resolve(stage.policy, rules.flatten(tiny.shapes()))
  return {p for p, value in decided.items() if value == state.TRAIN}


@pytest.mark.parametrize("name", ["0_alignment", "3_quality"])
def test_a_stage_moves_what_its_policy_trains_and_nothing_else(stages, name):
  """1, 2 and 3 differ in data and rates only; see test_state for policies."""
  before = tiny.params()
  after = train(stages[name], before)
  assert moved(before, after) == trained(stages[name])
  assert stages["1_pretraining"].policy == stages["3_quality"].policy


def test_expert_and_router_stages_leave_drawings_and_edits_alone(stages):
  """Bit for bit, also where the router chooses (paper section 9.5)."""
  start = tiny.params()
  args = tiny.inputs(tiny.packed(
      [tiny.understanding(), tiny.editing(), tiny.drawing(1)]))
  draw = lambda p: tiny.run(tiny.emma(), p, args, "router")
  load = lambda stage, p: state.load(stage.load, tiny.shapes(), p, None, None)
  expert = load(stages["4a_expert"], start)
  before, _ = draw(expert)
  after_expert = train(stages["4a_expert"], expert, 2)
  assert moved(expert, after_expert) == trained(stages["4a_expert"])
  routed = load(stages["4b_router"], after_expert)
  after_router = train(stages["4b_router"], routed, 2)
  assert moved(routed, after_router) == trained(stages["4b_router"])
  after, _ = draw(after_router)
  np.testing.assert_array_equal(after.velocity_BMTC, before.velocity_BMTC)
  assert np.abs(before.velocity_BMTC).max() > 0.1
  assert np.abs(after.router_logits_BN2[0, 0]
                - before.router_logits_BN2[0, 0]).max() > 1e-4


@pytest.mark.parametrize("variant", tiny.MIXTURES)
def test_every_variant_trains(variant):
  """A step of the stage that trains all but the autoencoder lowers the loss;
  weights that no token can reach are named here."""
  objective = objectives.EmmaObjective(
      model=tiny.emma(variant), route="versatile", text_weight=0.25,
      velocity_weight=1.0, time_bins=2,
      flow=flow.FlowConfig(time_mean=0.0, time_std=1.0, shift=1.0))
  policy = tiny_config.tiny_stages(tiny.model(variant))["3_quality"].policy
  batch = tiny.packed([tiny.understanding(), tiny.editing(), tiny.drawing(1)],
                      variant)
  before = tiny.params(variant)
  optimizer = optax.adam(1e-3)
  step = make_step(objective, optimizer, ema_decay=0.9, seed=0, name="all")
  # The same step number twice: the same times and noise.
  s = state.begin(jax.tree.map(jnp.array, before), policy, optimizer)
  step = quick(step, s, batch)
  s, first = step(s, batch)
  frozen = {p for p, v in rules.resolve(
      policy, rules.flatten(before)).items() if v == state.FROZEN}
  dead = set(rules.flatten(before)) - moved(before, s.params()) - frozen
  # With references in the Und branch, nothing clean enters the Gen adapter.
  unused = {"adapters/gen/norm/scale", "adapters/gen/norm/bias"}
  assert dead == (unused if "und" in variant else set())
  _, second = step(s.replace(step=jnp.int32(0)), batch)
  assert second["loss/total"].value < first["loss/total"].value
