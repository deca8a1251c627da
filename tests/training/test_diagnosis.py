"""What a failed step is told of: its task, its gradients, its weights."""

import jax
import jax.numpy as jnp
import numpy as np

from emma_jax import rules, sharding
from emma_jax.training import diagnosis
from tests.goldens import training as goldens
from tests.training import test_step

STAGE = "3_quality"


def cause(change) -> diagnosis.Cause:
  """Of the real stage's first step, from weights that `change` has changed."""
  run, mesh = goldens.run(), test_step.one_device()
  stage = run.stage(STAGE)
  params = rules.flatten(goldens.start(STAGE))
  state = stage.begin(
    jax.tree.map(jnp.array, rules.unflatten(params | change(params)))
  )
  batch = sharding.place_rows(stage.source[0].batch, mesh)
  return diagnosis.find(run, stage, mesh, state, batch)


def test_weights_that_are_not_finite_are_all_there_is_to_say():
  path = "heads/velocity/kernel"
  found = cause(lambda params: {path: params[path].copy() * float("nan")})
  assert found.weights == [f"trained/{path}", f"ema/{path}"]
  assert not found.losses and not found.gradients and not found.tasks
  assert f"({', '.join(found.weights)})" in str(found)


def test_the_tasks_whose_losses_overflow_are_named():
  """The velocity's weights are finite, their products are not."""
  path = "heads/velocity/kernel"

  def huge(params):
    x = params[path].astype(np.float64)
    return {path: (x / abs(x).max() * 3e38).astype(np.float32)}

  found = cause(huge)
  assert found.tasks == ["drawing", "editing"] and not found.weights
  assert {"loss/drawing", "loss/editing", "loss/total"} <= {*found.losses}
  assert "loss/understanding" not in found.losses
  assert path in found.gradients
  assert "the loss of drawing and editing is not finite" in str(found)


def test_a_list_of_names_is_cut():
  found = diagnosis.Cause(
    losses=(), gradients=[*"abcdefg"], weights=(), tasks=("editing",)
  )
  assert str(found) == (
    "the gradient of editing is not finite; gradients of a, b, c, d, e and 2 "
    "more are not"
  )
