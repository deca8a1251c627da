"""What the parameters of an EMMA are called in PyTorch, and how they lie there.

Names are our paths with dots; stacked layers are numbered; layouts are torch's:
Linear (out, in), convolution (out, in / groups, rows, columns).

  llm/shallow/shared/qk/q (Z, D, H, E) -> llm.shallow.0.shared.qk.q.weight, ...
  autoencoder/encoder/conv_out/kernel  -> autoencoder.encoder.conv_out.weight
"""

from collections.abc import Sequence
import functools
import math
import re

import einops
import jax
import numpy as np

from emma_jax import rules
from emma_jax.convert import table
from emma_jax.models.emma import EmmaConfig
from emma_jax.models.initial import init_params


def _matrix(shape: Sequence[int], inputs: int) -> tuple:
  """(in ..., out ...) with `inputs` input axes <-> Linear (out, in)."""
  rows = math.prod(shape[:inputs])
  return lambda x: x.reshape(rows, -1).T, lambda y: y.T.reshape(shape)


def _convolution(shape: Sequence[int]) -> tuple:
  """HWIO <-> OIHW."""
  return (lambda x: x.transpose(3, 2, 0, 1), lambda y: y.transpose(2, 3, 1, 0))


def _pointwise(shape: Sequence[int]) -> tuple:
  """(in, out) <-> a 1x1 convolution (out, in, 1, 1)."""
  return lambda x: x.T[:, :, None, None], lambda y: y[:, :, 0, 0].T


def _depthwise(shape: Sequence[int]) -> tuple:
  """(rows, columns, C) <-> (C, 1, rows, columns)."""
  return (
    lambda x: x.transpose(2, 0, 1)[:, None],
    lambda y: y[:, 0].transpose(1, 2, 0),
  )


def _grouped(shape: Sequence[int]) -> tuple:
  """(groups, in, out) <-> a grouped 1x1 convolution (groups out, in, 1, 1)."""
  return (
    lambda x: einops.rearrange(x, "g i o -> (g o) i 1 1"),
    lambda y: einops.rearrange(y, "(g o) i 1 1 -> g i o", g=shape[0]),
  )


def _same(shape: Sequence[int]) -> tuple:
  return table.same, table.same


_linear = functools.partial(_matrix, inputs=1)
# Path of a leaf (without the layer) -> its name, and its layout; the first
# pattern that matches counts.
_NAMES = (
  (r"(autoencoder/latent/(?:shift|scale))", r"\1", _same),
  (
    r"(autoencoder/.*/(?:inverted|point|to_\w+))/kernel",
    r"\1/weight",
    _pointwise,
  ),
  (r"(autoencoder/.*/(?:depth|filter))/kernel", r"\1/weight", _depthwise),
  (r"(autoencoder/.*/scale\d+)/kernel", r"\1/weight", _grouped),
  (r"(autoencoder/.*|vision/embed)/kernel", r"\1/weight", _convolution),
  (r"(autoencoder/.*)/(mean|var)", r"\1/running_\2", _same),
  (r"(vision/embed/position|adapters/gen/null_semantic)", r"\1", _same),
  (r"(llm/.*/o)/kernel", r"\1/weight", functools.partial(_matrix, inputs=2)),
  (r"(llm/.*/(?:qk/[qk]|mlp/(?:gate|up|down)))", r"\1/weight", _linear),
  (r"(llm/(?:embed|lm_head)|llm/.*/[qk]_norm)", r"\1/weight", _same),
  (r"(.*)/kernel", r"\1/weight", _linear),
  (r"(.*)/scale", r"\1/weight", _same),
  (r"(.*/bias)", r"\1", _same),
)
# Of the vision tower `lower` and its experts, whatever their names.
_STACKED = re.compile(
  r"(llm/(?:shallow|deep)|vision/(?!embed/|post_norm/|router/)\w+)/(.*)"
)


def entries(config: EmmaConfig) -> tuple[table.Entry, ...]:
  """The name table of a whole EMMA, in the order of our tree."""
  return tuple(
    _entry(path, tuple(leaf.shape)) for path, leaf in shapes(config).items()
  )


def theirs(config: EmmaConfig) -> dict[str, tuple[int, ...]]:
  """Name in PyTorch -> shape of every tensor."""
  out: dict[str, tuple[int, ...]] = {}
  for entry, leaf in zip(entries(config), shapes(config).values()):
    # A zero seen as a whole leaf: no memory, and the shape theirs has.
    zero = np.broadcast_to(
      np.int8(0), leaf.shape[1:] if entry.stacked else leaf.shape
    )
    out |= dict.fromkeys(entry.theirs, entry.to_theirs(zero).shape)
  return out


def shapes(config: EmmaConfig) -> dict[str, jax.ShapeDtypeStruct]:
  """Slash path -> shape of every parameter."""
  return rules.flatten(
    jax.eval_shape(lambda: init_params(config, jax.random.key(0)))
  )


def _entry(path: str, shape: tuple[int, ...]) -> table.Entry:
  stacked = _STACKED.fullmatch(path)
  name, layout = _named(path)
  to_theirs, to_ours = layout(shape[1:] if stacked else shape)
  names: tuple[str, ...] = (name,)
  if stacked:
    stack = stacked[1]
    names = tuple(f"{stack}/{i}{name[len(stack) :]}" for i in range(shape[0]))
  return table.Entry(
    path,
    tuple(n.replace("/", ".") for n in names),
    to_ours,
    to_theirs,
    stacked=bool(stacked),
  )


def _named(path: str) -> tuple:
  for pattern, name, layout in _NAMES:
    match = re.fullmatch(pattern, path)
    if match:
      return match.expand(name), layout
  raise ValueError(f"{path} has no name in PyTorch; add it to the table.")
