"""Convolutions and pixel shuffles on channels-last pictures.

Axes: P pictures, Y and X rows and columns (h and w on a token grid), C
channels. Dense kernels are (rows, columns, in, out), depthwise kernels (rows,
columns, channels).
"""

import einops
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from emma_jax.models import layers, partition

# Pixels of a convolution that are multiplied at once on a CPU: with their
# neighbours they are to fit into a megabyte or few of cache.
_STRIP = 512
_CHANNELS_LAST = ("NHWC", "HWIO", "NHWC")


def conv3x3(x_PYXC: jax.Array, kernel: jax.Array, stride: int = 1) -> jax.Array:
  """Cross-correlation with a 3x3 kernel, one pixel of zeros on every side.

  XLA's "SAME" pads (0, 1) at stride 2; torch, which the published weights come
  from, pads (1, 1).
  """
  if stride != 1:
    return _conv(x_PYXC, kernel.astype(x_PYXC.dtype), stride)
  if partition.for_tpu() and 9 * x_PYXC.shape[-1] <= partition.TPU_LANES:
    return _under_kernel(x_PYXC, kernel.astype(x_PYXC.dtype))
  return layers.contract(x_PYXC, kernel, _conv_or_dots)


def _conv(x_PYXC: jax.Array, kernel: jax.Array, stride: int = 1) -> jax.Array:
  return jax.lax.conv_general_dilated(
    x_PYXC,
    kernel,
    window_strides=(stride, stride),
    padding=((1, 1), (1, 1)),
    dimension_numbers=_CHANNELS_LAST,
  )


def _under_kernel(x_PYXC: jax.Array, kernel: jax.Array) -> jax.Array:
  """The convolution as one product with the nine pixels under the kernel.

  For few channels on a TPU, which pads them to 128 lanes: by the compiler's
  count a third of a convolution's time for 3 channels, more than it for 32.
  """
  Y, X, C = x_PYXC.shape[1:]
  x = jnp.pad(x_PYXC, ((0, 0), (1, 1), (1, 1), (0, 0)))
  under = [x[:, i : i + Y, j : j + X] for i in range(3) for j in range(3)]
  return jnp.concatenate(under, axis=-1) @ kernel.reshape(9 * C, -1)


