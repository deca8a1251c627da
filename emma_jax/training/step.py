"""One training step, for every stage."""

from collections.abc import Callable
import functools
import zlib

import jax
import jax.numpy as jnp
import optax

from emma_jax import optimizer as optim
from emma_jax import rules, sharding
from emma_jax.structs import Batch, Mean
from emma_jax.training.objectives import Objective
from emma_jax.training.state import TrainState


def stream(seed: int, name: str, step) -> jax.Array:
  """The named random key of one step: independent of what else is drawn."""
  root = jax.random.fold_in(jax.random.key(seed), zlib.crc32(name.encode()))
  return jax.random.fold_in(root, step)


def make_step(
    objective: Objective,
    optimizer: optax.GradientTransformation,
    *,
    ema_decay: float,
    seed: int,
    name: str,
    mesh: jax.sharding.Mesh | None = None,
) -> Callable[[TrainState, Batch], tuple[TrainState, dict[str, Mean]]]:
  """The jitted step of one stage; the state is donated.

  With a `mesh` the batch's rows are split over it and the state is replicated.

  Frozen weights are absent from the gradient, the clipping norm, the optimizer
  and the average.
  """

  def step(state: TrainState, batch: Batch):
    draw = lambda key: stream(seed, f"{name}/{key}", state.step)

    def loss_of(trained: dict):
      params = rules.merge(trained, state.frozen)
      return objective(params, batch, draw)

    grad_of = jax.value_and_grad(loss_of, has_aux=True)
    (_, metrics), grads = grad_of(state.trained)
    updates, opt_state = optimizer.update(
        grads, state.opt_state, state.trained)
    trained = optax.apply_updates(state.trained, updates)
    ema = optim.ema_update(state.ema, trained, ema_decay, state.step)
    one = jnp.float32(1)
    metrics = metrics | {
        "norm/gradient": Mean(optax.global_norm(grads), one),
        "norm/update": Mean(optax.global_norm(updates), one),
    }
    state = state.replace(step=state.step + 1, trained=trained,
                          opt_state=opt_state, ema=ema)
    return state, metrics

  if mesh is None:
    return jax.jit(step, donate_argnums=0)
  whole = sharding.replicated(mesh)
  return jax.jit(
      step, donate_argnums=0, in_shardings=(whole, sharding.rows(mesh)),
      out_shardings=whole)


@functools.partial(jax.jit, static_argnums=0)
def evaluate_loss(objective: Objective, params: dict, batch: Batch, key):
  """Metrics of one batch without a gradient; times and noise from `key`."""
  draw = lambda name: jax.random.fold_in(key, zlib.crc32(name.encode()))
  return objective(params, batch, draw)[1]
