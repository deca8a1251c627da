"""How every weight of a model starts: what is drawn, and how widely.

A draw's numbers are JAX's and may change; its deviation is ours. So draws are
answered with their deviation, exactly, and the tests of `layers` hold that a
draw has it.
"""

from collections.abc import Iterator
import contextlib
from unittest import mock

import flax.linen as nn
import jax
import numpy as np

from configs import models
from emma_jax import build
from emma_jax.models.emma import boxed_params
from tests import tiny

CUT = 0.87962566103423978  # deviation of a unit normal that is cut at two


@contextlib.contextmanager
def _deviations(drawn: list) -> Iterator[None]:
  """Draws return their deviation (of a unit draw `CUT` or 1), on an array that
  is thin where it may be: a table of words has gigabytes."""
  def truncated(key, lower, upper, shape, dtype):
    assert (lower, upper) == (-2, 2)
    drawn.append(shape)
    return np.full((shape[0],) + (1,) * (len(shape) - 1), CUT, dtype)

  def normal(std):
    return lambda key, shape, dtype=np.float32: (
        drawn.append(shape) or np.float32(std))

  with (mock.patch.object(jax.random, "truncated_normal", truncated),
        mock.patch.object(nn.initializers, "normal", normal)):
    yield


def first(config) -> dict[str, str]:
  """Of each weight "drawn 0.0198" or "set 1": its shares, if it has several."""
  found, drawn = {}, []
  declare = nn.Module.param

  def param(self, name, init, *args, **options):
    found["/".join((*self.path, name))] = init, args
    return declare(self, name, init, *args, **options)

  with _deviations(drawn):
    with mock.patch.object(nn.Module, "param", param):
      jax.eval_shape(lambda: boxed_params(config, jax.random.key(0)))
    out = {}
    for path, (init, args) in sorted(found.items()):
      drawn.clear()
      values = np.asarray(nn.unbox(init(jax.random.key(0), *args))).ravel()
      changes = np.flatnonzero(np.diff(values, prepend=np.nan))
      out[path] = " ".join(
          ["drawn" if drawn else "set", *(f"{values[i]:.4g}" for i in changes)])
  return out


CASES = {
    "micro": lambda: first(build.emma_config(tiny.model(
        tie_embeddings=False, embed_std=0.3, residual_gain=0.25))),
    "4b": lambda: first(build.emma_config(models.emma_4b())),
}


def cases():
  return {name: case() for name, case in CASES.items()}
