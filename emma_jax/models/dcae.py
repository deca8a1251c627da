"""DC-AE: pictures in [-1, 1] to a 32x smaller grid of latents, and back.

Chen et al. 2024 (arXiv 2410.10733); conventions of `diffusers.AutoencoderDC`.
The parameter tree reads encoder/conv_in, encoder/stage{i}/block{j}/...,
encoder/stage{i}/down, encoder/conv_out, the same in decoder with up in place
of down, and latent/{shift,scale}. Pictures too large for the memory go through
in tiles: `tiling.Tiling`.

Axes: P pictures, Y and X pixel rows and columns, h and w the latent grid, C
channels.
"""

from collections.abc import Callable
import dataclasses

import flax.linen as nn
import jax

from emma_jax.models import convolution
from emma_jax.models import dcae_blocks as blocks
from emma_jax.models.tiling import Tiling, decode_tiles, encode_tiles

BLOCK_TYPES = ("ResBlock", "EfficientViTBlock")
DOWNSAMPLE = ("conv", "pixel_unshuffle")
UPSAMPLE = ("interpolate", "pixel_shuffle")

# Features after the first convolution and after each stage, as they are run.
States = tuple[jax.Array, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage:
  """Blocks of one resolution, a field of `DcaeConfig` each."""

  block_type: str
  channels: int
  layers: int
  scales: tuple[int, ...]
  norm_type: str = "rms_norm"
  act_fn: str = "silu"
  head_dim: int
  gain: float

  def __post_init__(self):
    _check_choice("block type", self.block_type, BLOCK_TYPES)
    _check_choice("norm type", self.norm_type, tuple(blocks.NORMS))
    _check_choice("activation", self.act_fn, tuple(blocks.ACTIVATIONS))
    if any(size % 2 == 0 for size in self.scales):
      raise ValueError(f"qkv multiscales {self.scales} must be odd.")
    attends = self.block_type == "EfficientViTBlock" and self.layers
    if attends and self.channels % self.head_dim:
      raise ValueError(
        f"{self.channels} channels of an EfficientViTBlock are not a multiple"
        f" of attention_head_dim={self.head_dim}."
      )


@dataclasses.dataclass(frozen=True, kw_only=True)
class DcaeConfig:
  """Sizes under the names of a diffusers config.json; lists become tuples.

  Tuples hold an entry per stage, from the pixels down, in encoder and decoder
  alike. `layers_per_block[0] == 0` leaves the first stage out: the picture is
  halved by the first convolution itself. `residual_gain` is the first scale of
  the norms that end residual branches; it matters to training from scratch.
  """

  in_channels: int
  latent_channels: int
  attention_head_dim: int
  encoder_block_types: tuple[str, ...]
  encoder_block_out_channels: tuple[int, ...]
  encoder_layers_per_block: tuple[int, ...]
  encoder_qkv_multiscales: tuple[tuple[int, ...], ...]
  downsample_block_type: str
  encoder_out_shortcut: bool
  decoder_block_types: tuple[str, ...]
  decoder_block_out_channels: tuple[int, ...]
  decoder_layers_per_block: tuple[int, ...]
  decoder_qkv_multiscales: tuple[tuple[int, ...], ...]
  decoder_norm_types: tuple[str, ...]
  decoder_act_fns: tuple[str, ...]
  upsample_block_type: str
  decoder_in_shortcut: bool
  decoder_conv_act_fn: str
  residual_gain: float

  def __post_init__(self):
    for field in dataclasses.fields(self):
      value = getattr(self, field.name)
      if isinstance(value, (list, tuple)):
        object.__setattr__(self, field.name, _tuples(value))
    _check_choice(
      "downsample_block_type", self.downsample_block_type, DOWNSAMPLE
    )
    _check_choice("upsample_block_type", self.upsample_block_type, UPSAMPLE)
    _check_choice(
      "decoder_conv_act_fn", self.decoder_conv_act_fn, tuple(blocks.ACTIVATIONS)
    )
    if len(self.encoder) != len(self.decoder):
      raise ValueError(
        f"{len(self.encoder)} encoder stages and {len(self.decoder)} decoder"
        " stages would change the picture's size."
      )
    _check_stages(
      "encoder", self.encoder, self.latent_channels, self.encoder_out_shortcut
    )
    _check_stages(
      "decoder", self.decoder, self.latent_channels, self.decoder_in_shortcut
    )
    if self.downsample_block_type == "pixel_unshuffle":
      odd = [s.channels for s in self.encoder[1:] if s.channels % 4]
      if odd:
        raise ValueError(f"pixel_unshuffle needs multiples of 4, not {odd}.")

  @property
  def encoder(self) -> tuple[Stage, ...]:
    """The encoder's stages; its norms and activations are fixed."""
    return _stages(
      "encoder",
      head_dim=self.attention_head_dim,
      gain=self.residual_gain,
      block_type=self.encoder_block_types,
      channels=self.encoder_block_out_channels,
      layers=self.encoder_layers_per_block,
      scales=self.encoder_qkv_multiscales,
    )

  @property
  def decoder(self) -> tuple[Stage, ...]:
    """The decoder's stages, from the pixels down (they run in reverse)."""
    return _stages(
      "decoder",
      head_dim=self.attention_head_dim,
      gain=self.residual_gain,
      block_type=self.decoder_block_types,
      channels=self.decoder_block_out_channels,
      layers=self.decoder_layers_per_block,
      scales=self.decoder_qkv_multiscales,
      norm_type=self.decoder_norm_types,
      act_fn=self.decoder_act_fns,
    )

  @property
  def factor(self) -> int:
    """Pixels per latent and side."""
    return 2 ** (len(self.encoder) - 1)

  def module(self) -> "Autoencoder":
    """The module of these sizes."""
    return Autoencoder(self)


def _tuples(value):
  if isinstance(value, (list, tuple)):
    return tuple(_tuples(v) for v in value)
  return value


def _check_choice(what: str, value: str, choices: tuple[str, ...]) -> None:
  if value not in choices:
    raise ValueError(f"Unknown {what} {value!r}; choose one of {choices}.")


def _stages(
  side: str, *, head_dim: int, gain: float, **columns
) -> tuple[Stage, ...]:
  """Turns columns of values into a record per stage."""
  lengths = {name: len(values) for name, values in columns.items()}
  if len(set(lengths.values())) != 1:
    raise ValueError(f"The {side}'s stages differ in number: {lengths}.")
  return tuple(
    Stage(head_dim=head_dim, gain=gain, **dict(zip(columns, row)))
    for row in zip(*columns.values())
  )


def _check_stages(
  side: str, stages: tuple[Stage, ...], latent_channels: int, shortcut: bool
) -> None:
  """Raises ValueError where a shortcut could not average or repeat."""
  if len(stages) < 2:
    raise ValueError(f"The {side} needs two stages or more.")
  if any(stage.layers < 1 for stage in stages[1:]):
    raise ValueError(f"Only stage 0 of the {side} may have no layers.")
  first = 0 if stages[0].layers else 1
  for small, large in zip(stages[first:], stages[first + 1 :]):
    if 4 * small.channels % large.channels:
      raise ValueError(
        f"The {side}'s shortcut from {small.channels} to {large.channels}"
        " channels needs 4 times the former to be a multiple of the latter."
      )
  if shortcut and stages[-1].channels % latent_channels:
    raise ValueError(
      f"{side} channels {stages[-1].channels} are not a multiple of"
      f" {latent_channels=}, as its latent shortcut requires."
    )


def _block(stage: Stage, name: str) -> nn.Module:
  if stage.block_type == "ResBlock":
    return blocks.ResBlock(stage.norm_type, stage.act_fn, stage.gain, name=name)
  return blocks.EfficientVitBlock(
    stage.head_dim, stage.scales, stage.norm_type, stage.gain, name=name
  )


class EncoderStage(nn.Module):
  """block0, block1, ... and, but for the last stage, `down`."""

  stage: Stage
  next_channels: int | None
  downsample: str

  @nn.compact
  def __call__(self, x_PhwC: jax.Array) -> jax.Array:
    """(P, h, w, C) -> (P, h / 2, w / 2, next_channels), unless the last."""
    for i in range(self.stage.layers):
      x_PhwC = _block(self.stage, f"block{i}")(x_PhwC)
    if self.next_channels is None:
      return x_PhwC
    return blocks.Down(self.next_channels, self.downsample, name="down")(x_PhwC)


class DecoderStage(nn.Module):
  """But for the last stage `up`, then block0, block1, ..."""

  stage: Stage
  upsample: str | None

  @nn.compact
  def __call__(self, x_PhwC: jax.Array) -> jax.Array:
    """(P, h, w, C) -> (P, 2 h, 2 w, channels), unless the last."""
    if self.upsample is not None:
      x_PhwC = blocks.Up(self.stage.channels, self.upsample, name="up")(x_PhwC)
    for i in range(self.stage.layers):
      x_PhwC = _block(self.stage, f"block{i}")(x_PhwC)
    return x_PhwC


class Encoder(nn.Module):
  """Pixels (P, Y, X, C) in [-1, 1] -> raw latents (P, Y / 32, X / 32, C)."""

  config: DcaeConfig

  @nn.compact
  def __call__(self, x_PYXC: jax.Array) -> tuple[jax.Array, States]:
    """The latents, and the hidden states from large to small."""
    c, stages = self.config, self.config.encoder
    if stages[0].layers:
      x = convolution.Conv3x3(stages[0].channels, name="conv_in")(x_PYXC)
    else:
      x = blocks.Down(
        stages[1].channels,
        c.downsample_block_type,
        shortcut=False,
        name="conv_in",
      )(x_PYXC)
    states = [x]
    for i, stage in enumerate(stages):
      if not stage.layers:
        continue
      last = i + 1 == len(stages)
      following = None if last else stages[i + 1].channels
      x = EncoderStage(
        stage, following, c.downsample_block_type, name=f"stage{i}"
      )(x)
      states.append(x)
    y = convolution.Conv3x3(c.latent_channels, name="conv_out")(x)
    if c.encoder_out_shortcut:
      y = y + convolution.group_mean(x, c.latent_channels)
    return y, tuple(states)


class Decoder(nn.Module):
  """Raw latents (P, h, w, C) -> pixels (P, 32 h, 32 w, C), not clipped."""

  config: DcaeConfig

  @nn.compact
  def __call__(self, x_PhwC: jax.Array) -> tuple[jax.Array, States]:
    """The pixels, and the hidden states from small to large."""
    c, stages = self.config, self.config.decoder
    features = stages[-1].channels
    x = convolution.Conv3x3(features, name="conv_in")(x_PhwC)
    if c.decoder_in_shortcut:
      x = x + convolution.repeat_channels(x_PhwC, features)
    states = [x]
    for i, stage in reversed(list(enumerate(stages))):
      if not stage.layers:
        continue
      last = i + 1 == len(stages)
      x = DecoderStage(
        stage, None if last else c.upsample_block_type, name=f"stage{i}"
      )(x)
      states.append(x)
    x = blocks.RmsNorm2d(name="norm_out")(x)
    x = blocks.ACTIVATIONS[c.decoder_conv_act_fn](x)
    if stages[0].layers:
      y = convolution.Conv3x3(c.in_channels, name="conv_out")(x)
    else:
      y = blocks.Up(
        c.in_channels, c.upsample_block_type, shortcut=False, name="conv_out"
      )(x)
    return y, tuple(states)


class Autoencoder(nn.Module):
  """Encoder, decoder and the normalisation of the latents between them.

  Pictures are (P, Y, X, C) in [-1, 1] with sides divisible by
  `config.factor`. The compute dtype is that of the input. A published scalar
  scaling_factor imports as shift 0 and scale scaling_factor.

  With `tiling`, pictures larger than a tile are coded tile by tile, as
  `diffusers.AutoencoderDC.enable_tiling` does, and may then have any size when
  encoded.
  """

  config: DcaeConfig

  def setup(self):
    """Declares the submodules."""
    self.encoder = Encoder(self.config)
    self.decoder = Decoder(self.config)
    self.latent = blocks.LatentNorm(self.config.latent_channels)

  def __call__(self, pixels_PYXC: jax.Array) -> jax.Array:
    """The reconstruction, by way of normalised latents (so init sees all)."""
    return self.decode_normalised(self.encode_normalised(pixels_PYXC))

  def encode(
    self, pixels_PYXC: jax.Array, tiling: Tiling | None = None
  ) -> jax.Array:
    """Raw latents (P, h, w, C); deterministic."""
    height, width = pixels_PYXC.shape[1:3]
    if tiling is not None and tiling.applies(height, width):
      return encode_tiles(
        _alone(self.encoder), pixels_PYXC, tiling, self.config.factor
      )
    return self.encode_states(pixels_PYXC)[0]

  def encode_states(self, pixels_PYXC: jax.Array) -> tuple[jax.Array, States]:
    """Raw latents and the encoder's hidden states, from large to small."""
    height, width = pixels_PYXC.shape[1:3]
    if height % self.config.factor or width % self.config.factor:
      raise ValueError(
        f"A picture of {height}x{width} is not a multiple of"
        f" {self.config.factor} pixels; resize or pad it first."
      )
    return self.encoder(pixels_PYXC)

  def decode(
    self, raw_PhwC: jax.Array, tiling: Tiling | None = None
  ) -> jax.Array:
    """Pixels from raw latents, around [-1, 1] but not clipped."""
    factor = self.config.factor
    height, width = (factor * n for n in raw_PhwC.shape[1:3])
    if tiling is not None and tiling.applies(height, width):
      return decode_tiles(_alone(self.decoder), raw_PhwC, tiling, factor)
    return self.decode_states(raw_PhwC)[0]

  def decode_states(self, raw_PhwC: jax.Array) -> tuple[jax.Array, States]:
    """Pixels and the decoder's hidden states, from small to large."""
    return self.decoder(raw_PhwC)

  def encode_normalised(
    self, pixels_PYXC: jax.Array, tiling: Tiling | None = None
  ) -> jax.Array:
    """What diffusion sees: (encode(pixels) - shift) * scale."""
    return self.latent(self.encode(pixels_PYXC, tiling))

  def decode_normalised(
    self, latent_PhwC: jax.Array, tiling: Tiling | None = None
  ) -> jax.Array:
    """The inverse of `encode_normalised`, up to the autoencoder's own loss."""
    return self.decode(self.latent.inverse(latent_PhwC), tiling)


def _alone(module: nn.Module) -> Callable[[jax.Array], jax.Array]:
  """A bound encoder or decoder as a pure function, which loops may trace."""
  module, variables = module.unbind()
  return lambda x: module.apply(variables, x)[0]
