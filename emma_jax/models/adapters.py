"""From encoder features to LLM tokens: fusion, adapters, positions, time."""

import dataclasses

import einops
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from emma_jax.models.layers import (
  Init,
  LayerNorm,
  Linear,
  fan_in,
  weight,
  zeros,
)
from emma_jax.structs import Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class FusionConfig:
  """How the two encoders' tokens of a picture become LLM tokens.

  mode: "channel" (the paper: one token per cell, both encoders' channels) or
    "token" (comparison: semantic tokens, then latent tokens).
  reference_branch: "gen" or "und", where an editing reference is processed.
  position_base, position_scale: of the fixed 2D sin-cos positions.
  time_channels, time_scale: of the timestep's sinusoids.
  """

  mode: str
  reference_branch: str
  position_base: float
  position_scale: float
  time_channels: int
  time_scale: float
  norm_eps: float

  def __post_init__(self):
    if self.mode not in ("channel", "token"):
      raise ValueError(f"fusion {self.mode=}: choose channel or token.")
    if self.reference_branch not in ("und", "gen"):
      raise ValueError(f"{self.reference_branch=}: choose und or gen.")
    if self.time_channels % 2:
      raise ValueError(f"{self.time_channels=} must be even.")


def sincos_2d(rows: int, columns: int, width: int, base: float) -> np.ndarray:
  """Fixed positions (rows * columns, width), row-major, float32.

  First half of the channels encodes the row, second half the column; within a
  half the sines come first.
  """
  frequency = _frequencies(width, base)

  def encode(n: int) -> np.ndarray:
    angle = np.arange(n)[:, None] * frequency
    return np.concatenate([np.sin(angle), np.cos(angle)], axis=1)

  row = einops.repeat(encode(rows), "h f -> (h w) f", w=columns)
  column = einops.repeat(encode(columns), "w f -> (h w) f", h=rows)
  return np.concatenate([row, column], axis=1).astype(np.float32)


