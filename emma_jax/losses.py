"""Losses as sums and counts (paper section 5: next token, velocity)."""

import jax
import jax.numpy as jnp

from emma_jax.structs import DRAWING, EDITING, Mean


def next_token(
    logits_BUV: jax.Array, targets_BU: jax.Array, weights_BU: jax.Array
) -> tuple[Mean, Mean]:
  """Cross-entropy in nats per answer token, and the share predicted right."""
  logits_BUV = logits_BUV.astype(jnp.float32)
  picked_BU = jnp.take_along_axis(
      logits_BUV, targets_BU[..., None], axis=-1
  )[..., 0]
  loss_BU = jax.nn.logsumexp(logits_BUV, axis=-1) - picked_BU
  right_BU = jnp.argmax(logits_BUV, axis=-1) == targets_BU
  count = jnp.sum(weights_BU)
  return (Mean(jnp.sum(loss_BU * weights_BU), count),
          Mean(jnp.sum(right_BU * weights_BU), count))


def squared_error(predicted_BMTC: jax.Array, target_BMTC: jax.Array):
  """Mean squared error per picture (B, M), float32."""
  error = predicted_BMTC.astype(jnp.float32) - target_BMTC
  return jnp.mean(error * error, axis=(-2, -1))


def per_task(error_BM: jax.Array, task_BM: jax.Array) -> dict[str, Mean]:
  """The velocity error of drawing and editing, one count per picture."""
  out = {}
  for name, code in (("drawing", DRAWING), ("editing", EDITING)):
    mask = (task_BM == code).astype(jnp.float32)
    out[name] = Mean(jnp.sum(error_BM * mask), jnp.sum(mask))
  return out


def per_time(
    error_BM: jax.Array, time_BM: jax.Array, task_BM: jax.Array, bins: int
) -> dict[str, Mean]:
  """The velocity error in equal bins of the flow time, 0 clean to 1 noise."""
  index = jnp.clip((time_BM * bins).astype(jnp.int32), 0, bins - 1)
  out = {}
  for b in range(bins):
    mask = ((index == b) & (task_BM > 0)).astype(jnp.float32)
    name = f"time_{b / bins:.2f}_{(b + 1) / bins:.2f}"
    out[name] = Mean(jnp.sum(error_BM * mask), jnp.sum(mask))
  return out


def label(
    logits_BN2: jax.Array, label_BN: jax.Array, valid_BN: jax.Array
) -> tuple[Mean, Mean]:
  """Router cross-entropy over labelled pictures (label >= 0), and accuracy."""
  weight = (valid_BN.astype(bool) & (label_BN >= 0)).astype(jnp.float32)
  return next_token(logits_BN2, jnp.maximum(label_BN, 0), weight)
