"""Mistakes that ports of SigLIP make, one at a time: parity catches each.

Without a mistake the same comparison is within tolerance, so a mistake that
gets through would show a comparison that is blind to it.
"""

from collections.abc import Callable
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emma_jax import rules
from emma_jax.convert import siglip
from emma_jax.models import layers, naflex, resize, siglip2, siglip2_vision

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from tests.convert import siglip_reference as reference

TOLERANCE = reference.TOLERANCE
GRIDS = [(5, 5), (2, 9), (7, 3), (1, 2)]
PADDED = reference.Padded.of(GRIDS, 28)
# Pictures whose comparison shows a mistake: pixels (Y, X) with patches of 14
# and 3 x 3 positions. 5 x 2 patches: up in one direction, down in the other.
SIZES = {"fixed": (75, 33), "strip": (14, 130), "offset": (45, 45)}


@dataclasses.dataclass(frozen=True)
class Port:
  """Our side of a comparison, which a mistake replaces parts of."""

  module: Any
  params: dict
  inputs: tuple
  report: Callable = lambda out, params: out  # of dicts, see `named`

  def leaf(self, path: str, change: Callable) -> "Port":
    flat = rules.flatten(self.params)
    return dataclasses.replace(
      self, params=rules.unflatten(flat | {path: change(flat[path])})
    )

  def every(self, change: Callable) -> "Port":
    return dataclasses.replace(self, params=jax.tree.map(change, self.params))

  def encoder(self, **changes) -> "Port":
    vision = self.module.config
    vision = dataclasses.replace(
      vision, encoder=dataclasses.replace(vision.encoder, **changes)
    )
    return dataclasses.replace(self, module=type(self.module)(vision))


@pytest.fixture(scope="module")
def cases(tmp_path_factory) -> dict[str, tuple]:
  """Name -> (our side without a mistake, reference, slots to compare)."""
  out = {}
  for name, size in SIZES.items():
    folder = tmp_path_factory.mktemp(name)
    model = reference.fixed(offset=15.0 if name == "offset" else 0.0)
    model.save_pretrained(folder)
    x = reference.pixels(2, *size, 3)
    port = Port(*siglip.load(folder), (x,))
    out[name] = port, reference.of_fixed(model, x), None
  folder = tmp_path_factory.mktemp("naflex")
  model = reference.flexible()
  model.save_pretrained(folder)
  module, params = siglip.load(folder)
  port = Port(
    naflex.PackedVision(module.config),
    params,
    (PADDED.patches_PTC, PADDED.grids_P2[:, None]),
  )
  theirs = reference.of_flexible(model, PADDED.patches_PTC, PADDED.grids_P2)
  out["naflex"] = port, theirs, PADDED.valid_PT
  return out


def worst(port: Port, theirs, valid) -> float:
  apply = lambda params, *x: port.module.apply({"params": params}, *x)
  with jax.default_matmul_precision("highest"):
    # Compiled anew: a mistake may be in a function that was traced before.
    out = jax.jit(apply)(port.params, *port.inputs)
  if out.pooled_PD.ndim == 3:
    out = out._replace(pooled_PD=out.pooled_PD[:, 0])
  ours = port.report(reference.named(out), port.params)
  return max(reference.errors(ours, theirs, valid).values())


@pytest.mark.parametrize("name", [*SIZES, "naflex"])
def test_without_a_mistake(cases, name):
  error = worst(*cases[name])
  print(f"  {name}: {error:.1e} of the maximum")
  assert error < TOLERANCE


# --------------------------------------------------------------- mistakes
# Each takes our side and pytest's monkeypatch, and returns our side.


def erf_gelu(port, patch):
  gelu = jax.nn.gelu
  patch.setattr(jax.nn, "gelu", lambda x, approximate: gelu(x, False))
  return port


def fast_variance(port, patch):
  def layer_norm(x, scale, bias, eps):
    mean = jnp.mean(x, axis=-1, keepdims=True)
    square = jnp.mean(x * x, axis=-1, keepdims=True)
    y = (x - mean) * jax.lax.rsqrt(square - mean * mean + eps)
    return y * layers.along_last(scale, y) + layers.along_last(bias, y)

  patch.setattr(layers, "layer_norm", layer_norm)
  return port


def dropped_at_the_start(port, patch):
  cut = siglip2.patches

  def patches(x, size):
    return cut(x[:, x.shape[1] % size :, x.shape[2] % size :], size)

  patch.setattr(siglip2, "patches", patches)
  return port


