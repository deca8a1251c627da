"""Losses as sums and counts (paper section 5: next token, velocity)."""

import functools

import chex
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from emma_jax.models import partition
from emma_jax.structs import GEN_TASKS, Array, Mean


def next_token(
  logits_BUV: jax.Array, targets_BU: Array, weights_BU: Array
) -> tuple[Mean, Mean]:
  """Cross-entropy in nats per answer token, and the share predicted right."""
  chex.assert_equal_shape_prefix((logits_BUV, targets_BU, weights_BU), 2)
  logits_BUV = logits_BUV.astype(jnp.float32)
  picked_BU = jnp.take_along_axis(logits_BUV, targets_BU[..., None], axis=-1)[
    ..., 0
  ]
  loss_BU = jax.nn.logsumexp(logits_BUV, axis=-1) - picked_BU
  right_BU = jnp.argmax(logits_BUV, axis=-1) == targets_BU
  count = jnp.sum(weights_BU)
  return (
    Mean(jnp.sum(loss_BU * weights_BU), count),
    Mean(jnp.sum(right_BU * weights_BU), count),
  )


def next_token_of(
  hidden_BUD: jax.Array,
  head_VD: jax.Array,
  targets_BU: Array,
  weights_BU: Array,
  *,
  chunk: int,
) -> tuple[Mean, Mean]:
  """`next_token` of `hidden @ head.T`, of at most `chunk` tokens at a time (of
  equal logits the chunked way counts any as right).

  The logits of a whole batch would be the largest array of all. Weights get no
  gradient.
  """
  chex.assert_equal_shape_prefix((hidden_BUD, targets_BU, weights_BU), 2)
  if partition.is_unsharded() and targets_BU.size <= chunk:
    logits_BUV = jnp.einsum(
      "...D,VD->...V",
      hidden_BUD,
      head_VD.astype(hidden_BUD.dtype),
      preferred_element_type=jnp.float32,
    )
    return next_token(logits_BUV, targets_BU, weights_BU)
  sums = _chunked(hidden_BUD, head_VD, targets_BU, weights_BU, chunk)
  count = jnp.sum(weights_BU)
  return Mean(sums[0], count), Mean(sums[1], count)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def _chunked(hidden_BUD, head_VD, targets_BU, weights_BU, chunk: int):
  """(summed loss, summed hits)."""
  return _on_mesh(hidden_BUD, head_VD, targets_BU, weights_BU, chunk, False)[0]


def _chunked_forward(hidden_BUD, head_VD, targets_BU, weights_BU, chunk: int):
  # The gradient of a sum of losses needs nothing from behind it but a factor,
  # so it is made at once: the logits are never made twice.
  sums, grads = _on_mesh(
    hidden_BUD, head_VD, targets_BU, weights_BU, chunk, True
  )
  return sums, grads


def _chunked_backward(chunk: int, grads, cotangent):
  del chunk
  scaled = lambda x: (x * cotangent[0]).astype(x.dtype)
  return scaled(grads[0]), scaled(grads[1]), None, None


_chunked.defvjp(_chunked_forward, _chunked_backward)


def _on_mesh(
  hidden_BUD, head_VD, targets_BU, weights_BU, chunk: int, differentiate: bool
):
  """Sums over all devices and, if asked, the gradients of the loss's sum.

  Each device takes its own tokens and the whole head; the head's gradient is
  summed over its chunks in float32 and crosses the network once, in the dtype
  of the computation.
  """
  if partition.is_unsharded():
    return _local(
      hidden_BUD, head_VD, targets_BU, weights_BU, chunk, differentiate
    )
  split = partition.split_axes(head_VD.shape, ("vocab", "embed"))
  batch = partition.mesh_axes("rows")
  # Tensor-parallel devices hold the same rows: they take parts of them.
  others = partition.mesh_axes("vocab")
  assert batch is not None and others is not None  # `is_unsharded` has asked
  every = (*batch, *others)
  tokens = PartitionSpec(batch, others)
  hidden = PartitionSpec(batch, others, None)
  head = PartitionSpec(*split)

  def device(hidden_BUD, part, targets_BU, weights_BU):
    whole = part.astype(hidden_BUD.dtype)
    for axis, names in enumerate(split):
      if names:
        whole = jax.lax.all_gather(whole, names, axis=axis, tiled=True)
    sums, grads = _local(
      hidden_BUD, whole, targets_BU, weights_BU, chunk, differentiate
    )
    sums = jax.lax.psum(sums, every)
    if not differentiate:
      return sums, ()
    grad = grads[1].astype(hidden_BUD.dtype)
    for axis, names in enumerate(split):
      if names:
        grad = jax.lax.psum_scatter(
          grad, names, scatter_dimension=axis, tiled=True
        )
    scattered = [a for names in split for a in names or ()]
    left = tuple(a for a in every if a not in scattered)
    grad = jax.lax.psum(grad, left) if left else grad
    return sums, (grads[0], grad.astype(part.dtype))

  whole = PartitionSpec()
  return jax.shard_map(
    device,
    in_specs=(hidden, head, tokens, tokens),
    out_specs=((whole, whole), (hidden, head) if differentiate else ()),
    check_vma=False,
  )(hidden_BUD, head_VD, targets_BU, weights_BU)


