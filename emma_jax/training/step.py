"""One training step, for every stage."""

from collections.abc import Callable, Mapping
import dataclasses
import functools
from typing import Any
import zlib

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
import optax

from emma_jax import optimizer as optim
from emma_jax import sharding
from emma_jax.data.batching import packing, row_layout
from emma_jax.structs import TASKS, Batch, Mean
from emma_jax.training import finite
from emma_jax.training.accumulation import gradients
from emma_jax.training.objectives import EmmaObjective, Metrics, Objective
from emma_jax.training.run import Run, Stage
from emma_jax.training.state import TrainState

Step = Callable[[TrainState, Batch], tuple[TrainState, dict[str, Mean]]]


def stream(seed: int, name: str, step) -> jax.Array:
  """The named random key of one step: independent of what else is drawn."""
  root = jax.random.fold_in(jax.random.key(seed), zlib.crc32(name.encode()))
  return jax.random.fold_in(root, step)


def _streams(seed: int, stage: str, step) -> Callable[[str], jax.Array]:
  """Name -> the random key of one step of a stage."""
  return lambda name: stream(seed, f"{stage}/{name}", step)


def make_gradients(
  objective: Objective,
  *,
  seed: int,
  name: str,
  accumulation: int,
  mesh: Mesh | None = None,
  shardings: Any = None,
) -> Callable[..., tuple[Metrics, dict]]:
  """(state, batch, weights of tasks or None) -> (metrics, gradients) of the
  step that comes next, with its times and noise; see `gradients`."""

  def of_batch(
    state: TrainState, batch: Batch, weights: dict[str, jax.Array] | None = None
  ):
    return gradients(
      objective,
      state.trained,
      state.frozen,
      batch,
      _streams(seed, name, state.step),
      accumulation=accumulation,
      place=_place(mesh, shardings),
      weights=weights,
    )

  return of_batch


def make_step(
  objective: Objective,
  optimizer: optax.GradientTransformation,
  *,
  ema_decay: float,
  seed: int,
  name: str,
  accumulation: int,
  max_skipped_steps: int,
  mesh: Mesh | None = None,
  shardings: Any = None,
) -> Step:
  """The jitted step of one stage; the state is donated.

  With a `mesh` the batch's rows are split over it, the state lies as
  `shardings` (a TrainState of them) says, and so do gradients. The batch's
  gradient is summed over `accumulation` micro-batches, see `gradients`.

  Frozen weights are absent from the gradient, the clipping norm, the optimizer
  and the average.

  A step whose loss or gradient is not finite is not applied; of those,
  `max_skipped_steps` in a row count as done, see `finite.judge`.
  """

  of_batch = make_gradients(
    objective,
    seed=seed,
    name=name,
    accumulation=accumulation,
    mesh=mesh,
    shardings=shardings,
  )

  def update(state: TrainState, batch: Batch):
    metrics, grads = of_batch(state, batch)
    norm, one = optim.global_norm(grads), jnp.float32(1)
    verdict = finite.judge(
      metrics["loss/total"].total, norm, state.refused, max_skipped_steps
    )
    updates, opt_state = optimizer.update(grads, state.opt_state, state.trained)
    trained = optax.apply_updates(state.trained, updates)
    # Before the average, which then reads what is stored: nothing is computed
    # twice.
    trained = verdict.kept(trained, state.trained)
    ema = optim.ema_update(state.ema, trained, ema_decay, state.step)
    state = dataclasses.replace(
      state,
      step=jnp.where(verdict.counts, state.step + 1, state.step),
      trained=trained,
      opt_state=verdict.kept(opt_state, state.opt_state),
      ema=verdict.kept(ema, state.ema),
      refused=verdict.refused,
    )
    return state, metrics | {
      "norm/gradient": Mean(norm, one),
      "norm/update": Mean(optim.global_norm(updates), one),
      finite.REFUSED: Mean(verdict.refused, one),
    }

  if mesh is None:
    return jax.jit(update, donate_argnums=0)

  def step(state: TrainState, batch: Batch):
    with sharding.program(mesh):
      return update(state, batch)

  return jax.jit(
    step,
    donate_argnums=0,
    in_shardings=(shardings, sharding.rows(mesh)),
    out_shardings=(shardings, sharding.whole(mesh)),
  )


