"""Micro-batches sum to the batch: gradients, metrics, whatever rows hold."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emma_jax import flow, rules, sharding
from emma_jax.models.dcae import Autoencoder
from emma_jax.structs import Batch
from emma_jax.training import accumulation, objectives
from emma_jax.training.step import stream
from tests import neutral, programs, tiny

FLOW = flow.FlowConfig(time_mean=0.0, time_std=1.0, shift=1.0)
EMMA = neutral.objective(
  model=tiny.emma(),
  flow=FLOW,
  route="versatile",
  text_weight=0.25,
  velocity_weight=1.0,
  time_bins=2,
  draws=2,
  task_weights=neutral.task_weights(editing=0.5),
)
ROUTER = objectives.RouterObjective(model=tiny.emma())
AUTOENCODER = objectives.AutoencoderObjective(
  model=Autoencoder(tiny.emma().config.autoencoder),
  dtype="float32",
  l1_weight=1.0,
  l2_weight=2.0,
)
OBJECTIVES = {"emma": EMMA, "router": ROUTER, "autoencoder": AUTOENCODER}


def batch() -> Batch:
  """Of two rows each: answers alone, drawings alone, all tasks, and nothing."""
  rows = (
    [tiny.understanding(0, stem=1), tiny.understanding(1, stem=-1)],
    [tiny.drawing(0), tiny.drawing(1), tiny.drawing(2)],
    [tiny.understanding(2), tiny.editing(3), tiny.drawing(4)],
    [],
  )
  packed = [tiny.packed(samples) for samples in rows]
  return jax.tree.map(lambda *x: np.concatenate(x), *packed)


@functools.partial(jax.jit, static_argnums=(0, 1), compiler_options=tiny.QUICK)
def run(name: str, parts: int, params: dict, data: Batch, weights=None):
  """(metrics, gradients by all weights)."""
  draw = lambda key: stream(0, key, 3)
  return accumulation.gradients(
    OBJECTIVES[name],
    params,
    {},
    data,
    draw,
    accumulation=parts,
    weights=weights,
  )


@functools.cache
def of(name: str, parts: int):
  return run(name, parts, tiny.params(), batch())


def assert_same_gradients(have: dict, want: dict):
  """Within 1e-5 of each leaf's largest, and of all of them together where a
  leaf has hardly any: a key's bias adds the same to all scores of a query."""
  have, want = rules.flatten(have), rules.flatten(want)
  assert have.keys() == want.keys()
  all_of_them = max(np.abs(x).max() for x in want.values())
  for path, x in want.items():
    assert have[path].dtype == np.float32
    scale = max(np.abs(x).max(), 1e-2 * all_of_them)
    assert np.abs(have[path] - x).max() <= 1e-5 * scale, path


@pytest.mark.smoke
@pytest.mark.parametrize(
  "name, parts", [("emma", 2), ("emma", 4), ("router", 4), ("autoencoder", 4)]
)
def test_micro_batches_sum_to_the_batch(name, parts):
  """Rows of the first hold no picture to draw, of the second no answer."""
  (whole, want), (metrics, grads) = of(name, 1), of(name, parts)
  assert_same_gradients(grads, want)
  chex.assert_trees_all_close(metrics, whole, rtol=1e-5, atol=1e-6)
  counts = {k: float(m.count) for k, m in metrics.items()}
  assert counts == {k: float(m.count) for k, m in whole.items()}
  if name == "emma":
    assert counts["loss/understanding"] == 9  # answer tokens
    assert (counts["loss/drawing"], counts["loss/editing"]) == (8, 2)
  assert counts["loss/total"] == 1


def test_noise_is_that_of_the_whole_batch():
  """Keyed by the place in the batch: a row's own micro-batch changes nothing,
  and no two micro-batches are alike."""
  draw = lambda key: stream(0, key, 3)
  whole = EMMA.random(batch(), draw)
  assert whole.eps_BMTC.shape == (8, 4, 2, tiny.CHANNELS)
  split = accumulation.split_rows(whole, 4)
  np.testing.assert_array_equal(split.eps_BMTC[1, 1], whole.eps_BMTC[3])
  flat = split.time_BM.reshape(4, -1)
  assert len(np.unique(flat)) == flat.size


