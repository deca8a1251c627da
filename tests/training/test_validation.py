"""Held-out losses: of the weights alone, whatever the rows and the place."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import stages as stage_configs
from emma_jax import flow
from emma_jax.build import data as build_data
from emma_jax.build import held_out
from emma_jax.data.loading import held_out_batches, sources
from emma_jax.training import fixed_noise, objectives, validation
from tests import neutral, tiny

OBJECTIVE = neutral.objective(
  model=tiny.emma(),
  flow=flow.FlowConfig(time_mean=0.3, time_std=1.0, shift=2.0),
  route="versatile",
  text_weight=0.25,
  velocity_weight=1.0,
  time_bins=3,
)


def config(rows: int = 2, **train):
  c = tiny.config()
  c.train.update(validate_every=1, validate_samples=6, **train)
  c.stages = {
    "3_quality": stage_configs.stage(
      "3_quality",
      steps=2,
      warmup_steps=0,
      samples_per_batch=3,
      rows=rows,
      und_tokens=320,
      und_pictures=3,
      references=1,
      targets=2,
    )
  }
  return c


def batches(rows: int) -> held_out_batches.HeldOutBatches:
  made, notes = held_out.batches(config(rows), "3_quality")
  assert made is not None and not notes
  return made


@pytest.fixture(scope="module")
def held() -> held_out_batches.HeldOutBatches:
  return batches(rows=2)


def test_every_target_brings_its_own_noise_and_time_into_any_layout(held):
  """Of a sample the same numbers, in rows and batches of any kind."""

  def numbers(found: held_out_batches.HeldOutBatches) -> dict[bytes, tuple]:
    out = {}
    for one in found.batches():
      for b, m in np.argwhere(one.batch.gen_task_BM > 0):
        picture = one.batch.gen_pixels_BMYXC[b, m].tobytes()
        out[picture] = (one.stream_BM[b, m], one.quantile_BM[b, m])
    return out

  two, one = numbers(held), numbers(batches(rows=1))
  assert two == one and len(two) == 4  # two drawings, two edits
  assert len({stream for stream, _ in two.values()}) == 4
  assert len(held.batches()) < len(batches(rows=1).batches())


def test_a_task_times_fill_its_distribution_evenly():
  """Of any number of samples each bin of quantiles has its part, within one."""
  source = sources.open_source("world:drawing:test")
  found = held_out_batches.HeldOutBatches(
    sources={"a": source},
    samples=12,
    to_sample=held_out_to_sample(),
    layout=tiny.layout(rows=12),
    rows=range(12),
  )
  quantiles = sorted(
    float(q)
    for one in found.batches()
    for q in one.quantile_BM[one.batch.gen_task_BM > 0]
  )
  counts, _ = np.histogram(quantiles, 4, (0, 1))
  assert sum(counts) == 12 and counts.min() >= 2 and counts.max() <= 4


def held_out_to_sample():
  made, _ = held_out.batches(config(), "3_quality")
  return made.to_sample


def test_quantiles_of_times_are_those_of_the_trainings():
  c = OBJECTIVE.flow
  drawn = np.sort(flow.sample_time(jax.random.key(0), (20_000,), c))
  shares = np.array([0.1, 0.35, 0.5, 0.9])
  np.testing.assert_allclose(
    flow.quantile_time(shares, c), np.quantile(drawn, shares), atol=0.01
  )


def test_draws_of_a_target_differ_and_repeat(held):
  one = held.batches()[0]
  of = lambda draws: fixed_noise.of_targets(
    one, draws=draws, shape=(2, 3), config=OBJECTIVE.flow
  )
  (time_BM, eps_BMTC), (again_BM, more_BMTC) = of(1), of(2)
  M = time_BM.shape[1]
  np.testing.assert_array_equal(more_BMTC[:, :M], eps_BMTC)
  np.testing.assert_array_equal(again_BM[:, :M], time_BM)
  assert not np.any(np.asarray(more_BMTC[:, M:]) == np.asarray(eps_BMTC))
  assert np.abs(again_BM[:, M:] - time_BM).min() > 0.05


@dataclasses.dataclass
class State:
  trained: dict
  ema: dict

  def params(self, averaged: bool = False) -> dict:
    return self.ema if averaged else self.trained


def test_losses_are_means_over_all_records_by_task_and_bin(held):
  """Of live and of averaged weights; bins make up their task's mean; and rows
  that are filled otherwise change nothing."""
  params, other = tiny.params(), tiny.params(seed=1)
  mesh = tiny_mesh()
  values = validation.Validator(OBJECTIVE, held, mesh).values(
    State(params, other)
  )
  again = validation.Validator(OBJECTIVE, batches(rows=1), mesh).values(
    State(params, params)
  )
  assert set(values) == set(again)
  live = {k: v for k, v in values.items() if k.startswith("validation/")}
  for key, value in live.items():
    np.testing.assert_allclose(again[key], value, rtol=2e-5)
    averaged = key.replace("validation/", "validation_averaged/")
    assert again[averaged] == again[key]
    assert values[averaged] != value or "accuracy" in key
  for task in ("drawing", "editing"):
    bins = [v for k, v in live.items() if f"loss_by_time/{task}_time" in k]
    loss = live[f"validation/loss/{task}"]
    assert min(bins) <= loss <= max(bins) and len(bins) == 2
    np.testing.assert_allclose(np.mean(bins), loss, rtol=1e-5)


def tiny_mesh():
  return build_data.mesh_of(config())


def test_an_objective_without_noise_is_measured_by_its_own_losses(held):
  """Weights of tasks and the like are of the training alone."""

  class Toy(objectives.SummedObjective):
    def scale(self, batch):
      return objectives.Scale(counts={}, weights={})

    def part(self, params, batch, random, scale):
      assert random is None
      mean = objectives.Mean(params["w"] * 3.0, jnp.float32(2.0))
      return params["w"], {"loss/toy": mean, "weight/toy": mean}

  values = validation.Validator(Toy(), held, tiny_mesh()).values(
    State({"w": jnp.float32(2.0)}, {"w": jnp.float32(4.0)})
  )
  assert values == {
    "validation/loss/toy": 3.0,
    "validation_averaged/loss/toy": 6.0,
  }


def test_what_is_left_out_is_said_once(held):
  left_out = held_out_batches.LeftOut(broken=3)
  held = dataclasses.replace(held, left_out=left_out)
  validator = validation.Validator(OBJECTIVE, held, tiny_mesh())
  assert "3 broken" in validator.notes()[0] and not validator.notes()
