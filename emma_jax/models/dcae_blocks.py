"""The blocks of DC-AE (Chen et al. 2024, arXiv 2410.10733).

Axes: P pictures, h and w rows and columns of features, C channels, T positions
(h * w), H groups of an attention, E channels of a group. Conventions follow
`diffusers.AutoencoderDC`, whose published weights fit unchanged.
"""

from collections.abc import Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from emma_jax.models import convolution, layers, partition

NORM_EPS = 1e-5
CONV_AXES = ("conv_in", "conv_out")  # of a 1x1 convolution
ACTIVATIONS = {
  "relu": jax.nn.relu,
  "relu6": jax.nn.relu6,
  "silu": jax.nn.silu,
  "swish": jax.nn.silu,
  "mish": jax.nn.mish,
  "gelu": lambda x: jax.nn.gelu(x, approximate=False),
}


class RmsNorm2d(nn.Module):
  """RMSNorm over the channels of each pixel, with a scale and a bias.

  `gain` is the scale's first value: small in residual branches, blocks start
  near the identity and a small autoencoder learns several times faster.
  """

  gain: float = 1.0

  @nn.compact
  def __call__(self, x_PhwC: jax.Array) -> jax.Array:
    """(P, h, w, C) -> (P, h, w, C), in the dtype of the input."""
    shape = x_PhwC.shape[-1:]
    start = nn.initializers.constant(self.gain)
    scale = layers.weight(self, "scale", shape, (None,), start)
    bias = layers.weight(self, "bias", shape, (None,), layers.zeros)
    y = layers.rms_norm(x_PhwC, scale, NORM_EPS)
    return y + layers.along_last(bias, y)


class BatchNorm(nn.Module):
  """Batch norm with fixed statistics: an affine map per channel.

  The running statistics are plain weights `mean` and `var`, in training too;
  no batch is ever averaged and no gradient reaches them (a trained variance
  could turn negative).
  """

  gain: float = 1.0

  @nn.compact
  def __call__(self, x_PhwC: jax.Array) -> jax.Array:
    """(P, h, w, C) -> (P, h, w, C), in the dtype of the input."""
    shape = x_PhwC.shape[-1:]
    start = nn.initializers.constant(self.gain)
    scale = layers.weight(self, "scale", shape, (None,), start)
    bias = layers.weight(self, "bias", shape, (None,), layers.zeros)
    mean = layers.weight(self, "mean", shape, (None,), layers.zeros)
    var = layers.weight(self, "var", shape, (None,), layers.ones)
    mean, var = jax.lax.stop_gradient((mean, var))
    # Weights may be bfloat16: their product must not be rounded to it.
    scale = jax.lax.rsqrt(var.astype(jnp.float32) + NORM_EPS) * scale
    y = x_PhwC.astype(jnp.float32)
    y = y - layers.along_last(mean, y)
    y = y * layers.along_last(scale, y) + layers.along_last(bias, y)
    return y.astype(x_PhwC.dtype)


NORMS = {"rms_norm": RmsNorm2d, "batch_norm": BatchNorm}


class ResBlock(nn.Module):
  """x + norm(conv2(act(conv1(x))))."""

  norm_type: str
  act_fn: str
  gain: float = 1.0

  @nn.compact
  def __call__(self, x_PhwC: jax.Array) -> jax.Array:
    """(P, h, w, C) -> (P, h, w, C), in the dtype of the input."""
    channels = x_PhwC.shape[-1]
    y = convolution.Conv3x3(channels, name="conv1")(x_PhwC)
    y = ACTIVATIONS[self.act_fn](y)
    y = convolution.Conv3x3(channels, use_bias=False, name="conv2")(y)
    return x_PhwC + NORMS[self.norm_type](self.gain, name="norm")(y)