def test_losses_of_tasks_alone_sum_to_the_gradient():
  """Weights beside the objective's own pick a task, with its weight."""
  want = rules.flatten(of("emma", 1)[1])
  one = lambda task: {
    t: jnp.float32(t == task) for t in ("understanding", "drawing", "editing")
  }
  found = [
    rules.flatten(run("emma", 2, tiny.params(), batch(), one(task))[1])
    for task in one("")
  ]
  total = {p: sum(g[p] for g in found) for p in want}
  assert_same_gradients(rules.unflatten(total), rules.unflatten(want))
  assert not np.any(found[0]["heads/velocity/kernel"])
  assert np.any(found[2]["heads/velocity/kernel"])


# ------------------------------------------------------------- many devices

# A step's gradients and metrics on 8 devices, in micro-batches and at once;
# prints how far they are from one device's, and what the split communicates.
SCRIPT = """
import json
import jax, jax.numpy as jnp, numpy as np
from emma_jax import rules, sharding
from emma_jax.training import accumulation
from emma_jax.training.step import stream
from tests import tiny
from tests.training import test_accumulation as here

data = jax.tree.map(lambda x: np.concatenate([x, x[::-1], x[2:]]), here.batch())
data = jax.tree.map(lambda x: np.concatenate([x, x[:10]]), data)
assert data.tokens_BU.shape[0] == 32
params = tiny.params()
model = tiny.built()


def gradients(sizes, parts):
  config = sharding.MeshConfig(**dict(zip(sharding.AXES, sizes)))
  mesh = sharding.make_mesh(config, jax.devices()[: int(np.prod(sizes))])
  flat = sharding.weights(model.shapes, model.axes, mesh)
  where = rules.unflatten(flat)
  place = lambda g: jax.lax.with_sharding_constraint(g, where)

  def run(params, batch):
    with sharding.program(mesh):
      return accumulation.gradients(
        here.EMMA, params, {}, batch, lambda key: stream(0, key, 3),
        accumulation=parts, place=place)

  lowered = jax.jit(
    run, in_shardings=(where, sharding.rows(mesh)),
    out_shardings=(sharding.whole(mesh), where)).lower(params, data)
  out = lowered.compile(compiler_options=tiny.QUICK)(params, data)
  split = jax.jit(lambda b: _split(b, mesh, parts),
                  in_shardings=sharding.rows(mesh)).lower(data).compile()
  moved = [c for c in ("all-to-all", "all-gather", "collective-permute")
           if c in split.as_text()]
  grads = rules.flatten(out[1])
  lie = all(grads[p].sharding.is_equivalent_to(flat[p], grads[p].ndim)
            for p in grads)
  return jax.device_get(out), moved, lie


def _split(batch, mesh, parts):
  with sharding.program(mesh):
    return accumulation.split_rows(batch, parts)


(metrics, want), _, _ = gradients((1, 1, 1, 1), 1)
(other, grads), moved, lie = gradients((1, 2, 4, 1), 4)
here.assert_same_gradients(grads, want)
# numpy's maximum keeps NaN, Python's drops it.
off = float(np.max([abs(float(other[k].total) - float(m.total))
                    / max(abs(float(m.total)), 1e-3)
                    for k, m in metrics.items()]))
print(json.dumps({"metrics": off, "moved": moved, "lie": lie}))
"""


def test_eight_devices_with_micro_batches_equal_one_without():
  """Every device splits its own rows, and holds its part of the sums."""
  found = programs.printed(SCRIPT, devices=8)
  assert found["metrics"] < 1e-5
  assert found["moved"] == [] and found["lie"]


# ------------------------------------------------------------------ errors


def test_an_accumulation_that_does_not_divide_is_refused():
  mesh = sharding.make_mesh(
    sharding.MeshConfig(slice=1, data=1, fsdp=1, tensor=1), jax.devices()[:1]
  )
  sharding.check_rows(12, "stages.x", mesh, 4)
  with pytest.raises(ValueError) as error:
    sharding.check_rows(12, "stages.x", mesh, 5)
  assert "accumulation=5 does not divide the 12 rows" in str(error.value)
  assert "a divisor of 12" in str(error.value)
  assert "a multiple of 5" in str(error.value)


def test_weights_of_tasks_are_checked():
  with pytest.raises(
    ValueError, match="editing=-1.0 is not a number from 0 on"
  ):
    neutral.task_weights(editing=-1.0)
  with pytest.raises(ValueError, match="nothing would be learned"):
    objectives.TaskWeights(understanding=0.0, drawing=0.0, editing=0.0)
  assert dataclasses.replace(EMMA, draws=1).task_weights.editing == 0.5
