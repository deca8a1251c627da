"""AdamW over the trained part of the parameters, its schedule, and the EMA."""

from collections.abc import Mapping
import dataclasses
import re
from typing import Any

import chex
import jax
import jax.numpy as jnp
import optax

from emma_jax import ranges, rules
from emma_jax.structs import Array

SCHEDULES = ("constant", "cosine", "linear")

# Names of weights that scale, shift or stand in for a vector. A stack of layers
# gives them two axes, so the rank alone does not tell them from a matrix.
_VECTORS = re.compile(r"(.*/)?(scale|bias|\w*norm|null_\w+)")


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
  """AdamW and its schedule."""

  learning_rate: float
  total_steps: int
  schedule: str
  warmup_steps: int
  final_ratio: float  # last over peak learning rate; unused if constant
  b1: float
  b2: float
  eps: float
  weight_decay: float
  clip_norm: float  # 0: do not clip

  def __post_init__(self):
    if self.schedule not in SCHEDULES:
      raise ValueError(f"{self.schedule=} is not one of {SCHEDULES}.")
    if self.total_steps < 1:
      raise ValueError(f"{self.total_steps=} must be at least 1.")
    if not 0 <= self.warmup_steps <= self.total_steps:
      raise ValueError(
        f"{self.warmup_steps=} must lie between 0 and {self.total_steps=}."
      )
    for name in ("learning_rate", "weight_decay", "clip_norm", "final_ratio"):
      ranges.NOT_NEGATIVE.check(name, getattr(self, name))
    ranges.POSITIVE.check("eps", self.eps)
    for name in ("b1", "b2"):
      ranges.SHARE.check(name, getattr(self, name))


def schedule(config: OptimizerConfig) -> optax.Schedule:
  """Learning rate of an update, by the number of updates done before it.

  Linear warm-up that reaches the peak at update `warmup_steps` (the first
  update already moves: a rate of 0 would waste a batch), then constant, or
  down to `final_ratio` times the peak at `total_steps`.
  """
  c = config
  span = max(c.total_steps - c.warmup_steps, 1)

  def rate(step: jax.Array | int) -> jax.Array:
    step = jnp.asarray(step, jnp.float32)
    warm = jnp.minimum(1.0, (step + 1) / max(c.warmup_steps, 1))
    done = jnp.clip((step - c.warmup_steps) / span, 0.0, 1.0)
    left: jax.Array | float
    if c.schedule == "constant":
      left = 1.0
    elif c.schedule == "linear":
      left = 1 - done
    else:
      left = 0.5 * (1 + jnp.cos(jnp.pi * done))
    if c.schedule != "constant":
      left = c.final_ratio + (1 - c.final_ratio) * left
    return c.learning_rate * warm * left

  return rate


def decays(path: str, leaf: Any) -> bool:
  """Whether weight decay applies: to matrices, not to norms and biases.

  >>> import numpy as np
  >>> decays("llm/deep/und/q", np.zeros((2, 8, 2, 4)))
  True
  >>> decays("llm/deep/und/attn_norm/scale", np.zeros((2, 8)))
  False
  """
  return leaf.ndim >= 2 and not _VECTORS.fullmatch(path)


# Of numbers up to here a billion squares add up in float32; larger ones are
# scaled before they are squared, so that 3e38 is none too large.
_LARGE, _SCALE = 2.0**48, 2.0**-80
# The norm of gradients that are not clipped: its square is half of float32's
# largest number, so second moments stay finite.
UNCLIPPED = 2.0**63


def global_norm(tree: Any) -> jax.Array:
  """The Euclidean norm over all leaves, float32; the sum does not overflow.

  It is finite where all numbers are and the norm itself is in range (3.4e38);
  NaN or infinite where any number is. Where all numbers are below 2^48, it is
  the root of the sum of their squares as they are.

  >>> float(global_norm({"a": jnp.array([3.0, 4.0])}))
  5.0
  >>> f"{global_norm([jnp.array([3e25, 4e25])]):.3g}"
  '5e+25'
  """
  plain = scaled = jnp.float32(0)
  # Two sums of which neither needs to know of the other, and no mask: a
  # compiler makes one pass of them where it can.
  for leaf in jax.tree.leaves(tree):
    x = leaf.astype(jnp.float32)
    plain += jnp.sum(jnp.square(jnp.minimum(jnp.abs(x), _LARGE)))
    scaled += jnp.sum(jnp.square(x * _SCALE))
  # False of NaN, and wherever one number is _LARGE or above it.
  small = plain < _LARGE**2
  return jnp.where(small, jnp.sqrt(plain), jnp.sqrt(scaled) / _SCALE)


