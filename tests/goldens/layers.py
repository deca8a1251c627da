"""Norms, products, positions, attention and convolutions on fixed numbers."""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from emma_jax.models import attention, convolution, layers, norm_rope
from emma_jax.structs import TokenIds
from tests import fixed

KEPT = 6


def ids(queries: int | None = None) -> TokenIds:
  """The drawing of `masks`: an edit r r i i n n, a question p p q, padding."""
  x = lambda *v: jnp.array([v, v[::-1]], jnp.int32)[:, :queries]
  return TokenIds(
    segment=x(1, 1, 1, 1, 1, 1, 2, 2, 2, 0),
    order=x(0, 1, 2, 3, 4, 5, 6, 7, 8, 0),
    last_visible=x(1, 1, 2, 3, 5, 5, 6, 7, 8, 0),
    noise_group=x(0, 0, 0, 0, 1, 1, 0, 0, 0, 0),
    position=x(0, 1, 2, 3, 4, 5, 0, 1, 2, 0),
  )


def _rms_norm(dtype):
  f = lambda scale, x: layers.rms_norm(x, scale, 0.03)
  return fixed.measured(
    f, 1 + fixed.values("scale", (24,)), fixed.values("x", (3, 5, 24), dtype)
  )


def _layer_norm(dtype):
  f = lambda p, x: layers.layer_norm(x, *p, 0.03)
  p = 1 + fixed.values("scale", (24,)), fixed.values("bias", (24,))
  return fixed.measured(f, p, 2 + fixed.values("x", (3, 5, 24), dtype))


def _module(module: nn.Module, *shape: int):
  def case(dtype):
    x = fixed.values("x", shape, dtype)
    return fixed.measured(*fixed.bound(module, x), x)

  return case


def _contract(dtype):
  f = lambda w, x: layers.contract(x, w, layers.einsum("BLD,DHE->BLHE"))
  return fixed.measured(
    f, fixed.values("w", (12, 3, 4)), fixed.values("x", (2, 5, 12), dtype)
  )


def _norm_rope(dtype):
  position = jnp.array([[0, 1, 2, 255, 257, 40959], [7, 6, 5, 300, 2, 1]])
  f = lambda scale, x: norm_rope.norm_rope(x, scale, position, 0.03, 1e4)
  return fixed.measured(
    f, 1 + fixed.values("scale", (8,)), fixed.values("x", (2, 6, 3, 8), dtype)
  )


def _attention(masked: bool):
  def case(dtype):
    q_ids, k_ids = (ids(8), ids()) if masked else (None, None)
    f = lambda _, q, k, v: attention.attend(q, k, v, q_ids, k_ids, "plain")
    inputs = (
      fixed.values("q", (2, 8, 4, 8), dtype),
      fixed.values("k", (2, 10, 2, 8), dtype) * np.float32(9),
      fixed.values("v", (2, 10, 2, 8), dtype),
    )
    return fixed.measured(f, (), *(x.astype(dtype) for x in inputs))

  return case


def _pixels(dtype):
  """What moves, averages and repeats pixels and channels; no weights."""

  def f(_, x):
    c = convolution
    return {
      "fold": c.space_to_depth(x),
      "unfold": c.depth_to_space(x),
      "mean": c.folded_mean(x, 4),
      "group": c.group_mean(x, 2),
      "repeat": c.repeat_channels(x, 16),
    }

  return fixed.measured(f, (), fixed.values("x", (2, 4, 6, 8), dtype))


CASES = fixed.both(
  {
    "rms_norm": _rms_norm,
    "layer_norm": _layer_norm,
    "linear": _module(layers.Linear(7), 2, 5, 12),
    "norm_rope": _norm_rope,
    "attention": _attention(masked=True),
    "conv": _module(convolution.Conv3x3(6), 2, 5, 6, 4),
    "depthwise": _module(convolution.Depthwise(3), 2, 5, 6, 4),
  }
) | fixed.float32(
  {
    "contract": _contract,
    "attention_of_all": _attention(masked=False),
    "conv_by_two": _module(convolution.Conv3x3(6, stride=2), 2, 5, 6, 4),
    "pixels": _pixels,
  }
)


def cases():
  return {name: case() for name, case in CASES.items()}