def make_task_norms(
  objective: EmmaObjective,
  *,
  seed: int,
  name: str,
  accumulation: int,
  mesh: Mesh,
  shardings: Any,
) -> Callable[[TrainState, Batch], dict[str, jax.Array]]:
  """(state, batch) -> task -> norm of its own loss's gradient.

  The loss is the task's part of the step's, weights included; the norm is over
  all trained weights, with the times and noise of the step that comes next. One
  program, which runs once a task; nothing is donated.
  """

  of_batch = make_gradients(
    objective,
    seed=seed,
    name=name,
    accumulation=accumulation,
    mesh=mesh,
    shardings=shardings,
  )

  def norm(state: TrainState, batch: Batch, only: dict[str, jax.Array]):
    with sharding.program(mesh):
      _, grads = of_batch(state, batch, only)
      return optim.global_norm(grads)

  whole = sharding.whole(mesh)
  run = jax.jit(
    norm,
    in_shardings=(shardings, sharding.rows(mesh), whole),
    out_shardings=whole,
  )
  alone = lambda task: {t: jnp.float32(t == task) for t in TASKS}
  return lambda state, batch: {t: run(state, batch, alone(t)) for t in TASKS}


def gradient_shares(norms: Mapping[str, jax.Array]) -> dict[str, Mean]:
  """Of the norms of the gradients of the tasks' losses: each one, and its share
  of the sum of all."""
  found = {task: float(norm) for task, norm in jax.device_get(norms).items()}
  total = sum(found.values())
  return {
    f"norm/gradient_{task}": Mean(norm, 1.0) for task, norm in found.items()
  } | {
    f"gradient_share/{task}": Mean(norm, total) for task, norm in found.items()
  }


def _place(mesh: Mesh | None, shardings: Any) -> Callable[[dict], dict]:
  """Lays gradients where the weights lie."""
  if mesh is None or mesh.size == 1:
    return lambda grads: grads
  return lambda grads: jax.lax.with_sharding_constraint(
    grads, shardings.trained
  )


def abstract_state(run: Run, stage: Stage, mesh: Mesh) -> TrainState:
  """The state's shapes, and where on the mesh each array lies."""
  state = jax.eval_shape(stage.begin, run.shapes)
  of_weights = sharding.weights(run.shapes, run.axes, mesh)
  places = sharding.like_weights(state, of_weights, mesh)
  return jax.tree.map(_placed, state, places)


def abstract_batch(layout: row_layout.Layout, mesh: Mesh) -> Batch:
  """The shapes of a global batch, its rows split over the mesh."""
  one, _ = packing.pack([], dataclasses.replace(layout, rows=1))
  rows = sharding.rows(mesh)
  return jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(
      (layout.rows, *x.shape[1:]), x.dtype, sharding=rows
    ),
    one,
  )


def abstract_step(
  run: Run, stage: Stage, mesh: Mesh
) -> tuple[Any, TrainState, Batch]:
  """The step that `loop` runs: (jitted, abstract state, abstract batch).

  `jitted.lower(state, batch).compile()` needs no array and no device of the
  mesh: it may be one of a topology that is described only.

  Raises:
    ValueError: rows that do not split over the mesh, or weights that every
      device would hold whole.
  """
  sharding.check_rows(
    stage.layout.rows, f"stages.{stage.name}", mesh, stage.accumulation
  )
  state = abstract_state(run, stage, mesh)
  jitted = make_step(
    stage.objective,
    stage.transformation(),
    ema_decay=stage.ema_decay,
    seed=run.seed,
    name=stage.name,
    accumulation=stage.accumulation,
    max_skipped_steps=run.setbacks.most_refused,
    mesh=mesh,
    shardings=jax.tree.map(lambda x: x.sharding, state),
  )
  return jitted, state, abstract_batch(stage.layout, mesh)


def task_norms(
  run: Run, stage: Stage, mesh: Mesh
) -> Callable[[TrainState, Batch], dict[str, jax.Array]] | None:
  """`make_task_norms` of a stage; None where it has one task at most."""
  if not isinstance(stage.objective, EmmaObjective) or not stage.layout.targets:
    return None
  state = abstract_state(run, stage, mesh)
  return make_task_norms(
    stage.objective,
    seed=run.seed,
    name=stage.name,
    accumulation=stage.accumulation,
    mesh=mesh,
    shardings=jax.tree.map(lambda x: x.sharding, state),
  )


def _placed(x: Any, where: jax.sharding.Sharding) -> jax.ShapeDtypeStruct:
  return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where)


@functools.partial(jax.jit, static_argnums=0)
def evaluate_loss(objective: Objective, params: dict, batch: Batch, key):
  """Metrics of one batch without a gradient; times and noise from `key`."""
  draw = lambda name: jax.random.fold_in(key, zlib.crc32(name.encode()))
  return objective(params, batch, draw)[1]
