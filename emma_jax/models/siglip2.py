"""SigLIP2's vision encoder: pictures in [-1, 1] to patch features.

Tschannen et al. 2025 (arXiv 2502.14786); conventions of transformers'
`SiglipVisionModel` (fixed resolution) and, one picture size per call, of
`Siglip2VisionModel` (NaFlex; `naflex` packs mixed sizes). EMMA uses the patches
alone; the published models also pool them (`siglip2_vision`).

Axes: P pictures, Y and X pixel rows and columns, h and w rows and columns of
patches, T tokens (h * w, row-major), D width, H heads, E head width.
"""

import dataclasses
from typing import TypeVar

import einops
import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
import numpy as np

from emma_jax.models import layers, masks, partition, resize
from emma_jax.models.attention import attend, check_path
from emma_jax.structs import Array

_Either = TypeVar("_Either", jax.Array, np.ndarray)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SiglipConfig:
  """Sizes of a tower; `native_grid` squared is the number of positions.

  position_resize: "bicubic" (fixed resolution) or "bilinear_antialias"
  (NaFlex), the way positions are fitted to other grids. `scan_unroll` and
  `remat` (see `partition.remat`) change speed and memory only, as does
  `attention`, a path of `attention.attend`.
  """

  width: int
  mlp_width: int
  num_layers: int
  num_heads: int
  patch_size: int
  native_grid: int
  norm_eps: float
  num_channels: int
  position_resize: str
  scan_unroll: int
  remat: str
  attention: str

  def __post_init__(self):
    check_path(self.attention)
    if self.width % self.num_heads:
      raise ValueError(f"{self.width=} is not a multiple of {self.num_heads=}.")
    if self.position_resize not in resize.METHODS:
      raise ValueError(
        f"Unknown {self.position_resize=}; choose one of"
        f" {tuple(resize.METHODS)}."
      )
    partition.check_remat(self.remat)

  @property
  def head_dim(self) -> int:
    """Channels of an attention head."""
    return self.width // self.num_heads


SO400M_PATCH16_512 = SiglipConfig(
  width=1152,
  mlp_width=4304,
  num_layers=27,
  num_heads=16,
  patch_size=16,
  native_grid=32,
  norm_eps=1e-6,
  num_channels=3,
  position_resize="bicubic",
  scan_unroll=1,
  remat="none",
  attention="auto",
)
SO400M_PATCH14_384 = dataclasses.replace(
  SO400M_PATCH16_512, patch_size=14, native_grid=27
)
SO400M_PATCH16_NAFLEX = dataclasses.replace(
  SO400M_PATCH16_512, native_grid=16, position_resize="bilinear_antialias"
)
BASE_PATCH16_NAFLEX = dataclasses.replace(
  SO400M_PATCH16_NAFLEX, width=768, mlp_width=3072, num_layers=12, num_heads=12
)