def clip_by_norm(largest: float) -> optax.GradientTransformation:
  """Scales gradients whose `global_norm` is above `largest` down to it.

  As `optax.clip_by_global_norm`, whose norm of a gradient of 1e25 is infinite:
  it would scale that to 0. Has no state.
  """

  def update(updates: Any, state: optax.EmptyState, params: Any = None):
    del params
    norm = global_norm(updates)
    # Divided first: largest / norm may be too small for float32.
    clipped = jax.tree.map(
      lambda g: jnp.where(
        norm < largest, g, (g / norm.astype(g.dtype)) * largest
      ),
      updates,
    )
    return clipped, state

  return optax.GradientTransformation(lambda _: optax.EmptyState(), update)


def build(
  config: OptimizerConfig, lr_multipliers: Mapping[str, float] | rules.Table
) -> optax.GradientTransformation:
  """Clip by global norm, Adam, decoupled weight decay, learning rate.

  Clipping sees exactly the gradients it is given: give it those of the trained
  part only, so that frozen weights neither cost nor enter the norm. Where there
  is none, gradients whose squares Adam could not hold are made as small as it
  needs (`UNCLIPPED`).

  Args:
    config: sizes of everything.
    lr_multipliers: path -> factor on the learning rate, or a table of them
      (then total and live over the trained paths).

  Raises:
    KeyError: (at init) a trained path without a multiplier.
    rules.RuleError: (at init) a table that does not fit the trained paths.
  """
  clip = clip_by_norm(config.clip_norm or UNCLIPPED)

  def mask(params: Any) -> Any:
    return jax.tree_util.tree_map_with_path(
      lambda keys, leaf: decays(rules.path_of(keys), leaf), params
    )

  decay = (
    optax.add_decayed_weights(config.weight_decay, mask=mask)
    if config.weight_decay
    else optax.identity()
  )
  return optax.chain(
    clip,
    optax.scale_by_adam(b1=config.b1, b2=config.b2, eps=config.eps),
    decay,
    _scale_by_path(lr_multipliers),
    optax.scale_by_learning_rate(schedule(config)),
  )


def _scale_by_path(
  multipliers: Mapping[str, float] | rules.Table,
) -> optax.GradientTransformation:
  """Multiplies each update by the factor of its path. Has no state."""

  def resolved(tree: Any) -> Mapping[str, float]:
    if not isinstance(multipliers, Mapping):
      return rules.resolve(multipliers, rules.flatten(tree), "lr_multipliers")
    missing = [p for p in rules.flatten(tree) if p not in multipliers]
    if missing:
      raise KeyError(f"No learning rate multiplier for {missing[:8]}.")
    return multipliers

  def init(params: Any) -> optax.EmptyState:
    resolved(params)  # so that a bad table fails before the first step
    return optax.EmptyState()

  def update(updates: Any, state: optax.EmptyState, params: Any = None):
    del params
    factor = resolved(updates)
    scaled = jax.tree_util.tree_map_with_path(
      lambda keys, u: u * factor[rules.path_of(keys)], updates
    )
    return scaled, state

  return optax.GradientTransformation(init, update)


def ema_update(ema: Any, params: Any, decay: float, step: Array | int) -> Any:
  """Moves `ema` towards `params` after update number `step` (0, 1, ...).

  The decay is min(decay, (1 + step) / (10 + step)): early on the average
  follows the weights, else it would remember the initial ones for 1 / (1 -
  decay) steps.
  """
  chex.assert_trees_all_equal_shapes(ema, params)
  step = jnp.asarray(step, jnp.float32)
  keep = jnp.minimum(decay, (1 + step) / (10 + step))
  return jax.tree.map(
    lambda e, p: (e + (1 - keep) * (p.astype(e.dtype) - e)).astype(e.dtype),
    ema,
    params,
  )