class GluMbConv(nn.Module):
  """x + norm(1x1 of a gated, depthwise filtered, 4x wide hidden layer)."""

  expansion: int = 4
  gain: float = 1.0

  @nn.compact
  def __call__(self, x_PhwC: jax.Array) -> jax.Array:
    """(P, h, w, C) -> (P, h, w, C), in the dtype of the input."""
    channels = x_PhwC.shape[-1]
    hidden = self.expansion * channels
    inverted = layers.Linear(2 * hidden, CONV_AXES, name="inverted")
    y = jax.nn.silu(inverted(x_PhwC))
    y = convolution.Depthwise(3, name="depth")(y)
    value, gate = jnp.split(y, 2, axis=-1)
    y = value * jax.nn.silu(gate)
    y = layers.Linear(channels, CONV_AXES, use_bias=False, name="point")(y)
    return x_PhwC + RmsNorm2d(self.gain, name="norm")(y)


def linear_attention(
  q_PTHE: jax.Array, k_PTHE: jax.Array, v_PTHE: jax.Array
) -> jax.Array:
  """ReLU attention in time linear in T: sum_t relu(q).relu(k_t) v_t / sum_t.

  Float32 throughout, as in the reference; returns float32 (P, T, H, E). Equal
  to the T x T form, normalised by row sums, by associativity.
  """
  q = jax.nn.relu(q_PTHE.astype(jnp.float32))
  k = jax.nn.relu(k_PTHE.astype(jnp.float32))
  v = v_PTHE.astype(jnp.float32)
  kv_PHEE = jnp.einsum("PTHE,PTHF->PHEF", k, v)
  total = jnp.einsum("PTHE,PHEF->PTHF", q, kv_PHEE)
  mass = jnp.einsum("PTHE,PHE->PTH", q, k.sum(1))
  return total / (mass[..., None] + 1e-15)


def linear_attention_side_by_side(
  q_PTC: jax.Array, k_PTC: jax.Array, v_PTC: jax.Array, head_dim: int
) -> jax.Array:
  """`linear_attention` of groups that lie side by side in the channels.

  Returns float32 (P, T, C). Products are of all pairs of channels, of which
  those of two groups are dropped: H times as many, but on TPUs an axis of 32
  costs more, as it fills a quarter of the lanes and is moved in and out of
  them. There a product rounds float32 factors to bfloat16 (as of
  `linear_attention`), here also the sum of the keys; sums stay float32.
  """
  q = jax.nn.relu(q_PTC.astype(jnp.float32))
  k = jax.nn.relu(k_PTC.astype(jnp.float32))
  v = v_PTC.astype(jnp.float32)
  group_C = jnp.arange(q.shape[-1]) // head_dim
  same_CC = group_C[:, None] == group_C[None, :]
  kv_PCC = jnp.where(same_CC[None], jnp.einsum("PTC,PTD->PCD", k, v), 0.0)
  # For every channel of a group the group's.
  k_PCC = jnp.where(same_CC[None], k.sum(1)[:, :, None], 0.0)
  total = jnp.einsum("PTC,PCD->PTD", q, kv_PCC)
  return total / (jnp.einsum("PTC,PCD->PTD", q, k_PCC) + 1e-15)


class LinearAttention(nn.Module):
  """x + norm(projection of multi-scale ReLU linear attention).

  to_q, to_k and to_v are names only: their outputs are concatenated and cut
  into runs of 3 * head_dim channels, a group's q, k and v in turn (the layout
  of the published weights). Each scale adds a filtered copy of all groups.
  """

  head_dim: int
  scales: tuple[int, ...]
  norm_type: str
  gain: float = 1.0

  @nn.compact
  def __call__(self, x_PhwC: jax.Array) -> jax.Array:
    """(P, h, w, C) -> (P, h, w, C), in the dtype of the input."""
    channels = x_PhwC.shape[-1]
    inner = channels // self.head_dim * self.head_dim
    kernels = [
      layers.Kernel(
        (channels, inner),
        CONV_AXES,
        rounded_to=x_PhwC.dtype,
        name=f"to_{letter}",
      )()
      for letter in "qkv"
    ]
    scales = [
      ScaleProjection(
        3 * inner, self.head_dim, size, x_PhwC.dtype, name=f"scale{i}"
      )()
      for i, size in enumerate(self.scales)
    ]
    attend = _attend_side_by_side if partition.for_tpu() else _attend
    y = attend(x_PhwC, kernels, scales, self.head_dim)
    y = layers.Linear(channels, CONV_AXES, use_bias=False, name="to_out")(y)
    return x_PhwC + NORMS[self.norm_type](self.gain, name="norm")(y)