def patches(pixels_PYXC: _Either, size: int) -> _Either:
  """Cuts pictures into (P, h, w, size * size * C), channel fastest.

  Within a patch the order is (row, column, channel). Rows and columns beyond a
  whole patch are dropped, as a convolution without padding does.
  """
  _, Y, X, _ = pixels_PYXC.shape
  whole = pixels_PYXC[:, : Y // size * size, : X // size * size]
  return einops.rearrange(
    whole, "P (h y) (w x) C -> P h w (y x C)", y=size, x=size
  )


def pixel_shuffle(x_PhwC: jax.Array, factor: int = 2) -> jax.Array:
  """Space to depth: (P, h, w, C) -> (P, h / factor, w / factor, factor**2 C).

  Channel fastest: output channel (dy * factor + dx) * C + c, so each of the
  merged tokens stays in one piece.
  """
  return einops.rearrange(
    x_PhwC, "P (h y) (w x) C -> P h w (y x C)", y=factor, x=factor
  )


def pixel_unshuffle(x_PhwC: jax.Array, factor: int = 2) -> jax.Array:
  """The inverse of `pixel_shuffle`."""
  return einops.rearrange(
    x_PhwC, "P h w (y x C) -> P (h y) (w x) C", y=factor, x=factor
  )


class Embed(nn.Module):
  """Patches times `kernel`, plus `bias`, plus the resized `position`.

  kernel is (row, column, channel, width): a convolution's HWIO, or a NaFlex
  linear's (row column channel, width) reshaped. position is (native_grid**2,
  width), row-major. `rounded_to`: the dtype of all pictures; positions are
  resized in float32.
  """

  config: SiglipConfig
  rounded_to: DTypeLike | None = None

  def setup(self):
    """Declares the weights."""
    c = self.config
    self.kernel = layers.weight(
      self,
      "kernel",
      (c.patch_size, c.patch_size, c.num_channels, c.width),
      (None, None, None, "embed"),
      layers.fan_in((0, 1, 2)),
      self.rounded_to,
    )
    self.bias = layers.weight(
      self, "bias", (c.width,), ("embed",), layers.zeros
    )
    self.position = layers.weight(
      self,
      "position",
      (c.native_grid**2, c.width),
      (None, "embed"),
      layers.normal(c.width**-0.5),
    )

  def __call__(self, pixels_PYXC: jax.Array) -> jax.Array:
    """(P, Y, X, C) -> (P, h, w, D)."""
    c = self.config
    x_PhwD = self._project(patches(pixels_PYXC, c.patch_size))
    _, h, w, _ = x_PhwD.shape
    grid = resize.resize(self._positions(), (h, w), c.position_resize)
    return x_PhwD + grid.astype(x_PhwD.dtype)[None]

  def packed(
    self, patches_PTC: jax.Array, cell_PT2: Array, grid_PT2: Array
  ) -> jax.Array:
    """Patches (P, T, C) of pictures of any sizes -> (P, T, D).

    Args:
      patches_PTC: values in the order of `patches`.
      cell_PT2: int32 (row, column) of a patch in its picture.
      grid_PT2: int32 (rows, columns) of patches of that picture.
    """
    x_PTD = self._project(patches_PTC)
    position_PTD = resize.resize_at(
      self._positions(), cell_PT2, grid_PT2, self.config.position_resize
    )
    return x_PTD + position_PTD.astype(x_PTD.dtype)

  def _project(self, patches: jax.Array) -> jax.Array:
    kernel = self.kernel.reshape(-1, self.config.width)
    return layers.linear(patches, kernel, self.bias)

  def _positions(self) -> jax.Array:
    side = self.config.native_grid
    return self.position.reshape(side, side, self.config.width)


class ToHeads(nn.Module):
  """Affine map (P, T, D) -> (P, T, H, D / H); weights as of `layers.Linear`.

  The product itself splits the heads: those of 72 channels do not lie in whole
  lanes, and a TPU would copy to split them afterwards.
  """

  num_heads: int

  @nn.compact
  def __call__(self, x_PTD: jax.Array) -> jax.Array:
    """Equals `layers.Linear`, then the reshape."""
    D, H = x_PTD.shape[-1], self.num_heads
    w_DD = layers.weight(
      self, "kernel", (D, D), ("embed", "heads"), rounded_to=x_PTD.dtype
    )
    b_D = layers.weight(self, "bias", (D,), ("heads",), layers.zeros)
    y_PTHE = layers.contract(
      x_PTD, w_DD.reshape(D, H, -1), layers.einsum("PTD,DHE->PTHE")
    )
    return plus(y_PTHE, b_D.reshape(H, -1))


class FromHeads(nn.Module):
  """Affine map (P, T, H, E) -> (P, T, H * E), as `ToHeads`."""

  @nn.compact
  def __call__(self, x_PTHE: jax.Array) -> jax.Array:
    """Equals the reshape, then `layers.Linear`."""
    H, E = x_PTHE.shape[2:]
    w_DD = layers.weight(
      self,
      "kernel",
      (H * E, H * E),
      ("heads", "embed"),
      rounded_to=x_PTHE.dtype,
    )
    b_D = layers.weight(self, "bias", (H * E,), ("embed",), layers.zeros)
    y_PTD = layers.contract(
      x_PTHE, w_DD.reshape(H, E, -1), layers.einsum("PTHE,HED->PTD")
    )
    return y_PTD + layers.along_last(b_D, y_PTD)


def plus(y_PTHE: jax.Array, b_HE: jax.Array) -> jax.Array:
  """y + b. On TPUs the bias's gradient is a product with ones: the sum over
  pictures and tokens takes them 25 times as long."""
  if not partition.for_tpu():
    return y_PTHE + b_HE.astype(y_PTHE.dtype)[None, None]
  return _plus(y_PTHE, b_HE)


@jax.custom_vjp
def _plus(y_PTHE, b_HE):
  return y_PTHE + b_HE.astype(y_PTHE.dtype)[None, None]


def _plus_backward(dtype_like_HE, dy_PTHE):
  P, T = dy_PTHE.shape[:2]
  ones_P8T = jnp.ones((P, 8, T), dy_PTHE.dtype)  # 8: the least rows of a tile
  sums_PH8E = jnp.einsum(
    "PAT,PTHE->PHAE", ones_P8T, dy_PTHE, preferred_element_type=jnp.float32
  )
  return dy_PTHE, sums_PH8E[:, :, 0].sum(0).astype(dtype_like_HE.dtype)


_plus.defvjp(lambda y, b: (_plus(y, b), b), _plus_backward)


class Attention(nn.Module):
  """Bidirectional multi-head attention with biases; softmax in float32."""

  config: SiglipConfig

  @nn.compact
  def __call__(self, x_PTD: jax.Array, part_PT: jax.Array | None) -> jax.Array:
    """part_PT: tokens see those of their own part; 0 is padding, which sees
    nothing and gives zeros. None: all see all."""
    c = self.config

    def by_head(y_PTHE: jax.Array) -> jax.Array:
      return partition.constrain(y_PTHE, "pictures", None, "heads", None)

    def heads(name: str) -> jax.Array:
      y_PTHE = ToHeads(c.num_heads, name=name)(x_PTD)
      return partition.save_residual_flat(by_head(y_PTHE), name)

    ids = None if part_PT is None else masks.together(part_PT)
    y_PTHE = attend(
      heads("query"), heads("key"), heads("value"), ids, ids, c.attention
    )
    y_PTD = FromHeads(name="out")(by_head(y_PTHE))
    return partition.save_residual(y_PTD, "attn_proj")


class Mlp(nn.Module):
  """Linear, tanh GELU, linear."""

  config: SiglipConfig

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """(P, ..., D) -> (P, ..., D)."""
    c = self.config
    x = layers.Linear(c.mlp_width, ("embed", "mlp"), name="up")(x)
    x = partition.constrain(x, "pictures", *[None] * (x.ndim - 2), "mlp")
    x = jax.nn.gelu(partition.save_residual(x, "mlp_up"), approximate=True)
    return layers.Linear(c.width, ("mlp", "embed"), name="down")(x)


class EncoderBlock(nn.Module):
  """Pre-LN attention and MLP; the body of a scan.

  Returns (output, output if `keep` else None).
  """

  config: SiglipConfig
  keep: bool = False

  @nn.compact
  def __call__(self, x_PTD: jax.Array, part_PT: jax.Array | None = None):
    """(P, T, D) -> twice (P, T, D); `part_PT` as `Attention` takes it."""
    c = self.config
    x_PTD = partition.constrain(x_PTD, "pictures", None, None)
    y = layers.LayerNorm(c.norm_eps, name="attention_norm")(x_PTD)
    y = partition.save_residual(y, "attn_in")
    x_PTD = x_PTD + Attention(c, name="attention")(y, part_PT)
    y = layers.LayerNorm(c.norm_eps, name="mlp_norm")(x_PTD)
    x_PTD = x_PTD + Mlp(c, name="mlp")(partition.save_residual(y, "mlp_in"))
    return x_PTD, x_PTD if self.keep else None


def stack(
  config: SiglipConfig,
  length: int,
  *,
  keep: bool = False,
  name: str | None = None,
) -> nn.Module:
  """`length` blocks run by scan; weights have a leading axis of layers.

  Maps (tokens (P, T, D), their parts, see `Attention`, or None) to (tokens,
  every block's output (length, P, T, D) if `keep` else None).
  """
  return nn.scan(
    partition.remat(EncoderBlock, config.remat),
    variable_axes={"params": 0},
    split_rngs={"params": True},
    in_axes=nn.broadcast,
    length=length,
    unroll=min(config.scan_unroll, length),
    metadata_params={nn.PARTITION_NAME: "layers"},
  )(config, keep, name=name)


def trunk(
  config: SiglipConfig,
  x_PTD: jax.Array,
  part_PT: jax.Array | None,
  hidden_states: bool,
) -> tuple[jax.Array, jax.Array | None]:
  """Submodules `blocks` and `post_norm` of the module whose call runs this.

  Returns:
    (features after the post norm, (num_layers + 1, P, T, D): what came in and
    the output of every block, the last one before the post norm; or None).
  """
  first = x_PTD
  blocks = stack(config, config.num_layers, keep=hidden_states, name="blocks")
  x_PTD, states = blocks(x_PTD, part_PT)
  x_PTD = layers.LayerNorm(config.norm_eps, name="post_norm")(x_PTD)
  if hidden_states:
    states = jnp.concatenate([first[None], states])
  return x_PTD, states


class SiglipEncoder(nn.Module):
  """The tower alone: `embed`, stacked `blocks`, `post_norm`."""

  config: SiglipConfig

  @nn.compact
  def __call__(
    self,
    pixels_PYXC: jax.Array,
    valid_PT: jax.Array | None = None,
    hidden_states: bool = False,
  ):
    """Patch features (P, T, D) after the post norm.

    Args:
      pixels_PYXC: in [-1, 1], of any size of at least a patch.
      valid_PT: patches that may be attended to; None: all.
      hidden_states: also return what `trunk` does.
    """
    c = self.config
    x_PhwD = Embed(c, name="embed")(pixels_PYXC)
    x_PTD = x_PhwD.reshape(x_PhwD.shape[0], -1, c.width)
    x_PTD, states = trunk(c, x_PTD, valid_PT, hidden_states)
    return (x_PTD, states) if hidden_states else x_PTD
