"""Why a step failed: computed once it has, not in every step."""

from collections.abc import Sequence
import dataclasses
from typing import Any

import jax
from jax.sharding import Mesh
import numpy as np

from emma_jax import sharding
from emma_jax.checkpoints import checkpointer as ckpt
from emma_jax.structs import TASKS, Batch
from emma_jax.training import finite, setbacks, spikes
from emma_jax.training.run import Run, Stage
from emma_jax.training.state import TrainState
from emma_jax.training.step import abstract_state, make_gradients, task_norms


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cause:
  """What of a step is not finite."""

  losses: Sequence[str]  # names of metrics
  gradients: Sequence[str]  # paths
  weights: Sequence[str]  # paths of the state before the step
  tasks: Sequence[str]

  def __str__(self):
    """A sentence; which task, then the tensors."""
    of = f" of {' and '.join(self.tasks)}" if self.tasks else ""
    if self.weights:
      return (
        f"the weights themselves are not finite ({finite.listed(self.weights)})"
        "; an update before has overflowed"
      )
    if self.losses:
      what = f"the loss{of} is not finite ({finite.listed(self.losses)})"
    else:
      what = f"the gradient{of} is not finite"
    if self.gradients:
      what += f"; gradients of {finite.listed(self.gradients)} are not"
    elif not self.losses:
      what = f"the norm of the gradient{of} is beyond float32"
    return what


def find(
  run: Run, stage: Stage, mesh: Mesh, state: TrainState, batch: Batch
) -> Cause:
  """Computes the failed step once more; a collective of all processes.

  Args:
    run, stage, mesh: of the step.
    state: as it was before the step.
    batch: the global batch.
  """
  whole = sharding.whole(mesh)
  weights = finite.bad_leaves(state.saved(), whole)
  if weights:
    return Cause(losses=(), gradients=(), weights=weights, tasks=())
  shardings = jax.tree.map(
    lambda x: x.sharding, abstract_state(run, stage, mesh)
  )
  of_batch = make_gradients(
    stage.objective,
    seed=run.seed,
    name=stage.name,
    accumulation=stage.accumulation,
    mesh=mesh,
    shardings=shardings,
  )

  def look(state: TrainState, batch: Batch) -> Any:
    with sharding.program(mesh):
      metrics, grads = of_batch(state, batch)
      return metrics, finite.flags(grads)

  metrics, good = jax.jit(
    look, in_shardings=(shardings, sharding.rows(mesh)), out_shardings=whole
  )(state, batch)
  losses = finite.bad_means(metrics)
  names = finite.paths(state.trained)
  bad = [p for p, ok in zip(names, np.asarray(good), strict=True) if not ok]
  return Cause(
    losses=losses,
    gradients=bad,
    weights=(),
    tasks=_tasks(run, stage, mesh, state, batch, losses),
  )


def _tasks(
  run: Run,
  stage: Stage,
  mesh: Mesh,
  state: TrainState,
  batch: Batch,
  losses: Sequence[str],
) -> list[str]:
  """Those whose loss is not finite, else whose gradient is not; [] where the
  stage has one thing to learn only."""
  found = [task for task in TASKS if f"loss/{task}" in losses]
  norms = None if found else task_norms(run, stage, mesh)
  if norms is None:
    return found
  values = jax.device_get(norms(state, batch))
  return [task for task in TASKS if not np.isfinite(values[task])]


def explain(
  run: Run,
  stage: Stage,
  mesh: Mesh,
  state: TrainState,
  step: int,
  left_out: spikes.LeftOut,
  checkpoints: ckpt.Checkpointer,
) -> str:
  """What to tell of a step that ended the run: its cause, and what is left.

  Args:
    run, stage, mesh: of the step.
    state: as it was before the step, if the step was refused.
    step: its number in the stage.
    left_out: batches of the stage.
    checkpoints: of the run.
  """
  number = spikes.position(step, left_out)
  data = spikes.Remaining(stage.source, step - 1, left_out)
  applied = f"The step (batch {number} of the stage) was not applied, and n"
  try:
    batch = sharding.place_rows(next(data).batch, mesh)
    found = find(run, stage, mesh, state, batch)
    cause, applied = str(found), "N" if found.weights else applied
  except (RuntimeError, MemoryError) as error:  # too little memory, say
    reason = str(error).partition("\n")[0]
    cause = f"not finite; what was could not be computed again ({reason})"
  finally:
    data.close()
  checkpoints.wait()
  last = checkpoints.latest_step()
  kept = (
    f"The last sound checkpoint is that of step {last} of the run "
    f"({checkpoints.directory / str(last)})."
    if last is not None
    else "There is no checkpoint yet."
  )
  if run.setbacks.on_nonfinite == setbacks.SKIP:
    skip = "or raise train.max_skipped_steps"
  else:
    skip = "or set train.on_nonfinite=skip, to leave such steps out"
  return (
    f"Step {step} of stage {stage.name}: {cause}. {applied}othing that is not "
    f"finite was saved. {kept} The same command would end here again: lower "
    f"stages.{stage.name}.learning_rate={stage.optimizer.learning_rate:g}, "
    f"{skip}."
  )