def _conv_or_dots(
  x_PYXC: jax.Array, kernel: jax.Array, preferred_element_type=None
) -> jax.Array:
  """The convolution; of a preferred type, as products of matrices.

  `layers.contract` wants that on a CPU in bfloat16, where only products are
  fast. The nine pixels under the kernel lie side by side, for a strip of rows
  at a time that stays in the cache. Until they are multiplied they are bits:
  XLA's CPU backend moves bfloat16 by way of float32.
  """
  if preferred_element_type is None:
    return _conv(x_PYXC, kernel)
  P, Y, X, C = x_PYXC.shape
  rows = max(1, min(Y, _STRIP // (P * X)))
  while Y % rows:
    rows -= 1
  bits_PYXC = jax.lax.bitcast_convert_type(x_PYXC, jnp.uint16)
  bits_PYXC = jnp.pad(bits_PYXC, ((0, 0), (1, 1), (1, 1), (0, 0)))

  def strip(top: jax.Array) -> jax.Array:
    seen = jax.lax.dynamic_slice_in_dim(bits_PYXC, top, rows + 2, axis=1)
    shifted = [
      seen[:, i : i + rows, j : j + X] for i in range(3) for j in range(3)
    ]
    under = jax.lax.bitcast_convert_type(
      jnp.concatenate(shifted, axis=-1), x_PYXC.dtype
    )
    y = jnp.matmul(
      under,
      kernel.reshape(9 * C, -1),
      preferred_element_type=preferred_element_type,
    )
    return jax.lax.bitcast_convert_type(y.astype(x_PYXC.dtype), jnp.uint16)

  strips = jax.lax.map(strip, jnp.arange(0, Y, rows))
  bits_PYXC = jnp.moveaxis(strips, 0, 1).reshape(P, Y, X, -1)
  return jax.lax.bitcast_convert_type(bits_PYXC, x_PYXC.dtype)


def depthwise(x_PYXC: jax.Array, kernel_YXC: jax.Array) -> jax.Array:
  """Odd-sized filter per channel, zero padded to the same size.

  On a CPU a sum of shifted products rather than a grouped convolution, at which
  XLA's backend there is 5 to 40 times slower, forward and backward; a TPU takes
  twice as long for the former. Products are summed in float32.
  """
  if partition.platform() != "cpu":
    return jax.lax.conv_general_dilated(
      x_PYXC,
      kernel_YXC[:, :, None].astype(x_PYXC.dtype),
      (1, 1),
      "SAME",
      dimension_numbers=_CHANNELS_LAST,
      feature_group_count=x_PYXC.shape[-1],
    )
  height, width = x_PYXC.shape[1:3]
  rows, columns = kernel_YXC.shape[:2]
  pad_y, pad_x = rows // 2, columns // 2
  padded = jnp.pad(x_PYXC, ((0, 0), (pad_y, pad_y), (pad_x, pad_x), (0, 0)))
  # Rounded to the compute dtype first, as every other weight is.
  kernel_YXC = kernel_YXC.astype(x_PYXC.dtype).astype(jnp.float32)
  total = jnp.zeros(x_PYXC.shape, jnp.float32)
  for i in range(rows):
    for j in range(columns):
      tap = padded[:, i : i + height, j : j + width]
      weight_C = layers.along_last(kernel_YXC[i, j], total)
      total = total + tap.astype(jnp.float32) * weight_C
  return total.astype(x_PYXC.dtype)


def space_to_depth(x_PYXC: jax.Array, factor: int = 2) -> jax.Array:
  """Folds factor x factor pixels into channels, in torch's order.

  (P, Y, X, C) -> (P, Y / factor, X / factor, C * factor**2); output channel
  c * factor**2 + dy * factor + dx (`torch.nn.PixelUnshuffle`).
  """
  return einops.rearrange(
    x_PYXC, "P (Y y) (X x) C -> P Y X (C y x)", y=factor, x=factor
  )


def depth_to_space(x_PYXC: jax.Array, factor: int = 2) -> jax.Array:
  """The inverse of `space_to_depth` (`torch.nn.PixelShuffle`)."""
  return einops.rearrange(
    x_PYXC, "P Y X (C y x) -> P (Y y) (X x) C", y=factor, x=factor
  )


def group_mean(x: jax.Array, features: int) -> jax.Array:
  """Means of runs of consecutive channels, leaving `features` of them."""
  return x.reshape(*x.shape[:-1], features, -1).mean(-1)


def folded_mean(x_PYXC: jax.Array, features: int, factor: int = 2) -> jax.Array:
  """`group_mean` of `space_to_depth`: (P, Y / factor, X / factor, features).

  On chips as one convolution with the means' weights, exact in bfloat16: on a
  TPU folding pixels and averaging neighbouring channels takes 10 times as long.
  """
  if partition.platform() == "cpu" or partition.counting_flops():
    return group_mean(space_to_depth(x_PYXC, factor), features)
  C = x_PYXC.shape[-1]
  run = C * factor**2 // features
  place = np.arange(C * factor**2).reshape(C, factor, factor) // run
  kernel = (place[..., None] == np.arange(features)) / run
  return jax.lax.conv_general_dilated(
    x_PYXC,
    jnp.asarray(kernel.transpose(1, 2, 0, 3), x_PYXC.dtype),
    (factor, factor),
    "VALID",
    dimension_numbers=_CHANNELS_LAST,
  )


def repeat_channels(x: jax.Array, features: int) -> jax.Array:
  """Every channel several times in a row, making `features` of them."""
  return jnp.repeat(x, features // x.shape[-1], axis=-1)


class Conv3x3(nn.Module):
  """3x3 convolution; weights `kernel` (3, 3, in, out) and `bias` (out,)."""

  features: int
  stride: int = 1
  use_bias: bool = True

  @nn.compact
  def __call__(self, x_PYXC: jax.Array) -> jax.Array:
    """(P, Y, X, in) -> (P, Y / stride, X / stride, features)."""
    kernel = layers.weight(
      self,
      "kernel",
      (3, 3, x_PYXC.shape[-1], self.features),
      (None, None, "conv_in", "conv_out"),
      layers.fan_in((0, 1, 2)),
      x_PYXC.dtype,
    )
    y = conv3x3(x_PYXC, kernel, self.stride)
    if not self.use_bias:
      return y
    bias = layers.weight(
      self, "bias", (self.features,), ("conv_out",), layers.zeros
    )
    return y + layers.along_last(bias, y)


class Depthwise(nn.Module):
  """Filter per channel; weights `kernel` (size, size, channels) and `bias`."""

  size: int

  @nn.compact
  def __call__(self, x_PYXC: jax.Array) -> jax.Array:
    """(P, Y, X, C) -> (P, Y, X, C)."""
    channels = x_PYXC.shape[-1]
    kernel = layers.weight(
      self,
      "kernel",
      (self.size, self.size, channels),
      (None, None, None),
      layers.fan_in((0, 1)),
      x_PYXC.dtype,
    )
    y = depthwise(x_PYXC, kernel)
    bias = layers.weight(self, "bias", (channels,), (None,), layers.zeros)
    return y + layers.along_last(bias, y)
