"""How a stage of a run begins: its first state, in its place on the mesh."""

from collections.abc import Mapping

import jax
from jax.sharding import Mesh

from emma_jax import rules, sharding
from emma_jax.training import router
from emma_jax.training import state as state_lib
from emma_jax.training.run import Run, Stage
from emma_jax.training.step import abstract_state


def begin(
  run: Run, stage: Stage, previous: dict | None, routed: bool, mesh: Mesh
) -> tuple[state_lib.TrainState, bool]:
  """The stage's first state, every device holding its part, and whether its
  router is a trained one, as that of `previous` was (`routed`) or not."""
  metas: dict[str, Mapping] = {}

  def read(name: str) -> dict:
    found = run.read_weights(name)
    metas[name] = found.meta
    return rules.flatten(found.params)

  where = sharding.weights(run.shapes, run.axes, mesh)
  params = state_lib.load(
    stage.load,
    run.shapes,
    previous,
    read,
    lambda: run.init(rules.unflatten(where)),
    lambda path, x: sharding.place(x, where[path]),
  )
  places = jax.tree.map(lambda x: x.sharding, abstract_state(run, stage, mesh))
  # Not jitted: zeros and copies lie where the weights do.
  state = jax.device_put(stage.begin(params), places)
  return state, router.inherited(stage, run.shapes, routed, metas)