def _local(
  hidden_BUD, head_VD, targets_BU, weights_BU, chunk: int, differentiate: bool
):
  """`_on_mesh` on one device's tokens, by a scan over chunks of them."""
  B, U, D = hidden_BUD.shape
  V = head_VD.shape[0]
  chunk = min(chunk, B * U)
  count = -(-B * U // chunk)
  pad = count * chunk - B * U

  def chunks(x):
    flat = x.reshape(B * U, *x.shape[2:])
    flat = jnp.pad(flat, [(0, pad)] + [(0, 0)] * (flat.ndim - 1))
    return flat.reshape(count, chunk, *flat.shape[1:])

  low_VD = head_VD.astype(hidden_BUD.dtype)

  def body(carry, x):
    loss, right, grad_VD = carry
    x_LD, target_L, weight_L = x
    logits_LV = jnp.einsum(
      "LD,VD->LV", x_LD, low_VD, preferred_element_type=jnp.float32
    )
    # As `next_token`, but with no search for the greatest, which would be one
    # more pass over all logits: of equal ones any is right.
    picked_L = jnp.take_along_axis(logits_LV, target_L[:, None], axis=-1)[:, 0]
    highest_L = logits_LV.max(axis=-1)
    exp_LV = jnp.exp(logits_LV - highest_L[:, None])
    total_L = exp_LV.sum(axis=-1)
    loss_L = highest_L + jnp.log(total_L) - picked_L
    loss += jnp.sum(loss_L * weight_L)
    right += jnp.sum((picked_L == highest_L) * weight_L)
    if not differentiate:
      return (loss, right, grad_VD), ()
    # Softmax less the one that is right, in the dtype of the matrix products.
    here_LV = jnp.arange(V)[None] == target_L[:, None]
    slope_LV = (exp_LV / total_L[:, None] - here_LV) * weight_L[:, None]
    slope_LV = slope_LV.astype(x_LD.dtype)
    grad_VD = grad_VD + jnp.einsum(
      "LV,LD->VD", slope_LV, x_LD, preferred_element_type=jnp.float32
    )
    return (loss, right, grad_VD), slope_LV @ low_VD

  zero = jnp.float32(0)
  shape = (V, D) if differentiate else ()
  carry = (zero, zero, jnp.zeros(shape, jnp.float32))
  (loss, right, grad_VD), grad_ = jax.lax.scan(
    body, carry, tuple(map(chunks, (hidden_BUD, targets_BU, weights_BU)))
  )
  if not differentiate:
    return (loss, right), ()
  grad_BUD = grad_.reshape(-1, D)[: B * U].reshape(B, U, D)
  return (loss, right), (grad_BUD, grad_VD.astype(head_VD.dtype))


def squared_error(
  predicted_BMTC: jax.Array, target_BMTC: jax.Array, valid_BMT: Array
):
  """Mean squared error per picture (B, M), float32, over its valid tokens.

  0 for a picture without any.
  """
  chex.assert_rank(predicted_BMTC, 4)
  chex.assert_equal_shape((predicted_BMTC, target_BMTC))
  chex.assert_equal_shape_prefix((predicted_BMTC, valid_BMT), 3)
  error = predicted_BMTC.astype(jnp.float32) - target_BMTC
  valid_BMT = valid_BMT.astype(jnp.float32)
  used_BM = jnp.maximum(jnp.sum(valid_BMT, axis=-1), 1.0)
  # A whole picture's mean is multiplied by 1: not another sum, rounded
  # otherwise.
  error_BM = jnp.mean(error * error * valid_BMT[..., None], axis=(-2, -1))
  return error_BM * (valid_BMT.shape[-1] / used_BM)


def per_task(error_BM: jax.Array, task_BM: Array) -> dict[str, Mean]:
  """The velocity error of each task of pictures, one count per picture."""
  chex.assert_equal_shape((error_BM, task_BM))
  out = {}
  for name, code in GEN_TASKS.items():
    mask = (task_BM == code).astype(jnp.float32)
    out[name] = Mean(jnp.sum(error_BM * mask), jnp.sum(mask))
  return out


def per_time(
  error_BM: jax.Array, time_BM: jax.Array, task_BM: Array, bins: int
) -> dict[str, Mean]:
  """The velocity error in equal bins of the flow time, 0 clean to 1 noise."""
  chex.assert_equal_shape((error_BM, time_BM, task_BM))
  index = jnp.clip((time_BM * bins).astype(jnp.int32), 0, bins - 1)
  out = {}
  for b in range(bins):
    mask = ((index == b) & (task_BM > 0)).astype(jnp.float32)
    name = f"time_{b / bins:.2f}_{(b + 1) / bins:.2f}"
    out[name] = Mean(jnp.sum(error_BM * mask), jnp.sum(mask))
  return out


def confusion(
  chosen_BN: jax.Array, label_BN: Array, valid_BN: Array, experts: int
):
  """Labelled pictures by (label, choice): float32 (experts, experts).

  `chosen_BN`: the number of the expert that a picture goes to.
  """
  chex.assert_equal_shape((chosen_BN, label_BN, valid_BN))
  known_BN = valid_BN.astype(bool) & (label_BN >= 0)
  one_hot = lambda x: jax.nn.one_hot(x.astype(jnp.int32), experts)
  return jnp.einsum(
    "BN,BNi,BNj->ij",
    known_BN.astype(jnp.float32),
    one_hot(label_BN),
    one_hot(chosen_BN),
    precision="highest",
  )


def label(
  logits_BNe: jax.Array, label_BN: Array, valid_BN: Array
) -> tuple[Mean, Mean]:
  """Router cross-entropy over labelled pictures (label >= 0), and accuracy."""
  weight_BN = labelled(label_BN, valid_BN)
  return next_token(logits_BNe, jnp.maximum(label_BN, 0), weight_BN)


def labelled(label_BN: Array, valid_BN: Array) -> jax.Array:
  """1 where there is a picture with a label, else 0; float32."""
  chex.assert_equal_shape((label_BN, valid_BN))
  valid_BN = jnp.asarray(valid_BN, bool)
  return (valid_BN & (label_BN >= 0)).astype(jnp.float32)
