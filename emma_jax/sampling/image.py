"""Pictures by a guided Euler ODE behind a cached context.

A context's keys and values are computed once (`context.prefill`). Guidance is a
weighted sum of velocities under contexts that lack some condition:

  drawing   v = v(0) + g (v(text) - v(0))
  editing   v = v(0, 0) + g_image (v(image, 0) - v(0, 0))
                        + g_text (v(image, text) - v(image, 0))

The contexts lie on the batch axis, context after context, so that a step is one
evaluation of the model. A context of weight 0 is left out.
Axes: A contexts, L times.
"""

from collections.abc import Callable
import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from emma_jax import flow, programs
from emma_jax.models.emma import Emma, to_levels, to_unit
from emma_jax.sampling.context import static_size, used
from emma_jax.structs import KvCache, TokenIds


@dataclasses.dataclass(frozen=True)
class Context:
  """Which conditions a context keeps, and the weight of its velocity."""

  text: bool
  reference: bool
  weight: float


def drawing_contexts(text: float) -> tuple[Context, ...]:
  """Contexts of classifier-free guidance; the weights sum to 1.

  >>> [c.weight for c in drawing_contexts(4.0)]
  [4.0, -3.0]
  >>> drawing_contexts(1.0)
  (Context(text=True, reference=False, weight=1.0),)
  """
  contexts = (Context(True, False, text), Context(False, False, 1 - text))
  return tuple(c for c in contexts if c.weight)


def editing_contexts(text: float, image: float) -> tuple[Context, ...]:
  """Contexts of the two separate guidances; the weights sum to 1.

  >>> [c.weight for c in editing_contexts(4.0, 1.5)]
  [4.0, -2.5, -0.5]
  >>> editing_contexts(1.0, 1.0)
  (Context(text=True, reference=True, weight=1.0),)
  """
  contexts = (
    Context(True, True, text),
    Context(False, True, image - text),
    Context(False, False, 1 - image),
  )
  return tuple(c for c in contexts if c.weight)


def padded_times(steps: int, shift: float) -> np.ndarray:
  """`flow.sampling_times` and zeros up to a static size, so that another
  number of steps rarely compiles anew and another shift never does."""
  times_L = flow.sampling_times(steps, shift)
  return np.pad(times_L, (0, static_size(steps, 64) + 1 - times_L.size))


def integrate(
  velocity: Callable[[jax.Array, jax.Array], jax.Array],
  x: jax.Array,
  times_L: jax.Array,
  steps: jax.Array | int,
  start: jax.Array | int = 0,
) -> jax.Array:
  """Euler from times_L[start] to times_L[steps], a call of `velocity` each."""
  times_L = jnp.asarray(times_L)

  def step(i: jax.Array, x: jax.Array) -> jax.Array:
    t, t_next = times_L[i], times_L[i + 1]
    return flow.euler_step(x, velocity(x, t), t, t_next)

  return jax.lax.fori_loop(start, steps, step, x)


def target_ids(cache: KvCache, tokens: int) -> TokenIds:
  """TokenIds (B, T) of a noisy target that follows the cached context."""
  first_B1 = used(cache)[:, None]
  order_BT = first_B1 + jnp.arange(tokens, dtype=jnp.int32)[None]
  one_BT = jnp.ones_like(order_BT)
  return TokenIds(
    segment=one_BT,
    order=order_BT,
    last_visible=order_BT[:, -1:] * one_BT,
    noise_group=one_BT,
    position=order_BT,
  )


@programs.kept("emma", "grid")
def sample_latents(
  emma: Emma,
  params: dict,
  cache: KvCache,
  weights_A: jax.Array,
  keys_B: jax.Array,
  times_L: jax.Array,
  steps: jax.Array,
  grid: tuple[int, int],
) -> jax.Array:
  """Normalised latents (B, T, C) of one picture per key, the whole ODE.

  Args:
    cache: of A * B rows, context after context.
    weights_A: of the contexts' velocities, see `Context`.
    keys_B: each picture's noise depends on its key alone.
    times_L: from `padded_times`; `steps` of them are walked.
    grid: token rows and columns of the pictures.
  """
  T = grid[0] * grid[1]
  channels = emma.config.autoencoder.latent_channels
  draw = lambda key: jax.random.normal(key, (T, channels), jnp.float32)
  noise_BTC = jax.vmap(draw)(keys_B)
  velocity = _guided(emma, params, cache, weights_A, grid)
  return integrate(velocity, noise_BTC, times_L, steps)


@programs.kept("emma", "grid")
def continue_latents(
  emma: Emma,
  params: dict,
  cache: KvCache,
  weights_A: jax.Array,
  x_BTC: jax.Array,
  times_L: jax.Array,
  start: jax.Array,
  steps: jax.Array,
  grid: tuple[int, int],
) -> jax.Array:
  """`sample_latents` from step `start` on, with what it has made till there."""
  velocity = _guided(emma, params, cache, weights_A, grid)
  return integrate(velocity, x_BTC, times_L, steps, start)


def _guided(
  emma: Emma,
  params: dict,
  cache: KvCache,
  weights_A: jax.Array,
  grid: tuple[int, int],
) -> Callable[[jax.Array, jax.Array], jax.Array]:
  """(latents, time) -> the weighted sum of the contexts' velocities."""
  A = weights_A.shape[0]
  ids = target_ids(cache, grid[0] * grid[1])

  def velocity(x_BTC: jax.Array, t: jax.Array) -> jax.Array:
    stacked = jnp.tile(x_BTC, (A, 1, 1))
    v: Any = emma.apply(
      {"params": params},
      stacked,
      jnp.full(len(stacked), t),
      grid,
      ids,
      cache,
      method=Emma.denoise,
    )
    return jnp.einsum(
      "A,ABTC->BTC", weights_A, v.reshape(A, *x_BTC.shape), precision="highest"
    )

  return velocity


@programs.kept("emma", "grid")
def decode(
  emma: Emma, params: dict, latents_BTC: jax.Array, grid: tuple[int, int]
) -> tuple[jax.Array, jax.Array]:
  """Latents -> uint8 pictures (B, Y, X, 3), and which are finite (B,)."""
  x_BYXC: Any = emma.apply(
    {"params": params}, latents_BTC, grid, method=Emma.decode_latents
  )
  finite_B = jnp.isfinite(latents_BTC).all((1, 2))
  return to_levels(x_BYXC), finite_B & _finite(x_BYXC)


@programs.kept("autoencoder", "dtype")
def reconstruct(
  autoencoder: nn.Module, params: dict, pixels_BYXC: jax.Array, dtype: str
) -> tuple[jax.Array, jax.Array]:
  """uint8 pictures through the autoencoder and back, and which are finite."""
  x: Any = autoencoder.apply({"params": params}, to_unit(pixels_BYXC, dtype))
  return to_levels(x), _finite(x)


def _finite(x_BYXC: jax.Array) -> jax.Array:
  """(B,): an integer picture would show no number as black."""
  return jnp.isfinite(x_BYXC).all((1, 2, 3))
