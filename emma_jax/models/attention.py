"""Rotary positions and attention under a mask made from ids."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from emma_jax.models import flash, masks, partition
from emma_jax.models.flash_xla import MASKED
from emma_jax.structs import Ids

# The choices of the config key `attention`; see `attend`.
PATHS = ("auto", "plain", "chunked", "kernel", "cudnn")
# Scores of a head that the plain path may make: 4 MB in float32 on a CPU.
# Elsewhere they cross the memory for every step of the softmax, forward and
# backward; of the vision tower's 1,024 patches that was half the tower's time.
PLAIN_SCORES = 2**20
PLAIN_SCORES_ON_CHIPS = 2**17


def rope(x_BHLE: jax.Array, position_BL: jax.Array, theta: float) -> jax.Array:
  """Rotates head halves by the token's position (Qwen3: half rotation).

  Angles, sines and cosines are float32, then cast: bfloat16 angles are wrong
  by whole turns beyond position 256.
  """
  width = x_BHLE.shape[-1]
  # In numpy, so that no compiler folds the powers with another rounding; and
  # these in float64, as numpy's float32 powers are off by a bit in one of six.
  # One bit is 2e-3 radians at position 40959. torch rounds them rightly.
  exponent = np.arange(0, width, 2, dtype=np.float32) / np.float32(width)
  power = np.float64(theta) ** exponent.astype(np.float64)
  inverse = np.float32(1.0) / power.astype(np.float32)
  angle_BLF = position_BL[..., None].astype(jnp.float32) * inverse[None, None]
  cos = jnp.cos(angle_BLF)[:, None].astype(x_BHLE.dtype)
  sin = jnp.sin(angle_BLF)[:, None].astype(x_BHLE.dtype)
  first, second = jnp.split(x_BHLE, 2, axis=-1)
  return jnp.concatenate(
      [first * cos - second * sin, second * cos + first * sin], axis=-1
  )


def attend(
    q_BHLE: jax.Array,
    k_BKSE: jax.Array,
    v_BKSE: jax.Array,
    query: Ids | None,
    key: Ids | None,
    path: str = "auto",
) -> jax.Array:
  """Grouped-query attention; each key head serves H / K consecutive heads.

  Arrays are head-major, as kernels want them: made and kept so, nothing has to
  be transposed.

  Scores, mask and softmax are float32; the result has the dtype of `q_BHLE`.
  Queries that see nothing (padding) give 0, and no gradient to anything. With
  None for the ids, all see all. What a remat policy may keep as "attn_out" is
  named here, once, in the layout in which it is made.

  `path`, one of `PATHS`, changes speed and memory only:
    plain    makes all L x S scores; best for short rows.
    chunked  some queries at a time, in plain XLA.
    kernel   on TPUs and NVIDIA GPUs a Pallas kernel, elsewhere chunked.
    cudnn    NVIDIA's library, 16 bits only; makes a mask of L x S.
    auto     plain up to `PLAIN_SCORES` (`PLAIN_SCORES_ON_CHIPS`) scores a
             head, kernel beyond.
  """
  check_path(path)
  if path == "auto":
    on_cpu = partition.platform() == "cpu"
    few = PLAIN_SCORES if on_cpu else PLAIN_SCORES_ON_CHIPS
    scores = q_BHLE.shape[2] * k_BKSE.shape[2]
    path = "plain" if scores <= few else "kernel"
  if path in ("plain", "cudnn"):
    way = _plain if path == "plain" else _cudnn
    return partition.keep(way(q_BHLE, k_BKSE, v_BKSE, query, key), "attn_out")
  if query is None:
    query, key = (
        masks.together(jnp.ones((x.shape[0], x.shape[2]), jnp.int32))
        for x in (q_BHLE, k_BKSE))
  way = flash.CHUNKED if path == "chunked" else flash.KERNEL
  return flash.attention(q_BHLE, k_BKSE, v_BKSE, query, key, way)


def check_path(path: str) -> None:
  """Raises ValueError unless `path` is one of `PATHS`."""
  if path not in PATHS:
    raise ValueError(f"Unknown attention={path!r}; choose one of {PATHS}.")


def _plain(q_BHLE, k_BKSE, v_BKSE, query, key) -> jax.Array:
  # Products in this order round as those did that made the packaged weights.
  q_BLHE, k_BSKE, v_BSKE = (
      x.swapaxes(1, 2) for x in (q_BHLE, k_BKSE, v_BKSE))
  groups = q_BLHE.shape[2] // k_BSKE.shape[2]
  B, L, H, E = q_BLHE.shape
  q_BLKGE = q_BLHE.reshape(B, L, H // groups, groups, E)
  scores_BKGLS = jnp.einsum(
      "BLKGE,BSKE->BKGLS", q_BLKGE, k_BSKE,
      preferred_element_type=jnp.float32,
  ) * np.float32(E**-0.5)
  if query is not None:
    mask_BLS = masks.allow(query, key)
    scores_BKGLS = jnp.where(mask_BLS[:, None, None], scores_BKGLS, MASKED)
  probs_BKGLS = jax.nn.softmax(scores_BKGLS, axis=-1).astype(v_BSKE.dtype)
  out_BLKGE = jnp.einsum("BKGLS,BSKE->BLKGE", probs_BKGLS, v_BSKE)
  if query is not None:
    # Where nothing is seen the softmax is even over everything.
    sees_BL = mask_BLS.any(axis=-1)
    out_BLKGE = jnp.where(sees_BL[:, :, None, None, None], out_BLKGE, 0)
  return out_BLKGE.reshape(B, L, H, E).astype(q_BHLE.dtype).swapaxes(1, 2)


def _cudnn(q_BHLE, k_BKSE, v_BKSE, query, key) -> jax.Array:
  q_BLHE, k_BSKE, v_BSKE = (
      x.swapaxes(1, 2) for x in (q_BHLE, k_BKSE, v_BKSE))
  attention = functools.partial(
      jax.nn.dot_product_attention, implementation="cudnn")
  if query is None:
    return attention(q_BLHE, k_BSKE, v_BSKE).swapaxes(1, 2)
  mask_BLS = masks.allow(query, key)
  out_BLHE = attention(q_BLHE, k_BSKE, v_BSKE, mask=mask_BLS[:, None])
  sees_BL = mask_BLS.any(axis=-1)
  return jnp.where(sees_BL[..., None, None], out_BLHE, 0).swapaxes(1, 2)
