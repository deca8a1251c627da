"""The whole published SigLIP vision model: the tower and its pooling head.

EMMA keeps the tower only. The head is here so that an import can be proved
equal to transformers' `SiglipVisionModel` and `Siglip2VisionModel` to the last
output, and so that an export is complete.

Axes: P pictures, N groups of patches to pool (a row's pictures), T tokens, D
width, H heads, E head width, Z hidden states.
"""

import dataclasses
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from emma_jax.models import layers, siglip2
from emma_jax.models.flash_xla import MASKED


class PoolingHead(nn.Module):
  """Attention pooling: one learned query, `probe`, looks at the patches.

  `in_kernel` (D, 3 D) and `in_bias` hold query, key and value side by side, as
  torch's MultiheadAttention does. The MLP's residual is the attention's output
  itself; nothing is added from the probe.
  """

  config: siglip2.SiglipConfig

  @nn.compact
  def __call__(
    self, x_PTD: jax.Array, member_PNT: jax.Array | None = None
  ) -> jax.Array:
    """(P, T, D) -> (P, N, D): one vector for each of N groups of patches.

    member_PNT: which patches are of which group; None: one group of all.
    """
    c = self.config
    probe_D = layers.weight(
      self, "probe", (c.width,), ("embed",), layers.normal(1.0)
    )
    kernel = layers.weight(
      self, "in_kernel", (c.width, 3 * c.width), ("embed", "heads")
    )
    bias = layers.weight(
      self, "in_bias", (3 * c.width,), ("heads",), layers.zeros
    )
    w, b = jnp.split(kernel, 3, axis=1), jnp.split(bias, 3)
    shape = (*x_PTD.shape[:2], c.num_heads, c.head_dim)
    q_D = layers.linear(probe_D.astype(x_PTD.dtype), w[0], b[0])
    q_HE = q_D.reshape(c.num_heads, c.head_dim)
    k_PTHE = layers.linear(x_PTD, w[1], b[1]).reshape(shape)
    v_PTHE = layers.linear(x_PTD, w[2], b[2]).reshape(shape)
    scores_PNHT = jnp.einsum(
      "HE,PTHE->PHT", q_HE, k_PTHE, preferred_element_type=jnp.float32
    )[:, None] * np.float32(c.head_dim**-0.5)
    if member_PNT is not None:
      scores_PNHT = jnp.where(member_PNT[:, :, None], scores_PNHT, MASKED)
    probs_PNHT = jax.nn.softmax(scores_PNHT, axis=-1).astype(x_PTD.dtype)
    y_PNHE = jnp.einsum("PNHT,PTHE->PNHE", probs_PNHT, v_PTHE)
    y_PND = y_PNHE.reshape(*y_PNHE.shape[:2], c.width)
    y_PND = layers.Linear(c.width, ("heads", "embed"), name="out")(y_PND)
    z_PND = layers.LayerNorm(c.norm_eps, name="norm")(y_PND)
    return y_PND + siglip2.Mlp(c, name="mlp")(z_PND)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SiglipVisionConfig:
  """A published vision model: the tower and what EMMA does not use of it.

  pool_head: whether there is an attention-pool head.
  margin: pixels of the training size beyond whole patches, which are dropped
    (384 = 27 * 14 + 6); kept for the export only.
  """

  encoder: siglip2.SiglipConfig
  pool_head: bool = True
  margin: int = 0

  def __post_init__(self):
    if not 0 <= self.margin < self.encoder.patch_size:
      raise ValueError(
        f"{self.margin=} must be less than a patch of"
        f" {self.encoder.patch_size} pixels."
      )


class VisionOutput(NamedTuple):
  """What a vision model returns.

  patches_PTD: after the post norm.
  pooled_PD: of each picture; None without a pool head.
  states_ZPTD: every hidden state, see `siglip2.trunk`; None if not asked for.
  """

  patches_PTD: jax.Array
  pooled_PD: jax.Array | None
  states_ZPTD: jax.Array | None


class SiglipVision(nn.Module):
  """The whole vision model: the subtrees of `SiglipEncoder`, and `head`.

  Equals transformers' `SiglipVisionModel` and, one picture size per call,
  `Siglip2VisionModel`; `naflex.PackedVision` takes mixed sizes.
  """

  config: SiglipVisionConfig

  @nn.compact
  def __call__(
    self,
    pixels_PYXC: jax.Array,
    valid_PT: jax.Array | None = None,
    hidden_states: bool = True,
  ) -> VisionOutput:
    """Pictures in [-1, 1] of any one size -> features, see `VisionOutput`.

    valid_PT: patches that may be attended to and pooled; None: all.
    """
    c = self.config.encoder
    x_PhwD = siglip2.Embed(c, name="embed")(pixels_PYXC)
    x_PTD = x_PhwD.reshape(x_PhwD.shape[0], -1, c.width)
    x_PTD, states = siglip2.trunk(c, x_PTD, valid_PT, hidden_states)
    pooled_PD = None
    if self.config.pool_head:
      member = None if valid_PT is None else valid_PT[:, None]
      pooled_PD = PoolingHead(c, name="head")(x_PTD, member)[:, 0]
    return VisionOutput(x_PTD, pooled_PD, states)
