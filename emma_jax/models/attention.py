"""Rotary positions and attention under a mask made from ids."""

from collections.abc import Sequence
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np

from emma_jax.models import flash, masks, partition
from emma_jax.models.flash_xla import MASKED
from emma_jax.structs import TokenIds

# The choices of the config key `attention`; see `attend`.
PATHS = ("auto", "plain", "chunked", "kernel", "cudnn")
# Scores of a head that the plain path may make: 4 MB in float32 on a CPU.
# Elsewhere they cross the memory for every step of the softmax, forward and
# backward; of the vision tower's 1,024 patches that was half the tower's time.
PLAIN_SCORES = 2**20
PLAIN_SCORES_ON_CHIPS = 2**17


def rope(x_BLHE: jax.Array, position_BL: jax.Array, theta: float) -> jax.Array:
  """Rotates head halves by the token's position (Qwen3: half rotation)."""
  cos, sin = (
    x.astype(x_BLHE.dtype)[:, :, None]
    for x in rotations(position_BL, x_BLHE.shape[-1], theta)
  )
  first, second = jnp.split(x_BLHE, 2, axis=-1)
  return jnp.concatenate(
    [first * cos - second * sin, second * cos + first * sin], axis=-1
  )


def rotations(
  position_BL: jax.Array, width: int, theta: float
) -> tuple[jax.Array, jax.Array]:
  """Cosines and sines (B, L, width / 2) of RoPE, float32: bfloat16 angles are
  wrong by whole turns beyond position 256."""
  # In numpy, so that no compiler folds the powers with another rounding; and
  # these in float64, as numpy's float32 powers are off by a bit in one of six.
  # One bit is 2e-3 radians at position 40959. torch rounds them rightly.
  exponent = np.arange(0, width, 2, dtype=np.float32) / np.float32(width)
  power = np.float64(theta) ** exponent.astype(np.float64)
  inverse = np.float32(1.0) / power.astype(np.float32)
  angle_BLE = position_BL[..., None].astype(jnp.float32) * inverse[None, None]
  return jnp.cos(angle_BLE), jnp.sin(angle_BLE)


def attend(
  q_BLHE: jax.Array,
  k_BSKE: jax.Array,
  v_BSKE: jax.Array,
  query: TokenIds | None,
  key: TokenIds | None,
  path: str = "auto",
) -> jax.Array:
  """Grouped-query attention; each key head serves H / K consecutive heads.

  Scores, mask and softmax are float32; the result has the dtype of `q_BLHE`.
  Queries that see nothing (padding) give 0, and no gradient to anything. With
  None for the ids, all see all. What a remat policy may keep as "attn_out" is
  named here, once, in the layout in which it is made.

  `path`, one of `PATHS`, changes speed and memory only:
    plain    makes all L x S scores; best for short rows.
    chunked  some queries at a time, in plain XLA.
    kernel   on TPUs and Hopper GPUs a Pallas kernel, elsewhere chunked.
    cudnn    NVIDIA's library, 16 bits only; makes a mask of L x S.
    auto     plain up to `PLAIN_SCORES` (`PLAIN_SCORES_ON_CHIPS`) scores a
             head; beyond, cudnn where `flash.gpu_path` says so, else kernel.
  """
  chex.assert_equal_shape((k_BSKE, v_BSKE))
  chex.assert_equal_shape_prefix((q_BLHE, k_BSKE), 1)
  path = _chosen(
    path, q_BLHE, q_BLHE.shape[1] * k_BSKE.shape[1], masked=query is not None
  )
  if path in ("plain", "cudnn"):
    way = _plain if path == "plain" else _cudnn
    out_BLHE = way(q_BLHE, k_BSKE, v_BSKE, query, key)
    return partition.save_residual_flat(out_BLHE, "attn_out")
  if query is None:
    query, key = (
      masks.together(jnp.ones(x.shape[:2], jnp.int32)) for x in (q_BLHE, k_BSKE)
    )
  kernels = flash.CHUNKED if path == "chunked" else flash.kernel(q_BLHE)
  return flash.attention((q_BLHE,), k_BSKE, v_BSKE, (query,), key, kernels)[0]


