"""What a run's loop starts from: a stage's first state, or a checkpoint."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from emma_jax import rules, sharding
from emma_jax.checkpoints import checkpointer as ckpt
from emma_jax.training import router
from emma_jax.training import state as state_lib
from emma_jax.training.run import FREE_KEYS, Run, Stage
from emma_jax.training.step import abstract_state


def begin(
  run: Run, stage: Stage, previous: dict | None, routed: bool, mesh: Mesh
) -> tuple[state_lib.TrainState, bool]:
  """The stage's first state, every device holding its part, and whether its
  router is a trained one, as that of `previous` was or not."""
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


def resume(
  run: Run, checkpoints: ckpt.Checkpointer, mesh: Mesh
) -> tuple[int, state_lib.TrainState | None, dict]:
  """(stage index, state or None, metadata) of the newest sound checkpoint."""
  if checkpoints.latest_step() is None:
    return 0, None, {}
  names = [s.name for s in run.stages]

  def abstract(meta: dict) -> state_lib.TrainState:
    differences = ckpt.config_differences(
      meta["config"], dict(run.config), FREE_KEYS
    )
    differences += [
      f"{k}: checkpoint {meta['fingerprints'].get(k)}, now {v}"
      for k, v in run.fingerprints.items()
      if meta["fingerprints"].get(k) != v
    ]
    if differences:
      raise ckpt.ContradictionError(differences)
    stage = run.stages[names.index(meta["stage"])]
    return abstract_state(run, stage, mesh)

  restored = checkpoints.restore(abstract)
  assert restored is not None  # `latest_step` has found one
  state, meta = restored
  state = jax.tree.map(jnp.asarray, state)
  if jax.process_index() == 0:
    print(
      f"Continuing at stage {meta['stage']}, step {int(state.step)}.",
      flush=True,
    )
  return names.index(meta["stage"]), state, meta
