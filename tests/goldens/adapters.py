"""Adapters, positions and the time embedding on fixed weights."""

import dataclasses

import jax.numpy as jnp

from emma_jax.models import adapters
from tests import fixed

KEPT = 6
CONFIG = adapters.FusionConfig(
  mode="channel",
  reference_branch="gen",
  position_base=100.0,
  position_scale=0.5,
  time_channels=10,
  time_scale=1000.0,
  norm_eps=0.03,
)


def _adapter(mode: str = "channel", clean: bool = True, native: bool = False):
  config = dataclasses.replace(CONFIG, mode=mode)
  module = adapters.Adapter(config, 16, 12, may_be_noisy=True)
  place = (2, 3)
  if native:
    place = jnp.array(
      [
        [[0, 0], [0, 1], [1, 0], [1, 1], [0, 70], [9, 3]],
        [[0, 0], [1, 0], [2, 0], [3, 0], [64, 0], [5, 65]],
      ]
    )

  def case(dtype):
    semantic = fixed.values("semantic", (2, 6, 12), dtype) if clean else None
    latent = fixed.values("latent", (2, 6, 4), dtype)
    _, weights = fixed.bound(
      module,
      fixed.values("semantic", (2, 6, 12)),
      latent,
      method=lambda m, *x: m(*x, (2, 3)),
    )
    if mode == "channel":  # what a clean picture does not make
      weights.setdefault("null_semantic", fixed.values("null", (12,)))
    inputs = (latent,) if semantic is None else (latent, semantic)
    f = lambda p, latent, semantic=None: module.apply(
      {"params": p}, semantic, latent, place
    )
    return fixed.measured(f, weights, *inputs)

  return case


def _time(dtype):
  t = jnp.array([0.0, 0.001, 0.3, 1.0])
  module = adapters.TimeEmbedding(CONFIG, 12)
  apply, weights = fixed.bound(module, t, method=lambda m, t: m(t, dtype))
  # Rounded angles turn a bfloat16 gradient by time into noise.
  return fixed.measured(lambda p: apply(p, t), weights)


def _tables(dtype):
  """What has no weights: grids' positions and times' sinusoids."""
  t = jnp.array([0.0, 0.001, 0.3, 1.0], dtype)
  return {
    "grid": adapters.sincos_2d(3, 5, 12, 10000.0),
    "time": adapters.sinusoid(t, 10, 1000.0),
  }


CASES = fixed.both({"clean": _adapter(), "time": _time}) | fixed.float32(
  {
    "noisy": _adapter(clean=False),
    "native": _adapter(native=True),
    "tokens": _adapter("token"),
    "noisy_tokens": _adapter("token", clean=False),
    "tables": _tables,
  }
)


def cases():
  return {name: case() for name, case in CASES.items()}
