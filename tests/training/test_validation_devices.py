"""Held-out losses of one run are equal on any number of devices."""

import json

import numpy as np
import pytest

from tests import programs

# (slice, data, fsdp, tensor)
MESHES = {"1": (1, 1, 1, 1), "2": (1, 1, 2, 1), "4": (1, 2, 1, 2)}
MESHES["8"] = (2, 1, 2, 2)

# The stage's held-out batches of eight rows, as `build.held_out` makes them for
# the mesh of a config, measured by the validator of that mesh.
SCRIPT = """
import json, sys
import jax, numpy as np
from emma_jax import sharding
from emma_jax.build import data as build_data
from emma_jax.build import held_out, model as build_model
from emma_jax.training import validation
from tests import tiny
from tests.training import test_validation as t

every = jax.devices()
model = build_model.model(tiny.model())


def measured(sizes):
  jax.devices = lambda *_: every[:int(np.prod(sizes))]
  config = t.config(rows=8)
  config.mesh.update(dict(zip(sharding.AXES, sizes)))
  mesh = build_data.mesh_of(config)
  assert mesh.devices.size == np.prod(sizes)
  held, _ = held_out.batches(config, "3_quality")
  where = sharding.weights(model.shapes, model.axes, mesh)
  places = sharding.like_weights(model.shapes, where, mesh)
  lie = lambda seed: jax.tree.map(
      sharding.place, tiny.params(seed=seed), places)
  return validation.Validator(t.OBJECTIVE, held, mesh).values(
      t.State(lie(0), lie(1)))


print(json.dumps({n: measured(s) for n, s in json.loads(sys.argv[1]).items()}))
"""


@pytest.mark.slow
def test_any_number_of_devices_measures_the_same_losses():
  """Noise and times are of the sample: rows and weights may lie anywhere."""
  found = programs.printed(
    SCRIPT,
    json.dumps(MESHES),
    devices=8,
    XLA_FLAGS="--xla_backend_optimization_level=0",
  )
  one = found.pop("1")
  assert {"validation/loss/drawing", "validation_averaged/loss/editing"} <= (
    one.keys()
  )
  assert any("loss_by_time" in name for name in one)
  for count, many in found.items():
    assert many.keys() == one.keys()
    for name, value in one.items():
      np.testing.assert_allclose(
        many[name], value, rtol=2e-5, err_msg=f"{name} on {count}"
      )
