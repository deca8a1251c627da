"""Weights declared in one line, and the mathematics every model shares."""

from collections.abc import Callable, Sequence
import functools
from typing import Any

from flax import struct
import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from emma_jax.models import partition

Init = Callable[..., jax.Array]


def fan_in(axis: int | Sequence[int] = 0, gain: float = 1.0) -> Init:
  """Truncated normal, deviation gain / sqrt(product of the `axis` sizes)."""
  axes = (axis,) if isinstance(axis, int) else tuple(axis)

  def init(key: jax.Array, shape: Sequence[int], dtype=jnp.float32):
    size = 1
    for a in axes:
      size *= shape[a]
    # 0.8796: standard deviation of a unit normal cut at two sigmas.
    scale = gain * size**-0.5 / 0.87962566103423978
    return scale * jax.random.truncated_normal(key, -2, 2, shape, dtype)

  return init


def normal(std: float) -> Init:
  """A normal distribution, not truncated, of this standard deviation."""
  return nn.initializers.normal(std)


zeros = nn.initializers.zeros
ones = nn.initializers.ones


class Weight(nn.LogicallyPartitioned):
  """A weight with the names of its axes, and what it is rounded to.

  rounded_to: the dtype that every use rounds it to before anything else, so
    that a copy kept in it gives the same results, bit for bit. None: there are
    uses at its own precision.
  """

  rounded_to: str | None = struct.field(default=None, pytree_node=False)


def weight(
  module: nn.Module,
  name: str,
  shape: Sequence[int],
  axes: Sequence[str | None],
  init: Init | None = None,
  rounded_to: DTypeLike | None = None,
) -> jax.Array:
  """Declares a float32 weight: shape, logical axes and init stand together.

  `rounded_to`: see `Weight`. Vectors, which cost next to nothing, go without.
  """
  if len(shape) != len(axes):
    raise ValueError(f"{name}: {shape=} and {axes=} differ in length.")
  init = init or fan_in(0)
  dtype = None if rounded_to is None else jnp.dtype(rounded_to).name

  def boxed(*args: Any) -> Weight:
    return Weight(init(*args), tuple(axes), rounded_to=dtype)

  return module.param(name, boxed, tuple(shape))  # type: ignore[return-value]  # it comes unboxed


def along_last(v_C: jax.Array, x: jax.Array) -> jax.Array:
  """A vector over x's last axis in x's dtype and rank, ready to broadcast.

  Explicit, so that code runs under `jax_numpy_rank_promotion="raise"`.
  """
  return jnp.expand_dims(v_C.astype(x.dtype), range(x.ndim - 1))


def rms_norm(x: jax.Array, scale: jax.Array, eps: float) -> jax.Array:
  """Qwen3's RMSNorm over the last axis: float32 statistics, cast, then scale.

  The product with `scale` is taken after the cast back, as in the reference
  (in bfloat16 the other order differs in a quarter of the values).
  """
  y = x.astype(jnp.float32)
  y = y * jax.lax.rsqrt(_mean_square(y, x.dtype) + eps)
  return y.astype(x.dtype) * along_last(scale, x)


def _mean_square(y: jax.Array, dtype: jnp.dtype) -> jax.Array:
  """Of the last axis, ready to broadcast over it, of float32 y, once `dtype`.

  On TPUs, of at most 128 channels, by a product with ones, which leaves it in
  every lane: by the compiler's count the autoencoder's widest blocks take 27%
  less time so, those of more channels more. Three passes hold the square of a
  bfloat16 exactly.
  """
  channels = y.shape[-1]
  if not partition.for_tpu() or channels > partition.TPU_LANES:
    return jnp.mean(y * y, axis=-1, keepdims=True)
  precision = "high" if dtype == jnp.bfloat16 else "highest"
  ones_CC = jnp.ones((channels, channels), jnp.float32)
  return jnp.matmul(y * y, ones_CC, precision=precision) / channels