def sincos_at(cell_PT2: jax.Array, width: int, base: float) -> jax.Array:
  """`sincos_2d` of single cells (P, T, width), whose places are data.

  A picture of T tokens has no more than T rows or columns. By the addition
  theorem from two short tables: an angle in float32 is off by its size times
  1e-7, and one table of all places would be megabytes of constants.
  """
  frequency, step = _frequencies(width, base), 64

  def table(stride: int, count: int):
    angle = stride * np.arange(count)[:, None] * frequency
    return (jnp.asarray(f(angle), jnp.float32) for f in (np.sin, np.cos))

  sin_fine, cos_fine = table(1, step)
  sin_coarse, cos_coarse = table(step, cell_PT2.shape[1] // step + 1)
  fine, coarse = cell_PT2 % step, cell_PT2 // step
  sin = (
    sin_coarse[coarse] * cos_fine[fine] + cos_coarse[coarse] * (sin_fine[fine])
  )
  cos = (
    cos_coarse[coarse] * cos_fine[fine] - sin_coarse[coarse] * (sin_fine[fine])
  )
  both = jnp.concatenate([sin, cos], axis=-1)  # (P, T, 2, width / 2)
  return both.reshape(*cell_PT2.shape[:2], width)


def _frequencies(width: int, base: float) -> np.ndarray:
  if width % 4:
    raise ValueError(f"{width=} must be a multiple of 4 for 2D positions.")
  return base ** -(np.arange(width // 4) / (width // 4))


def sinusoid(t: jax.Array, channels: int, scale: float) -> jax.Array:
  """Sinusoids (..., channels) of times t in [0, 1], float32; cosines first."""
  half = channels // 2
  frequency = np.exp(-np.log(10000.0) * np.arange(half) / half)
  angle = jnp.multiply.outer(
    t.astype(jnp.float32) * scale, frequency.astype(np.float32)
  )
  return jnp.concatenate([jnp.cos(angle), jnp.sin(angle)], axis=-1)


def equal_shares(*channels: int) -> Init:
  """Init of a matrix over concatenated inputs that gives each an equal share.

  By fan-in alone 32 latent channels beside 4608 semantic ones would start with
  0.7% of the variance, and a noisy target would hardly be seen.
  """
  gain = len(channels) ** -0.5

  def init(key: jax.Array, shape, dtype=jnp.float32) -> jax.Array:
    keys = jax.random.split(key, len(channels))
    return jnp.concatenate(
      [
        fan_in(0, gain)(k, (n, *shape[1:]), dtype)
        for k, n in zip(keys, channels)
      ]
    )

  return init


class TwoLayers(nn.Module):
  """Linear, tanh GELU, Linear."""

  width: int
  kernel_init: Init | None = None  # of the first Linear

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """(..., in) -> (..., width)."""
    fc1 = Linear(
      self.width, (None, "embed"), kernel_init=self.kernel_init, name="fc1"
    )
    x = fc1(x)
    x = nn.gelu(x, approximate=True)
    return Linear(self.width, ("embed", None), name="fc2")(x)


class Adapter(nn.Module):
  """Tokens of one branch from semantic (P, T, Cs) and latent (P, T, Cl).

  `semantic` None means a noisy target: no clean pixels exist when sampling, so
  a learned vector (zero at first) stands where the normalised semantic half
  would be. It stands behind the LayerNorm, whose gradient at zero is huge.
  Channel fusion returns (P, T, width); token fusion (P, 2T, width) for clean
  pictures, semantic tokens first, and (P, T, width) for noisy ones.

  `place`: (rows, columns) of all pictures' grid, or int32 (P, T, 2), the (row,
  column) of every token in its picture.
  """

  config: FusionConfig
  width: int
  semantic_channels: int
  may_be_noisy: bool

  @nn.compact
  def __call__(self, semantic, latent, place: tuple[int, int] | jax.Array):
    """The tokens, in the dtype of `latent`; see the class for shapes."""
    c = self.config
    null_C = None
    if self.may_be_noisy and c.mode == "channel":
      null_C = weight(
        self, "null_semantic", (self.semantic_channels,), (None,), zeros
      )
    norm = LayerNorm(c.norm_eps, name="norm")
    if c.mode == "channel":
      shares = equal_shares(self.semantic_channels, latent.shape[-1])
      fuse = TwoLayers(self.width, shares, name="fuse")
      if semantic is None:
        assert null_C is not None  # only pictures that may be noisy lack it
        shape = (*latent.shape[:2], self.semantic_channels)
        half = jnp.broadcast_to(null_C.astype(latent.dtype), shape)
      else:
        half = norm(semantic)
      tokens = [fuse(jnp.concatenate([half, latent], axis=-1))]
    else:
      tokens = [TwoLayers(self.width, name="fuse_latent")(latent)]
      if semantic is not None:
        of_semantic = TwoLayers(self.width, name="fuse_semantic")
        tokens.insert(0, of_semantic(norm(semantic)))
    position: Array
    if isinstance(place, tuple):
      position = sincos_2d(*place, self.width, c.position_base)[None]
    else:
      position = sincos_at(place, self.width, c.position_base)
    position = c.position_scale * position
    tokens = [x + position.astype(x.dtype) for x in tokens]
    return jnp.concatenate(tokens, axis=1)


class TimeEmbedding(nn.Module):
  """Sinusoid -> Linear, SiLU, Linear; added to the target's tokens."""

  config: FusionConfig
  width: int

  @nn.compact
  def __call__(self, t: jax.Array, dtype) -> jax.Array:
    """Times (...) in [0, 1] -> (..., width) of `dtype`."""
    x = sinusoid(t, self.config.time_channels, self.config.time_scale)
    x = Linear(self.width, (None, "embed"), name="fc1")(x.astype(dtype))
    return Linear(self.width, ("embed", None), name="fc2")(nn.silu(x))