def attend_each(
  qs: Sequence[jax.Array],
  k_BSKE: jax.Array,
  v_BSKE: jax.Array,
  queries: Sequence[TokenIds],
  key: TokenIds,
  path: str = "auto",
) -> Sequence[jax.Array]:
  """`attend` for queries that lie in several buffers, (B, L, H, E) each.

  Kernels take one buffer after the other, as to join and to cut them would cost
  a copy each; other paths take all at once.
  """
  lengths = [q.shape[1] for q in qs]
  scores = sum(lengths) * k_BSKE.shape[1]
  if _chosen(path, qs[0], scores, masked=True) == "kernel":
    # A buffer may be empty, as Und's is in a denoising step.
    filled = [(q, ids) for q, ids in zip(qs, queries) if q.shape[1]]
    some, ids = (tuple(x) for x in zip(*filled))
    outs = iter(
      flash.attention(some, k_BSKE, v_BSKE, ids, key, flash.kernel(qs[0]))
    )
    return [next(outs) if n else q for q, n in zip(qs, lengths)]
  out_BLHE = attend(
    jnp.concatenate(qs, axis=1), k_BSKE, v_BSKE, masks.join(*queries), key, path
  )
  return jnp.split(out_BLHE, np.cumsum(lengths)[:-1], axis=1)


def _chosen(path: str, q_BLHE: jax.Array, scores: int, masked: bool) -> str:
  """What "auto" stands for at that many scores of such a head."""
  check_path(path)
  if path != "auto":
    return path
  on_cpu = partition.platform() == "cpu"
  few = PLAIN_SCORES if on_cpu else PLAIN_SCORES_ON_CHIPS
  if scores <= few:
    return "plain"
  on_gpu = flash.gpu_path(
    partition.capability(), q_BLHE.dtype, q_BLHE.shape[-1], masked
  )
  return "cudnn" if on_gpu == "cudnn" else "kernel"


def check_path(path: str) -> None:
  """Raises ValueError unless `path` is one of `PATHS`."""
  if path not in PATHS:
    raise ValueError(f"Unknown attention={path!r}; choose one of {PATHS}.")


def _plain(q_BLHE, k_BSKE, v_BSKE, query, key) -> jax.Array:
  groups = q_BLHE.shape[2] // k_BSKE.shape[2]
  B, L, H, E = q_BLHE.shape
  q_BLKQE = q_BLHE.reshape(B, L, H // groups, groups, E)
  scores_BKQLS = jnp.einsum(
    "BLKQE,BSKE->BKQLS", q_BLKQE, k_BSKE, preferred_element_type=jnp.float32
  ) * np.float32(E**-0.5)
  if query is not None:
    mask_BLS = masks.allow(query, key)
    scores_BKQLS = jnp.where(mask_BLS[:, None, None], scores_BKQLS, MASKED)
  probs_BKQLS = jax.nn.softmax(scores_BKQLS, axis=-1).astype(v_BSKE.dtype)
  out_BLKQE = jnp.einsum("BKQLS,BSKE->BLKQE", probs_BKQLS, v_BSKE)
  if query is not None:
    # Where nothing is seen the softmax is even over everything.
    sees_BL = mask_BLS.any(axis=-1)
    out_BLKQE = jnp.where(sees_BL[:, :, None, None, None], out_BLKQE, 0)
  return out_BLKQE.reshape(B, L, H, E).astype(q_BLHE.dtype)


def _cudnn(q_BLHE, k_BSKE, v_BSKE, query, key) -> jax.Array:
  attention = functools.partial(
    jax.nn.dot_product_attention, implementation="cudnn"
  )
  if query is None:
    # On a mesh as the kernels: nothing of it is left to a partitioner.
    return flash.on_mesh(attention, *k_BSKE.shape[::2])(q_BLHE, k_BSKE, v_BSKE)
  mask_BLS = masks.allow(query, key)
  out_BLHE = attention(q_BLHE, k_BSKE, v_BSKE, mask=mask_BLS[:, None])
  sees_BL = mask_BLS.any(axis=-1)
  return jnp.where(sees_BL[..., None, None], out_BLHE, 0)
