"""DC-AE's blocks, and a small one whole: encoded, decoded, in tiles."""

import dataclasses

import jax.numpy as jnp

from emma_jax.models import dcae_blocks as blocks
from emma_jax.models.dcae import Autoencoder, DcaeConfig
from emma_jax.models.tiling import Tiling
from tests import fixed, neutral

KEPT = 6
CONFIG = neutral.dcae_config(
  latent_channels=2,
  attention_head_dim=4,
  encoder_block_types=("ResBlock", "ResBlock", "EfficientViTBlock"),
  encoder_block_out_channels=(4, 8, 8),
  encoder_layers_per_block=(0, 1, 1),
  encoder_qkv_multiscales=((), (), (3,)),
  downsample_block_type="pixel_unshuffle",
  decoder_block_types=("ResBlock", "ResBlock", "EfficientViTBlock"),
  decoder_block_out_channels=(4, 8, 8),
  decoder_layers_per_block=(1, 1, 1),
  decoder_qkv_multiscales=((), (), ()),
  decoder_norm_types=("rms_norm", "batch_norm", "rms_norm"),
  decoder_act_fns=("silu", "relu", "silu"),
  upsample_block_type="pixel_shuffle",
)
OTHER = dataclasses.replace(
  CONFIG,
  downsample_block_type="conv",
  upsample_block_type="interpolate",
  encoder_out_shortcut=False,
  decoder_in_shortcut=False,
  encoder_layers_per_block=(1, 1, 1),
  decoder_layers_per_block=(0, 1, 1),
  decoder_norm_types=("rms_norm",) * 3,
  decoder_act_fns=("silu",) * 3,
)
TILES = Tiling(height=8, width=8, stride_height=8, stride_width=4)


def _block(module):
  def case(dtype):
    x = fixed.values("x", (2, 4, 6, 8), dtype)
    return fixed.measured(*fixed.bound(module, x), x)

  return case


def _coded(config: DcaeConfig, tiling: Tiling | None = None):
  """Normalised latents of a picture, and the picture of other latents."""

  def code(coder, pixels, latents):
    return {
      "latents": coder.encode_normalised(pixels, tiling),
      "pixels": coder.decode_normalised(latents, tiling),
    }

  def case(dtype):
    inputs = (
      fixed.values("pixels", (1, 8, 12, 3), dtype),
      fixed.values("latents", (1, 2, 3, 2), dtype),
    )
    apply, weights = fixed.bound(Autoencoder(config), *inputs, method=code)
    return fixed.made(apply, weights, *inputs)

  return case


def _tiled(dtype):
  """Three tiles, of which the last is narrower and padded."""
  x = fixed.values("pixels", (1, 8, 11, 3), dtype)
  module = Autoencoder(CONFIG)
  _, weights = fixed.bound(module, jnp.zeros((1, 8, 8, 3)))
  f = lambda p, x: module.apply({"params": p}, x, TILES, method="encode")
  return fixed.made(f, weights, x)


CASES = fixed.both(
  {
    "res": _block(blocks.ResBlock("rms_norm", "silu")),
    "linear_attention": _block(blocks.LinearAttention(4, (3,), "batch_norm")),
    "glu": _block(blocks.GluMbConv(2)),
  }
) | fixed.float32(
  {"coded": _coded(CONFIG), "coded_otherwise": _coded(OTHER), "tiled": _tiled}
)


def cases():
  return {name: case() for name, case in CASES.items()}
