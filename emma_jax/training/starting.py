"""How a run starts: whether it can, where it stopped, a stage's first state."""

from collections.abc import Mapping, Sequence
import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from emma_jax import rules, sharding
from emma_jax.checkpoints import checkpointer as ckpt
from emma_jax.checkpoints import locate
from emma_jax.exits import NotFinite
from emma_jax.training import finite, router, setbacks
from emma_jax.training import state as state_lib
from emma_jax.training.run import FREE_KEYS, Run, Stage
from emma_jax.training.step import abstract_state


class Start(NamedTuple):
  """Where the loop goes on."""

  stage: int  # its number
  state: state_lib.TrainState | None  # None: the stage begins
  meta: dict[str, Any]  # of the checkpoint; {} without one


def begin(
  run: Run, stage: Stage, previous: dict | None, routed: bool, mesh: Mesh
) -> tuple[state_lib.TrainState, bool]:
  """The stage's first state, every device holding its part, and whether its
  router is a trained one, as that of `previous` was or not.

  Raises:
    NotFinite: weights that it would start from are not.
  """
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
  bad = finite.bad_leaves(params, sharding.whole(mesh))
  if bad:
    sources = rules.resolve(stage.load, rules.flatten(run.shapes), "load")
    named = [f"{path} (from {sources[path]})" for path in bad]
    raise NotFinite(
      f"Stage {stage.name} would start from weights that are not finite: "
      f"{finite.listed(named)}. Nothing was trained; make the file anew, or "
      f"name other weights in stages.{stage.name}.load."
    )
  places = jax.tree.map(lambda x: x.sharding, abstract_state(run, stage, mesh))
  # Not jitted: zeros and copies lie where the weights do.
  state = jax.device_put(stage.begin(params), places)
  return state, router.inherited(stage, run.shapes, routed, metas)


def resume(run: Run, checkpoints: ckpt.Checkpointer, mesh: Mesh) -> Start:
  """The newest sound checkpoint.

  Raises:
    ContradictionError: another config made it.
    NotFinite: numbers in it are not.
  """
  if checkpoints.latest_step() is None:
    return Start(0, None, {})
  names = [s.name for s in run.stages]

  def abstract(meta: dict) -> state_lib.SavedState:
    _check(run, meta)
    stage = run.stages[names.index(meta["stage"])]
    return abstract_state(run, stage, mesh).saved()

  restored = checkpoints.restore(abstract)
  assert restored is not None  # `latest_step` has found one
  state, meta = restored
  watched = meta.setdefault("setbacks", {})  # not in older ones
  # It may be another policy's by now, which would halt at once.
  in_a_row = min(watched.get("refused", 0), run.setbacks.most_refused)
  refused = sharding.place(jnp.int32(in_a_row), sharding.whole(mesh))
  state = jax.tree.map(jnp.asarray, state).going_on(refused)
  index = names.index(meta["stage"])
  _check_finite(run, index, state, checkpoints, mesh)
  return Start(index, state, meta)


def check_weights(stages: Sequence[Stage], workdir: pathlib.Path) -> None:
  """Raises NoWeights where stages to come would find none: now, since the first
  of them may begin days later. What this run makes itself may not be there yet.
  """
  for stage in stages:
    for _, source in stage.load:
      name = source.removeprefix("weights:")
      own = pathlib.Path(name).absolute().is_relative_to(workdir.absolute())
      if name == source or own:
        continue
      try:
        locate.check(name)
      except locate.NoWeights as error:
        raise locate.NoWeights(f"stages.{stage.name}.load: {error}") from error


def _check(run: Run, meta: Mapping[str, Any]) -> None:
  """Raises ContradictionError where another config made a checkpoint."""
  free: tuple[str, ...] = FREE_KEYS
  if run.setbacks.on_spike == setbacks.REWIND:
    # Where a rewind goes back to is decided by it.
    free = tuple(key.replace("save_every|", "") for key in free)
  differences = ckpt.config_differences(meta["config"], dict(run.config), free)
  differences += [
    f"{k}: checkpoint {meta['fingerprints'].get(k)}, now {v}"
    for k, v in run.fingerprints.items()
    if meta["fingerprints"].get(k) != v
  ]
  if differences:
    raise ckpt.ContradictionError(differences)


def _check_finite(
  run: Run,
  index: int,
  state: state_lib.TrainState,
  checkpoints: ckpt.Checkpointer,
  mesh: Mesh,
) -> None:
  """Raises NotFinite; one of an earlier version may hold such numbers."""
  bad = finite.bad_leaves(state.saved(), sharding.whole(mesh))
  if not bad:
    return
  step = sum(s.steps for s in run.stages[:index]) + int(state.step)
  earlier = [s for s in checkpoints.steps() if s < step]
  remedy = (
    f"Move it away to go on from step {earlier[-1]}."
    if earlier
    else "There is no earlier one: begin anew in another folder."
  )
  raise NotFinite(
    f"The checkpoint {checkpoints.directory / str(step)} holds numbers that "
    f"are not finite: {finite.listed(bad)}. {remedy}"
  )
