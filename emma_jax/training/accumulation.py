"""Gradients of a batch that is computed in micro-batches, one after another.

The sum over micro-batches equals the whole batch's gradient but for rounding,
whatever the rows hold: losses are sums divided by counts of the whole batch,
taken before any pass, and times and noise are drawn for the whole batch.
"""

from collections.abc import Callable
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from emma_jax import rules
from emma_jax.models import partition
from emma_jax.structs import Batch, Mean
from emma_jax.training.objectives import Metrics, Objective, SummedObjective

# In the names of a program's operations, by which a planner finds the loop.
SCOPE = "micro_batches"


def gradients(
  objective: Objective,
  trained: dict,
  frozen: dict,
  batch: Batch,
  stream: Callable,
  *,
  accumulation: int,
  place: Callable[[dict], dict] = lambda grads: grads,
  weights: dict[str, jax.Array] | None = None,
) -> tuple[Metrics, dict]:
  """(metrics, gradients by the trained weights, float32) of a whole batch.

  The loss itself is the metric "loss/total".

  Args:
    objective: a `SummedObjective` with accumulation above 1, or `weights`.
    trained: nested weights that have gradients; `frozen` those that have none.
    batch: all rows; those of a device are a multiple of `accumulation`.
    stream: name -> random key.
    accumulation: micro-batches; memory for activations is that of one.
    place: puts gradients where the weights lie.
    weights: task -> factor beside its own on a task's loss; None: 1.
  """
  if accumulation == 1 and weights is None:
    loss_of = lambda t: objective(rules.merge(t, frozen), batch, stream)
    (loss, metrics), grads = jax.value_and_grad(loss_of, has_aux=True)(trained)
    return _with_total(metrics, loss), place(grads)
  assert isinstance(objective, SummedObjective)
  scale = objective.scale(batch)
  if weights is not None:
    both = {task: w * weights[task] for task, w in scale.weights.items()}
    scale = dataclasses.replace(scale, weights=both)
  micro = split_rows((batch, objective.random(batch, stream)), accumulation)

  def of_rows(rows):
    """((loss, metrics), gradients) of one micro-batch."""
    part, random = rows
    loss_of = lambda t: objective.part(
      rules.merge(t, frozen), part, random, scale
    )
    of_loss, grads = jax.value_and_grad(loss_of, has_aux=True)(trained)
    return of_loss, place(jax.tree.map(lambda g: g.astype(jnp.float32), grads))

  def add(sums, rows):
    return jax.tree.map(jnp.add, sums, of_rows(rows)), None

  (loss, metrics), grads = jax.tree.map(
    lambda x: jnp.zeros(x.shape, x.dtype),
    jax.eval_shape(of_rows, jax.tree.map(lambda x: x[0], micro)),
  )
  with jax.named_scope(SCOPE):
    sums, _ = jax.lax.scan(add, ((loss, metrics), place(grads)), micro)
  (loss, metrics), grads = sums
  return _with_total(metrics, loss), grads


def _with_total(metrics: Metrics, loss: jax.Array) -> Metrics:
  return metrics | {"loss/total": Mean(loss, jnp.float32(1))}


def split_rows(tree: Any, parts: int) -> Any:
  """Arrays (B, ...) as (parts, B / parts, ...): of each device's own rows the
  first, then the second stretch, ..., so that none goes to another device."""

  def split(tree):
    cut = lambda x: x.reshape(parts, x.shape[0] // parts, *x.shape[1:])
    return jax.tree.map(cut, tree)

  if partition.is_unsharded():
    return split(tree)
  rows = partition.mesh_axes("rows")
  return jax.shard_map(
    split, in_specs=PartitionSpec(rows), out_specs=PartitionSpec(None, rows)
  )(tree)
