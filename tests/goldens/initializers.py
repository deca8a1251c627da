"""How every weight of a model starts: what is drawn, and how widely.

A draw's numbers are JAX's and may change; its deviation is ours. So draws are
answered with their deviation, exactly, and the tests of `layers` hold that a
draw has it.
"""

import collections
from collections.abc import Callable
import re
from unittest import mock

import flax.linen as nn
import jax
import numpy as np

from configs import models
from emma_jax.build import model as build_model
from emma_jax.models.emma import EmmaConfig
from emma_jax.models.initial import boxed_params
from tests import tiny

CUT = 0.87962566103423978  # deviation of a unit normal that is cut at two


class Normal:
  """In place of `nn.initializers.normal`, which hides what it was given."""

  def __init__(self, std: float):
    self.std = std

  def __call__(self, key, shape, dtype=np.float32):
    return jax.numpy.zeros(shape, dtype)


def first(config: EmmaConfig) -> dict[str, str]:
  """Of each weight "drawn 0.0198" or "set 1"; its shares, if it has several.

  Blocks and branches of a kind stand together, as many as there are.
  """
  found, declare = {}, nn.Module.param

  def param(self, name, init, shape, *args):
    found["/".join((*self.path, name))] = init, shape
    return declare(self, name, init, shape, *args)

  with (
    mock.patch.object(nn.Module, "param", param),
    mock.patch.object(nn.initializers, "normal", Normal),
  ):
    jax.eval_shape(lambda: boxed_params(config, jax.random.key(0)))
  together = {}
  for path in sorted(found):
    kind = re.sub(r"(stage|block)\d+", r"\1", path)
    kind = re.sub("/(und|gen|shared|stem|versatile)/", "/any/", kind)
    together.setdefault(kind, []).append(_start(*found[path]))
  return {
    kind: ", ".join(
      f"{count} x {start}" if count > 1 else start
      for start, count in collections.Counter(starts).items()
    )
    for kind, starts in together.items()
  }


def _start(init: Callable, shape: tuple[int, ...]) -> str:
  """Runs an initializer whose draws return their deviation."""
  drawn = []

  def truncated(key, lower, upper, shape, dtype):
    assert (lower, upper) == (-2, 2)
    drawn.append(shape)
    # Thin where it may be: of the 4B, arrays have a gigabyte.
    return np.full((shape[0],) + (1,) * (len(shape) - 1), CUT, dtype)

  def normal(self, key, shape, dtype=np.float32):
    drawn.append(shape)
    return np.float32(self.std)

  with (
    mock.patch.object(jax.random, "truncated_normal", truncated),
    mock.patch.object(Normal, "__call__", normal),
  ):
    x = np.ravel(nn.unbox(init(jax.random.key(0), shape)))
  changes = np.flatnonzero(np.diff(x, prepend=np.nan))
  return " ".join(
    ["drawn" if drawn else "set", *(f"{x[i]:.4g}" for i in changes)]
  )


CASES = {
  "micro": lambda: first(
    build_model.emma_config(
      tiny.model(tie_embeddings=False, embed_std=0.3, residual_gain=0.25)
    )
  ),
  "4b": lambda: {
    path: start
    for path, start in first(build_model.emma_config(models.emma_4b())).items()
    if "drawn" in start
  },
}


def cases():
  return {name: case() for name, case in CASES.items()}
