"""Noise and times of held-out targets: of each its own, always the same."""

import jax
import jax.numpy as jnp

from emma_jax import flow
from emma_jax.data.loading.held_out_batches import HeldOutBatch

# The ends of a distribution of times are at no finite number.
_END = 1e-4


def of_targets(
  held: HeldOutBatch,
  *,
  draws: int,
  shape: tuple[int, int],
  config: flow.FlowConfig,
) -> tuple[jax.Array, jax.Array]:
  """(times (B, M), noise (B, M, T, C)), float32; M slots after M slots.

  Args:
    held: the batch; its numbers decide, whatever place a target has.
    draws: noises and times of every target; the times are evenly apart in the
      distribution of the training's.
    shape: of a target's latents, (T, C).
    config: the distribution.
  """
  root = jax.random.key(0)

  def normal(stream: jax.Array, draw: int) -> jax.Array:
    key = jax.random.fold_in(jax.random.fold_in(root, stream), draw)
    return jax.random.normal(key, shape)

  of_slots = jax.vmap(jax.vmap(normal, (0, None)), (0, None))
  quantile_ = [(held.quantile_BM + d / draws) % 1.0 for d in range(draws)]
  quantile_BM = jnp.clip(jnp.concatenate(quantile_, axis=1), _END, 1 - _END)
  stream_BM = jnp.asarray(held.stream_BM)
  eps_BMTC = jnp.concatenate(
    [of_slots(stream_BM, d) for d in range(draws)], axis=1
  )
  return flow.quantile_time(quantile_BM, config), eps_BMTC
