"""Native pictures in rows that are split over devices."""

import numpy as np
import pytest

from tests import programs

# What a step measures, on one device and on eight: rows over four, heads over
# two. Prints both.
SCRIPT = """
import json, jax, numpy as np
from emma_jax import sharding
from tests import tiny
from tests.models import test_native as t

samples = [s for i in range(4) for s in (
    t.asked(i, t.SIZES[i % 3]), t.asked(4 + i, *t.SIZES[1:]),
    t.with_latents(tiny.editing(i)))]
batch = t.packed(samples, rows=4)
assert batch.und_valid_BN.any(axis=1).all()
objective = t.objective("paper", "router")
model = tiny.build_model.model(tiny.model())


def measure(sizes):
  config = sharding.MeshConfig(**dict(zip(sharding.AXES, sizes)))
  mesh = sharding.make_mesh(config, jax.devices()[:int(np.prod(sizes))])
  where = sharding.weights(model.shapes, model.axes, mesh)
  places = sharding.like_weights(model.shapes, where, mesh)

  def run(params, batch):
    with sharding.program(mesh):
      draw = lambda name: jax.random.key(len(name))
      return objective(params, batch, draw)[1]

  params = jax.tree.map(sharding.place, tiny.params(), places)
  lowered = jax.jit(run).lower(params, sharding.place_rows(batch, mesh))
  out = lowered.compile(compiler_options=tiny.QUICK)(
      params, sharding.place_rows(batch, mesh))
  return {k: float(m.value) for k, m in out.items()}


print(json.dumps([measure((1, 1, 1, 1)), measure((1, 2, 2, 2))]))
"""


@pytest.mark.slow
def test_eight_devices_equal_one():
  one, eight = programs.printed(SCRIPT, devices=8)
  assert one.keys() == eight.keys() and one["loss/understanding"] > 0.1
  for key, value in one.items():
    np.testing.assert_allclose(eight[key], value, rtol=1e-4, atol=1e-6)