class Scale(NamedTuple):
  """What makes a scale's q, k and v: a filter, then a 1x1 map of every run."""

  filter_YXC: jax.Array
  kernel_HEE: jax.Array


class ScaleProjection(nn.Module):
  """Depthwise filter of q, k, v, then a 1x1 map within each run of head_dim.

  Weights `filter/kernel` (size, size, C) and `kernel` (C / head_dim, in, out).
  """

  channels: int
  head_dim: int
  size: int
  rounded_to: DTypeLike

  @nn.compact
  def __call__(self) -> Scale:
    """Both weights, float32 as they are kept."""
    kernel_HEE = layers.weight(
      self,
      "kernel",
      (self.channels // self.head_dim, self.head_dim, self.head_dim),
      (None, None, None),
      layers.fan_in(1),
      self.rounded_to,
    )
    filter_YXC = layers.Kernel(
      (self.size, self.size, self.channels),
      (None, None, None),
      layers.fan_in((0, 1)),
      self.rounded_to,
      name="filter",
    )()
    return Scale(filter_YXC, kernel_HEE)


def _attend(
  x_PhwC: jax.Array,
  kernels: Sequence[jax.Array],
  scales: Sequence[Scale],
  head_dim: int,
) -> jax.Array:
  """Attention at every scale: (P, h, w, C), the scales' channels in turn."""
  P, h, w, _ = x_PhwC.shape
  qkv = jnp.concatenate([layers.linear(x_PhwC, k) for k in kernels], axis=-1)
  branches = [qkv]
  for filter_YXC, kernel_HEE in scales:
    y = convolution.depthwise(qkv, filter_YXC)
    y = y.reshape(P, h, w, *kernel_HEE.shape[:2])
    y = jnp.einsum("PhwHE,HEF->PhwHF", y, kernel_HEE.astype(y.dtype))
    branches.append(y.reshape(qkv.shape))
  qkv = jnp.concatenate(branches, axis=-1)
  qkv = qkv.reshape(P, h * w, -1, 3, head_dim)
  y = linear_attention(qkv[..., 0, :], qkv[..., 1, :], qkv[..., 2, :])
  return y.astype(x_PhwC.dtype).reshape(P, h, w, -1)


def _attend_side_by_side(
  x_PhwC: jax.Array,
  kernels: Sequence[jax.Array],
  scales: Sequence[Scale],
  head_dim: int,
) -> jax.Array:
  """`_attend` with all groups' q in one array, all k and all v in others.

  The channels of the weights are put in order, so none of what is computed has
  to be; a 1x1 map of every group is a matrix with the groups on its diagonal.
  """
  P, h, w, _ = x_PhwC.shape
  # Gathered first: joining what is split over devices would move it twice.
  kernel = jnp.concatenate(
    [partition.constrain(k.astype(x_PhwC.dtype), None, None) for k in kernels],
    axis=-1,
  )
  qkv = [
    layers.linear(x_PhwC, _every_third(kernel, i, head_dim)) for i in range(3)
  ]
  branches = [qkv]
  for filter_YXC, kernel_HEE in scales:
    branches.append(
      [
        layers.linear(
          convolution.depthwise(y, _every_third(filter_YXC, i, head_dim)),
          _block_diagonal(kernel_HEE[i::3]),
        )
        for i, y in enumerate(qkv)
      ]
    )
  out = []
  for branch in branches:
    q, k, v = (part.reshape(P, h * w, -1) for part in branch)
    y = linear_attention_side_by_side(q, k, v, head_dim).astype(x_PhwC.dtype)
    out.append(y.reshape(P, h, w, -1))
  return jnp.concatenate(out, axis=-1)


def _every_third(x: jax.Array, first: int, run: int) -> jax.Array:
  """Of runs of channels the `first`, third after it, ...: q, k or v's."""
  y = x.reshape(*x.shape[:-1], -1, 3, run)[..., first, :]
  return y.reshape(*x.shape[:-1], -1)


def _block_diagonal(kernel_HEE: jax.Array) -> jax.Array:
  """(H, E, E) -> (H * E, H * E)."""
  H, E, _ = kernel_HEE.shape
  same_HH = jnp.eye(H, dtype=kernel_HEE.dtype)
  y = same_HH[:, None, :, None] * kernel_HEE[:, :, None, :]
  return y.reshape(H * E, H * E)


class EfficientVitBlock(nn.Module):
  """Linear attention, then the gated convolution; both are residual."""

  head_dim: int
  scales: tuple[int, ...]
  norm_type: str
  gain: float = 1.0

  @nn.compact
  def __call__(self, x_PhwC: jax.Array) -> jax.Array:
    """(P, h, w, C) -> (P, h, w, C), in the dtype of the input."""
    x_PhwC = LinearAttention(
      self.head_dim, self.scales, self.norm_type, self.gain, name="attention"
    )(x_PhwC)
    return GluMbConv(gain=self.gain, name="conv")(x_PhwC)


class Down(nn.Module):
  """Halves the sides: a convolution plus, as shortcut, means of the input.

  kind "conv" strides by 2; "pixel_unshuffle" convolves to a quarter of the
  channels and folds 2x2 pixels into them.
  """

  features: int
  kind: str
  shortcut: bool = True

  @nn.compact
  def __call__(self, x_PhwC: jax.Array) -> jax.Array:
    """(P, h, w, C) -> (P, h / 2, w / 2, features)."""
    if self.kind == "pixel_unshuffle":
      y = convolution.Conv3x3(self.features // 4, name="conv")(x_PhwC)
      y = convolution.space_to_depth(y)
    else:
      y = convolution.Conv3x3(self.features, stride=2, name="conv")(x_PhwC)
    if not self.shortcut:
      return y
    return y + convolution.folded_mean(x_PhwC, self.features)


class Up(nn.Module):
  """Doubles the sides: a convolution plus, as shortcut, repeats of the input.

  kind "interpolate" repeats pixels, then convolves; "pixel_shuffle" convolves
  to four times the channels and unfolds them into 2x2 pixels.
  """

  features: int
  kind: str
  shortcut: bool = True

  @nn.compact
  def __call__(self, x_PhwC: jax.Array) -> jax.Array:
    """(P, h, w, C) -> (P, 2 h, 2 w, features)."""
    if self.kind == "interpolate":
      y = jnp.repeat(jnp.repeat(x_PhwC, 2, axis=1), 2, axis=2)
      y = convolution.Conv3x3(self.features, name="conv")(y)
    else:
      y = convolution.Conv3x3(4 * self.features, name="conv")(x_PhwC)
      y = convolution.depth_to_space(y)
    if not self.shortcut:
      return y
    repeated = convolution.repeat_channels(x_PhwC, 4 * self.features)
    return y + convolution.depth_to_space(repeated)


class LatentNorm(nn.Module):
  """Per-channel weights `shift` and `scale` that give latents unit variance."""

  channels: int

  def setup(self):
    """Declares both weights."""
    shape = (self.channels,)
    self.shift = layers.weight(self, "shift", shape, (None,), layers.zeros)
    self.scale = layers.weight(self, "scale", shape, (None,), layers.ones)

  def __call__(self, raw_PhwC: jax.Array) -> jax.Array:
    """(raw - shift) * scale, in float32, in the dtype of the input."""
    y = raw_PhwC.astype(self.shift.dtype)
    y = y - layers.along_last(self.shift, y)
    y = y * layers.along_last(self.scale, y)
    return y.astype(raw_PhwC.dtype)

  def inverse(self, latent_PhwC: jax.Array) -> jax.Array:
    """latent / scale + shift."""
    y = latent_PhwC.astype(self.shift.dtype)
    y = y / layers.along_last(self.scale, y)
    y = y + layers.along_last(self.shift, y)
    return y.astype(latent_PhwC.dtype)