def layer_norm(
  x: jax.Array, scale: jax.Array, bias: jax.Array, eps: float
) -> jax.Array:
  """LayerNorm over the last axis with two-pass float32 statistics."""
  y = x.astype(jnp.float32)
  y = y - jnp.mean(y, axis=-1, keepdims=True)
  y = y * jax.lax.rsqrt(jnp.mean(y * y, axis=-1, keepdims=True) + eps)
  y = y * along_last(scale, y) + along_last(bias, y)
  return y.astype(x.dtype)


def cpu_bfloat16(x: jax.Array) -> bool:
  """Whether XLA's kernels for x are the CPU's, which are peculiar."""
  return x.dtype == jnp.bfloat16 and partition.platform() == "cpu"


def contract(
  x: jax.Array, w: jax.Array, how: Callable[..., jax.Array]
) -> jax.Array:
  """how(x, w) in the dtype of x; `how` is jnp.matmul or an `einsum`.

  XLA's CPU backend has fast bfloat16 kernels for float32 results only; asked
  for bfloat16 it turns both operands into float32 first, at half the speed.
  So there the rounding, which is the same, stands outside. For products without
  batch axes only: of others XLA (of jax 0.10 to 0.12) lacks some, and fails.
  """
  w = w.astype(x.dtype)
  if cpu_bfloat16(x):
    return _contract_wide(how, x, w)
  return how(x, w)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _contract_wide(how, x, w):
  return how(x, w, preferred_element_type=jnp.float32).astype(x.dtype)


@_contract_wide.defjvp
def _(how, primals, tangents):
  # Gradients are of bfloat16 operands, as everywhere else.
  (x, w), (dx, dw) = primals, tangents
  return _contract_wide(how, x, w), how(dx, w) + how(x, dw)


def einsum(spec: str) -> Callable[..., jax.Array]:
  """For `contract`."""
  return functools.partial(jnp.einsum, spec)


def linear(x: jax.Array, w: jax.Array, b: jax.Array | None = None) -> jax.Array:
  """`x @ w (+ b)` in the dtype of x; w is (in, out)."""
  y = contract(x, w, jnp.matmul)
  return y if b is None else y + along_last(b, y)


class Linear(nn.Module):
  """Affine map of the last axis; weights `kernel` (in, out) and `bias`."""

  features: int
  axes: tuple[str | None, str | None] = (None, None)
  use_bias: bool = True
  kernel_init: Init | None = None

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """(..., in) -> (..., features), in the dtype of x."""
    shape = (x.shape[-1], self.features)
    w = weight(self, "kernel", shape, self.axes, self.kernel_init, x.dtype)
    b = None
    if self.use_bias:
      b = weight(self, "bias", shape[1:], self.axes[1:], zeros)
    return linear(x, w, b)


class Kernel(nn.Module):
  """The weight `kernel` of this module's name, for another's mathematics.

  `rounded_to`: what that begins with, see `Weight`.
  """

  shape: tuple[int, ...]
  axes: tuple[str | None, ...]
  kernel_init: Init | None = None
  rounded_to: DTypeLike | None = None

  @nn.compact
  def __call__(self) -> jax.Array:
    """The weight, float32 as it is kept."""
    return weight(
      self, "kernel", self.shape, self.axes, self.kernel_init, self.rounded_to
    )


class RmsNorm(nn.Module):
  """RMSNorm of the last axis; weight `scale`."""

  eps: float

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """(..., C) -> (..., C), in the dtype of x."""
    return rms_norm(
      x, weight(self, "scale", x.shape[-1:], (None,), ones), self.eps
    )


class LayerNorm(nn.Module):
  """LayerNorm of the last axis; weights `scale` and `bias`."""

  eps: float

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """(..., C) -> (..., C), in the dtype of x."""
    scale = weight(self, "scale", x.shape[-1:], (None,), ones)
    bias = weight(self, "bias", x.shape[-1:], (None,), zeros)
    return layer_norm(x, scale, bias, self.eps)