def bicubic_of_jax(antialias: bool):
  """A = -0.5, and perhaps antialiased."""

  def weights(size_in, size_out):
    return jax.image.resize(
      jnp.eye(size_in), (size_out, size_in), "bicubic", antialias=antialias
    )

  def mistake(port, patch):
    patch.setitem(resize.METHODS, "bicubic", weights)
    return port

  return mistake


def corners_aligned(port, patch):
  def center(index, size_out, size_in):
    return index * (size_in - 1), np.maximum(size_out - 1, 1)

  patch.setattr(resize, "_center", center)
  return port


def native_by_count(port, patch):
  """Positions left alone where there are as many, whatever the shape."""
  own = resize.resize

  def by_count(grid, shape, method):
    if shape[0] * shape[1] == grid.shape[0] * grid.shape[1]:
      return grid.reshape(*shape, -1)
    return own(grid, shape, method)

  patch.setattr(resize, "resize", by_count)
  return port


def no_antialias(port, patch):
  def bilinear(index, size_out, size_in, xp):
    top, bottom = (
      x[..., None] for x in resize._center(index, size_out, size_in)
    )
    # Beyond the edge the edge is repeated.
    place = xp.clip(top / bottom, 0, size_in - 1)
    cells = np.arange(size_in).reshape((1,) * (place.ndim - 1) + (-1,))
    return xp.maximum(1 - abs(place - cells), 0.0)

  patch.setitem(resize._TRACED, "bilinear_antialias", bilinear)
  return port


def width_before_height(port, patch):
  """Positions of the transposed size; the mask stays right."""
  patches, grids = port.inputs
  return dataclasses.replace(port, inputs=(patches, grids[..., ::-1]))


def encoder_sees_padding(port, patch):
  trunk = siglip2.trunk
  patch.setattr(siglip2, "trunk", lambda c, x, _, keep: trunk(c, x, None, keep))
  return port


def head_sees_padding(port, patch):
  head = siglip2_vision.PoolingHead
  patch.setattr(
    siglip2_vision,
    "PoolingHead",
    lambda c, name: (
      lambda x, member: head(c, name=name)(x, jnp.ones_like(member))
    ),
  )
  return port


def residual_normalised(port, patch):
  """pooled = norm(y) + mlp(norm(y)): the norm moved out of the branch."""
  own = layers.LayerNorm

  class Inner(siglip2_vision.PoolingHead):
    def __call__(self, x, member=None):
      norms = []

      def keep(*args, **kwargs):
        module = own(*args, **kwargs)

        def call(y):
          norms.append((y, module(y)))
          return norms[-1][1]

        return call

      with pytest.MonkeyPatch.context() as inner:
        inner.setattr(layers, "LayerNorm", keep)
        pooled = super().__call__(x, member)
      ((y, z),) = norms
      return pooled - y + z

  patch.setattr(siglip2_vision, "PoolingHead", Inner)
  return port


def residual_of_the_probe(port, patch):
  return port.leaf("head/out/bias", lambda x: x + port.params["head"]["probe"])


def key_query_value(port, patch):
  """The fused projection in another order."""
  swap = lambda x: np.concatenate(
    [np.split(x, 3, -1)[i] for i in (1, 0, 2)], -1
  )
  port = port.leaf("head/in_kernel", swap)
  return port.leaf("head/in_bias", swap)


def last_state_normalised(port, patch):
  def report(out, params):
    last = max(k for k in out if k.startswith("state"))
    return out | {last: out["patches"]}

  return dataclasses.replace(port, report=report)


def no_post_norm(port, patch):
  def report(out, params):
    last = max(k for k in out if k.startswith("state"))
    return out | {"patches": out[last]}

  return dataclasses.replace(port, report=report)


def scale_of_the_width(port, patch):
  """Scores divided by the root of the width, not of the head's width."""
  c = port.module.config.encoder
  factor = np.float32((c.head_dim / c.width) ** 0.5)
  for leaf in ("kernel", "bias"):
    port = port.leaf(f"blocks/attention/query/{leaf}", lambda x: x * factor)
  return port


def norms_swapped(port, patch):
  blocks = dict(port.params["blocks"])
  a, b = "attention_norm", "mlp_norm"
  blocks[a], blocks[b] = blocks[b], blocks[a]
  return dataclasses.replace(port, params=port.params | {"blocks": blocks})


def heads_interleaved(port, patch):
  """Query split as (width of a head, heads)."""
  c = port.module.config.encoder
  change = lambda x: (
    x.reshape(*x.shape[:-1], c.head_dim, c.num_heads)
    .swapaxes(-1, -2)
    .reshape(x.shape)
  )
  return port.leaf("blocks/attention/query/kernel", change)


