"""Rotary positions and attention under a mask made from ids."""

import jax
import jax.numpy as jnp
import numpy as np

from emma_jax.models import masks
from emma_jax.structs import Ids

# Finite, so that a row of padding gives finite garbage instead of NaN.
MASKED = -1e30


def rope(x_BLHE: jax.Array, position_BL: jax.Array, theta: float) -> jax.Array:
  """Rotates head halves by the token's position (Qwen3: half rotation).

  Angles, sines and cosines are float32, then cast: bfloat16 angles are wrong
  by whole turns beyond position 256.
  """
  width = x_BLHE.shape[-1]
  # In numpy, so that no compiler folds the powers with another rounding; and
  # these in float64, as numpy's float32 powers are off by a bit in one of six.
  # One bit is 2e-3 radians at position 40959. torch rounds them rightly.
  exponent = np.arange(0, width, 2, dtype=np.float32) / np.float32(width)
  power = np.float64(theta) ** exponent.astype(np.float64)
  inverse = np.float32(1.0) / power.astype(np.float32)
  angle_BLF = position_BL[..., None].astype(jnp.float32) * inverse[None, None]
  cos = jnp.cos(angle_BLF)[:, :, None, :].astype(x_BLHE.dtype)
  sin = jnp.sin(angle_BLF)[:, :, None, :].astype(x_BLHE.dtype)
  first, second = jnp.split(x_BLHE, 2, axis=-1)
  return jnp.concatenate(
      [first * cos - second * sin, second * cos + first * sin], axis=-1
  )


def attend(
    q_BLHE: jax.Array,
    k_BSKE: jax.Array,
    v_BSKE: jax.Array,
    query: Ids,
    key: Ids,
) -> jax.Array:
  """Grouped-query attention; each key head serves H / K consecutive heads.

  Scores, mask and softmax are float32; the result has the dtype of `q_BLHE`.
  """
  groups = q_BLHE.shape[2] // k_BSKE.shape[2]
  B, L, H, E = q_BLHE.shape
  q_BLKGE = q_BLHE.reshape(B, L, H // groups, groups, E)
  scores_BKGLS = jnp.einsum(
      "BLKGE,BSKE->BKGLS", q_BLKGE, k_BSKE,
      preferred_element_type=jnp.float32,
  ) * np.float32(E**-0.5)
  mask_BLS = masks.allow(query, key)
  scores_BKGLS = jnp.where(mask_BLS[:, None, None], scores_BKGLS, MASKED)
  probs_BKGLS = jax.nn.softmax(scores_BKGLS, axis=-1).astype(v_BSKE.dtype)
  out_BLKGE = jnp.einsum("BKGLS,BSKE->BLKGE", probs_BKGLS, v_BSKE)
  return out_BLKGE.reshape(B, L, H, E).astype(q_BLHE.dtype)
