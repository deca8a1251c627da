"""Flow-matching conventions, in one place for loss, sampler and tests.

Time 0 is the clean latent, time 1 is noise (paper section 5):

    x_t = (1 - t) x_0 + t eps        v = eps - x_0 = d x_t / d t
"""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np


@dataclasses.dataclass(frozen=True, kw_only=True)
class FlowConfig:
  """How times are drawn: logit-normal, then shifted towards noise."""

  time_mean: float
  time_std: float
  shift: float

  def __post_init__(self):
    if not (self.shift > 0 and self.time_std > 0):
      raise ValueError(f"{self.shift=} and {self.time_std=} must be positive.")


def shift_time(t, shift: float):
  """`s t / (1 + (s - 1) t)`: s > 1 spends more time near the noise."""
  return shift * t / (1 + (shift - 1) * t)


def sample_time(key: jax.Array, shape, config: FlowConfig) -> jax.Array:
  """Training times in (0, 1), float32."""
  return _time_of(jax.random.normal(key, shape, jnp.float32), config)


def quantile_time(quantile, config: FlowConfig) -> jax.Array:
  """The time below which this share, in (0, 1), of the training's times lie."""
  quantile = jnp.asarray(quantile, jnp.float32)
  return _time_of(jax.scipy.special.ndtri(quantile), config)


def _time_of(z: jax.Array, config: FlowConfig) -> jax.Array:
  """Of a standard normal number."""
  t = jax.nn.sigmoid(config.time_mean + config.time_std * z)
  return shift_time(t, config.shift)


def interpolate(x0: jax.Array, eps: jax.Array, t: jax.Array) -> jax.Array:
  """x_t; `t` has the leading axes of `x0`, `eps` all of them."""
  # Under rank promotion one time, or one noise, for all would pass unseen.
  chex.assert_equal_shape((x0, eps))
  chex.assert_equal_shape_prefix((x0, t), t.ndim)
  t = t.reshape(t.shape + (1,) * (x0.ndim - t.ndim))
  return (1 - t) * x0 + t * eps


def velocity(x0: jax.Array, eps: jax.Array) -> jax.Array:
  """The target of the velocity head."""
  chex.assert_equal_shape((x0, eps))
  return eps - x0


def sampling_times(steps: int, shift: float) -> np.ndarray:
  """`steps + 1` times from 1 to 0: N steps are N evaluations."""
  if steps < 1:
    raise ValueError(f"{steps=} must be at least 1.")
  return shift_time(np.linspace(1.0, 0.0, steps + 1), shift).astype(np.float32)


def euler_step(x: jax.Array, v: jax.Array, t, t_next) -> jax.Array:
  """One step of dx/dt = v from t to t_next < t."""
  chex.assert_equal_shape((x, v))
  return x + (t_next - t) * v