def tf32(x: np.ndarray) -> np.ndarray:
  """Ten bits of mantissa, as tensor cores take them."""
  bits = x.view(np.uint32)
  return ((bits + 0x1000) & np.uint32(0xFFFFE000)).view(np.float32)


def conv_order(x: np.ndarray) -> np.ndarray:
  """A NaFlex kernel read as (channel, row, column)."""
  p, _, C, D = x.shape
  return x.reshape(C, p, p, D).transpose(1, 2, 0, 3)


def grid_transposed(x: np.ndarray) -> np.ndarray:
  side = round(len(x) ** 0.5)
  return x.reshape(side, side, -1).swapaxes(0, 1).reshape(x.shape)


def bgr(port, patch):
  return dataclasses.replace(port, inputs=(port.inputs[0][..., ::-1],))


def zero_to_one(port, patch):
  return dataclasses.replace(port, inputs=((port.inputs[0] + 1) / 2,))


SWAP = lambda *axes: lambda x: x.swapaxes(*axes)
MISTAKES = [
  # Item 1 of the list of pitfalls: functions and epsilons.
  ("erf GELU", "fixed", erf_gelu),
  ("epsilon 1e-5", "fixed", lambda port, _: port.encoder(norm_eps=1e-5)),
  ("variance in one pass", "offset", fast_variance),
  # 2: patches.
  ("pixels dropped at the start", "fixed", dropped_at_the_start),
  (
    "patch rows and columns swapped",
    "fixed",
    lambda port, _: port.leaf("embed/kernel", SWAP(0, 1)),
  ),
  (
    "NaFlex kernel as a convolution's",
    "naflex",
    lambda port, _: port.leaf("embed/kernel", conv_order),
  ),
  ("blue first", "fixed", bgr),
  ("pixels in [0, 1]", "fixed", zero_to_one),
  # 3: positions of fixed resolution.
  ("bicubic with A = -0.5", "fixed", bicubic_of_jax(False)),
  ("bicubic antialiased", "fixed", bicubic_of_jax(True)),
  (
    "bilinear for bicubic",
    "fixed",
    lambda port, _: port.encoder(position_resize="bilinear_antialias"),
  ),
  ("corners aligned", "fixed", corners_aligned),
  ("native by count alone", "strip", native_by_count),
  (
    "positions column-major",
    "fixed",
    lambda port, _: port.leaf("embed/position", grid_transposed),
  ),
  # 4: positions of NaFlex.
  ("no antialias", "naflex", no_antialias),
  (
    "bicubic for bilinear",
    "naflex",
    lambda port, _: port.encoder(position_resize="bicubic"),
  ),
  ("width before height", "naflex", width_before_height),
  # 5: masks.
  ("encoder sees padding", "naflex", encoder_sees_padding),
  ("head sees padding", "naflex", head_sees_padding),
  # 6: the pooling head.
  ("residual normalised", "fixed", residual_normalised),
  ("residual of the probe", "fixed", residual_of_the_probe),
  ("key before query", "fixed", key_query_value),
  # 7: outputs and head widths.
  ("last state normalised", "fixed", last_state_normalised),
  ("no post norm", "fixed", no_post_norm),
  ("scores scaled by the width", "fixed", scale_of_the_width),
  ("heads interleaved", "fixed", heads_interleaved),
  # Of every import.
  (
    "kernel not transposed",
    "fixed",
    lambda port, _: port.leaf("blocks/attention/out/kernel", SWAP(1, 2)),
  ),
  ("norms swapped", "fixed", norms_swapped),
  (
    "layers in reverse",
    "fixed",
    lambda port, _: dataclasses.replace(
      port,
      params=port.params
      | {"blocks": jax.tree.map(lambda x: x[::-1], port.params["blocks"])},
    ),
  ),
  ("tf32 weights", "fixed", lambda port, _: port.every(tf32)),
  (
    "bfloat16 positions",
    "naflex",
    lambda port, _: port.leaf(
      "embed/position", lambda x: x.astype(jnp.bfloat16).astype(x.dtype)
    ),
  ),
]


@pytest.mark.parametrize(
  "case, mistake", [m[1:] for m in MISTAKES], ids=[m[0] for m in MISTAKES]
)
def test_a_mistake_is_caught(cases, monkeypatch, case, mistake):
  port, theirs, valid = cases[case]
  error = worst(mistake(port, monkeypatch), theirs, valid)
  print(f"  {error:.1e} of the maximum")
  assert error > TOLERANCE
