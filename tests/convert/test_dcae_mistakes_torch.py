"""The documented mistakes of a DC-AE port, one at a time: parity sees each.

Every mistake is one that has been made, or is easily made, in porting the
model to channels-last JAX. Applied to the code, to the imported weights or to
the sizes, it must move the result by more than the tolerance of the parity
tests. Skipped where torch or diffusers is missing.
"""

from collections.abc import Callable
import dataclasses
import functools
import re
import types

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")

from emma_jax import rules
from emma_jax.models import convolution, tiling
from emma_jax.models import dcae_blocks as blocks
from emma_jax.models.convolution import Conv3x3, Depthwise
from emma_jax.models.layers import Linear
from tests.convert.dcae_pairs import Pair, error, noise, pair

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("exact_products")]
TOLERANCE = 5e-6  # of tests/convert/test_dcae_torch.py
QUICK = {"xla_backend_optimization_level": 0}  # each program runs once
TILES = tiling.Tiling(height=16, width=24, stride_height=12, stride_width=16)

Weights = Callable[[dict], dict]
Code = Callable[[pytest.MonkeyPatch], None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mistake:
  """What is done wrong, and where it is looked for."""

  kind: str
  method: str
  weights: Weights = lambda params: params
  code: Code | None = None
  sizes: dict = dataclasses.field(default_factory=dict)
  tiles: tiling.Tiling | None = None


# ------------------------------------------------------------- to the weights


def change(pattern: str, f: Callable[[np.ndarray], np.ndarray]) -> Weights:
  """Applies f to every leaf whose whole path matches."""

  def changed(params: dict) -> dict:
    flat = rules.flatten(params)
    hit = [path for path in flat if re.fullmatch(pattern, path)]
    assert hit, f"{pattern} is no leaf"
    return rules.unflatten(flat | {path: f(flat[path]) for path in hit})

  return changed


def swap(a: str, b: str, under: str) -> Weights:
  """Exchanges two names in the paths that begin with `under`."""

  def changed(params: dict) -> dict:
    other = {a: b, b: a}
    name = lambda path: "/".join(other.get(p, p) for p in path.split("/"))
    return rules.unflatten(
      {
        name(path) if path.startswith(under) else path: x
        for path, x in rules.flatten(params).items()
      }
    )

  return changed


def gate_first(w: np.ndarray) -> np.ndarray:
  return np.roll(w, w.shape[-1] // 2, axis=-1)


# ---------------------------------------------------------------- to the code


def replace(module, name: str, new) -> Code:
  return lambda patch: patch.setattr(module, name, new)


def conv(x, kernel, stride, padding):
  return jax.lax.conv_general_dilated(
    x,
    kernel,
    (stride, stride),
    padding,
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
  )


def same_padding(x, kernel, stride=1):
  return conv(x, kernel, stride, "SAME")


def tf32(x, kernel, stride=1):
  x, kernel = (jax.lax.reduce_precision(a, 8, 10) for a in (x, kernel))
  return conv(x, kernel, stride, ((1, 1), (1, 1)))


def attention(q, k, v, *, relu=jax.nn.relu, eps=1e-15, divide=True):
  """The right one, unless told otherwise."""
  q, k = relu(q), relu(k)
  total = jnp.einsum("PNGE,PNGF,PMGE->PMGF", k, v, q)
  if not divide:
    return total
  mass = jnp.einsum("PNGE,PMGE->PMG", k, q)
  return total / (mass[..., None] + eps)


def heads_by_name(q, k, v):
  """As if to_q, to_k and to_v were what they are called."""
  runs = jnp.stack([q, k, v], axis=3)
  P, N, G, _, E = runs.shape
  heads = 4
  named = runs.reshape(P, N, G // heads, 3, heads, E)
  q, k, v = (named[:, :, :, i].reshape(P, N, G, E) for i in range(3))
  return attention(q, k, v)


def strided_mean(x, features):
  return x.reshape(*x.shape[:-1], -1, features).mean(-2)


def tiled_channels(x, features):
  return jnp.tile(x, (1, 1, 1, features // x.shape[-1]))


def fold_channels_last(x, factor=2):
  P, Y, X, C = x.shape
  x = x.reshape(P, Y // factor, factor, X // factor, factor, C)
  x = x.transpose(0, 1, 3, 2, 4, 5)
  return x.reshape(P, Y // factor, X // factor, -1)


def unfold_channels_last(x, factor=2):
  P, Y, X, C = x.shape
  x = x.reshape(P, Y, X, factor, factor, C // factor**2)
  x = x.transpose(0, 1, 3, 2, 4, 5)
  return x.reshape(P, Y * factor, X * factor, -1)


class UngatedGlu(blocks.GluMbConv):
  """No silu after the first convolution."""

  @nn.compact
  def __call__(self, x):
    channels = x.shape[-1]
    y = Linear(8 * channels, name="inverted")(x)
    y = Depthwise(3, name="depth")(y)
    value, gate = jnp.split(y, 2, axis=-1)
    y = Linear(channels, use_bias=False, name="point")(
      value * jax.nn.silu(gate)
    )
    return x + blocks.RmsNorm2d(name="norm")(y)


class NormBetween(blocks.ResBlock):
  """conv, norm, act, conv instead of conv, act, conv, norm."""

  @nn.compact
  def __call__(self, x):
    y = Conv3x3(x.shape[-1], name="conv1")(x)
    y = blocks.ACTIVATIONS[self.act_fn](
      blocks.NORMS[self.norm_type](name="norm")(y)
    )
    return x + Conv3x3(x.shape[-1], use_bias=False, name="conv2")(y)


class ActAfter(blocks.ResBlock):
  """A second activation after the norm."""

  @nn.compact
  def __call__(self, x):
    act = blocks.ACTIVATIONS[self.act_fn]
    y = Conv3x3(x.shape[-1], name="conv1")(x)
    y = Conv3x3(x.shape[-1], use_bias=False, name="conv2")(act(y))
    return x + act(blocks.NORMS[self.norm_type](name="norm")(y))


class BilinearUp(blocks.Up):
  @nn.compact
  def __call__(self, x):
    P, Y, X, _ = x.shape
    y = jax.image.resize(x, (P, 2 * Y, 2 * X, x.shape[-1]), "bilinear")
    y = Conv3x3(self.features, name="conv")(y)
    repeated = convolution.repeat_channels(x, 4 * self.features)
    return y + convolution.depth_to_space(repeated)


class BatchStatistics(blocks.BatchNorm):
  @nn.compact
  def __call__(self, x):
    scale, bias, _, _ = (
      self.param(name, nn.initializers.ones, x.shape[-1:])[None, None, None]
      for name in ("scale", "bias", "mean", "var")
    )
    mean = x.mean((0, 1, 2), keepdims=True)
    var = x.var((0, 1, 2), keepdims=True)
    return (x - mean) / jnp.sqrt(var + 1e-5) * scale + bias


def batch_statistics(patch: pytest.MonkeyPatch) -> None:
  patch.setitem(blocks.NORMS, "batch_norm", BatchStatistics)


def join_unblended(tiles, t):
  """Neighbours as the decoder made them, not as already blended."""
  strips = []
  for i, row in enumerate(tiles):
    kept = []
    for j, tile in enumerate(row):
      if i:
        tile = tiling._fade(
          tiles[i - 1][j], tile, t.height - t.stride_height, axis=1
        )
      if j:
        tile = tiling._fade(row[j - 1], tile, t.width - t.stride_width, axis=2)
      kept.append(tile[:, : t.stride_height, : t.stride_width])
    strips.append(jnp.concatenate(kept, axis=2))
  return jnp.concatenate(strips, axis=1)


def blend_half_a_step_late(a, b, overlap, axis):
  """The first row has a share of the new tile, the last of the old."""
  overlap = min(a.shape[axis], b.shape[axis], overlap)
  old = jax.lax.slice_in_dim(a, a.shape[axis] - overlap, None, axis=axis)
  new, rest = jnp.split(b, [overlap], axis=axis)
  share = (np.arange(overlap, dtype=np.float32) + 0.5) / overlap
  share = share.reshape([-1 if n == axis else 1 for n in range(4)])
  return jnp.concatenate([old * (1 - share) + new * share, rest], axis=axis)


def padded_at_the_top(patch: pytest.MonkeyPatch) -> None:
  """Edge tiles filled up above and on the left."""
  pad = lambda x, widths: jnp.pad(x, [w[::-1] for w in widths])
  other = types.SimpleNamespace(**vars(jnp) | {"pad": pad})
  patch.setattr(tiling, "jnp", other)


SANA, IMAGENET = dict(kind="sana"), dict(kind="imagenet")
ENCODE, DECODE = dict(method="encode"), dict(method="decode")
ATTENTION = functools.partial(functools.partial, attention)

MISTAKES = {
  "q, k and v by name": Mistake(
    **SANA, **ENCODE, code=replace(blocks, "linear_attention", heads_by_name)
  ),
  "to_q and to_k swapped": Mistake(
    **SANA, **ENCODE, weights=swap("to_q", "to_k", "encoder/")
  ),
  "groups of the scale transposed": Mistake(
    **SANA,
    **ENCODE,
    weights=change(r".*/scale\d/kernel", lambda w: w.swapaxes(1, 2)),
  ),
  "depthwise kernels flipped": Mistake(
    **SANA,
    **ENCODE,
    weights=change(".*/(depth|filter)/kernel", lambda w: w[::-1, ::-1]),
  ),
  "rows and columns of kernels swapped": Mistake(
    **SANA,
    **ENCODE,
    weights=change("encoder/.*conv[12]/kernel", lambda w: w.swapaxes(0, 1)),
  ),
  "attention without relu": Mistake(
    **SANA,
    **ENCODE,
    code=replace(blocks, "linear_attention", ATTENTION(relu=lambda x: x)),
  ),
  "attention not divided": Mistake(
    **SANA,
    **ENCODE,
    code=replace(blocks, "linear_attention", ATTENTION(divide=False)),
  ),
  "attention eps 1e-3": Mistake(
    **SANA,
    **ENCODE,
    code=replace(blocks, "linear_attention", ATTENTION(eps=1e-3)),
  ),
  "rms norm eps 1e-6": Mistake(
    **SANA, **DECODE, code=replace(blocks, "NORM_EPS", 1e-6)
  ),
  "rms norm without bias": Mistake(
    **SANA, **DECODE, weights=change(".*/norm(_out)?/bias", np.zeros_like)
  ),
  "conv1 without bias": Mistake(
    **SANA, **DECODE, weights=change(".*/conv1/bias", np.zeros_like)
  ),
  "norm between the convolutions": Mistake(
    **SANA, **ENCODE, code=replace(blocks, "ResBlock", NormBetween)
  ),
  "activation after the norm": Mistake(
    **SANA, **ENCODE, code=replace(blocks, "ResBlock", ActAfter)
  ),
  "gate first": Mistake(
    **SANA,
    **ENCODE,
    weights=change(".*/conv/(inverted|depth)/(kernel|bias)", gate_first),
  ),
  "glu without its first silu": Mistake(
    **SANA, **ENCODE, code=replace(blocks, "GluMbConv", UngatedGlu)
  ),
  "batch norm eps 1e-3": Mistake(
    **IMAGENET,
    **DECODE,
    weights=change(".*/var", lambda v: v + np.float32(1e-3 - 1e-5)),
  ),
  "batch statistics": Mistake(**IMAGENET, **DECODE, code=batch_statistics),
  "running mean not read": Mistake(
    **IMAGENET, **DECODE, weights=change(".*/mean", np.zeros_like)
  ),
  "running variance not read": Mistake(
    **IMAGENET, **DECODE, weights=change(".*/var", np.ones_like)
  ),
  "stride 2 padded (0, 1)": Mistake(
    **SANA, **ENCODE, code=replace(convolution, "conv3x3", same_padding)
  ),
  "convolutions in TF32": Mistake(
    **SANA, **ENCODE, code=replace(convolution, "conv3x3", tf32)
  ),
  "unshuffle to (dy, dx, c)": Mistake(
    **IMAGENET,
    **ENCODE,
    code=replace(convolution, "space_to_depth", fold_channels_last),
  ),
  "shuffle from (dy, dx, c)": Mistake(
    **IMAGENET,
    **DECODE,
    code=replace(convolution, "depth_to_space", unfold_channels_last),
  ),
  "strided means in shortcuts": Mistake(
    **IMAGENET, **ENCODE, code=replace(convolution, "group_mean", strided_mean)
  ),
  "tiled channels in shortcuts": Mistake(
    **IMAGENET,
    **DECODE,
    code=replace(convolution, "repeat_channels", tiled_channels),
  ),
  "no shortcut out of the encoder": Mistake(
    **SANA, **ENCODE, sizes=dict(encoder_out_shortcut=False)
  ),
  "no shortcut into the decoder": Mistake(
    **SANA, **DECODE, sizes=dict(decoder_in_shortcut=False)
  ),
  "bilinear upsampling": Mistake(
    **SANA, **DECODE, code=replace(blocks, "Up", BilinearUp)
  ),
  "silu before the last convolution": Mistake(
    **SANA, **DECODE, sizes=dict(decoder_conv_act_fn="silu")
  ),
  "silu in all of the decoder": Mistake(
    **IMAGENET, **DECODE, sizes=dict(decoder_act_fns=("silu",) * 3)
  ),
  "blocks of a stage in reverse": Mistake(
    **SANA, **ENCODE, weights=swap("block0", "block1", "encoder/stage1/")
  ),
  "scaling factor not read": Mistake(
    **SANA,
    method="encode_normalised",
    weights=change("latent/scale", np.ones_like),
  ),
  "scaling factor divides": Mistake(
    **SANA,
    method="encode_normalised",
    weights=change("latent/scale", lambda x: 1 / x),
  ),
  "scaling factor in bfloat16": Mistake(
    **SANA,
    method="encode_normalised",
    weights=change(
      "latent/scale",
      lambda x: np.asarray(jnp.asarray(x, jnp.bfloat16), np.float32),
    ),
  ),
  "tiles blended with unblended ones": Mistake(
    **IMAGENET,
    **DECODE,
    code=replace(tiling, "_join", join_unblended),
    tiles=TILES,
  ),
  "tiles blended half a step late": Mistake(
    **IMAGENET,
    **DECODE,
    tiles=TILES,
    code=replace(tiling, "_fade", blend_half_a_step_late),
  ),
  "edge tiles padded at the top": Mistake(
    **IMAGENET, **ENCODE, code=padded_at_the_top, tiles=TILES
  ),
}


def result(m: Mistake, params: dict, x: np.ndarray, sizes: dict) -> np.ndarray:
  module = pair(m.kind).module
  module = module.clone(config=dataclasses.replace(module.config, **sizes))
  if m.tiles is None:  # op by op: what one mistake compiled serves the next
    return np.asarray(module.apply({"params": params}, x, method=m.method))
  run = jax.jit(
    lambda params, x: module.apply(
      {"params": params}, x, m.tiles, method=m.method
    ),
    compiler_options=QUICK,
  )
  return np.asarray(run(params, x))


def expected(m: Mistake, p: Pair, x: np.ndarray) -> np.ndarray:
  """diffusers' result."""
  if m.tiles is not None:
    p.reference.enable_tiling(*m.tiles.size, *m.tiles.stride)
  try:
    y = p.decode(x) if m.method == "decode" else p.encode(x)
  finally:
    p.reference.disable_tiling()
  normalised = m.method.endswith("normalised")
  return y * np.float32(p.scaling_factor) if normalised else y


@functools.cache
def right(kind: str, method: str, tiles):
  """(input, diffusers' result, the unchanged code's run)."""
  p, m = pair(kind), Mistake(kind=kind, method=method, tiles=tiles)
  height, width = (29, 42) if tiles else (12, 16)
  x = noise(1, height, width, 3)
  if method == "decode":
    x = noise(1, height // 4, width // 4, 4)
  theirs = expected(m, p, x)
  assert error(result(m, p.params, x, {}), theirs) < TOLERANCE
  return x, theirs


@pytest.mark.parametrize("name", MISTAKES)
def test_parity_sees(name: str, monkeypatch: pytest.MonkeyPatch):
  m = MISTAKES[name]
  x, theirs = right(m.kind, m.method, m.tiles)
  params = jax.tree.map(jnp.asarray, m.weights(pair(m.kind).params))
  if m.code:
    m.code(monkeypatch)
  e = error(result(m, params, x, m.sizes), theirs)
  print(f"{name}: {e:.1e}")
  assert e > TOLERANCE
