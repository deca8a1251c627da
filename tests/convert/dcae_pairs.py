"""Tiny DC-AEs of every kind, in diffusers and here, with random weights.

Used by the parity tests; needs torch and diffusers.
"""

import dataclasses
import functools
import json
import pathlib
import tempfile

import diffusers
import jax
import numpy as np
import torch

from emma_jax.convert import dcae as convert
from emma_jax.models.dcae import Autoencoder

FACTOR = 4  # pixels per latent of every kind below

SANA = dict(
  latent_channels=4,
  attention_head_dim=4,
  encoder_block_types=("ResBlock", "ResBlock", "EfficientViTBlock"),
  decoder_block_types=("ResBlock", "EfficientViTBlock", "EfficientViTBlock"),
  encoder_block_out_channels=(8, 16, 16),
  decoder_block_out_channels=(8, 16, 16),
  encoder_layers_per_block=(1, 2, 2),
  decoder_layers_per_block=(2, 1, 2),
  encoder_qkv_multiscales=((), (), (5,)),
  decoder_qkv_multiscales=((), (3, 5), (5,)),
  downsample_block_type="Conv",
  upsample_block_type="interpolate",
  scaling_factor=0.41407,
)
IMAGENET = dict(
  SANA,
  decoder_block_types=("ResBlock", "ResBlock", "EfficientViTBlock"),
  encoder_layers_per_block=(0, 2, 1),
  decoder_layers_per_block=(0, 1, 2),
  encoder_qkv_multiscales=((),) * 3,
  decoder_qkv_multiscales=((),) * 3,
  downsample_block_type="pixel_unshuffle",
  upsample_block_type="pixel_shuffle",
  decoder_norm_types=("batch_norm", "batch_norm", "rms_norm"),
  decoder_act_fns=("relu", "relu", "silu"),
  scaling_factor=0.3189,
)
LITE = dict(
  SANA,
  decoder_block_types="ResBlock",
  decoder_layers_per_block=(0, 1, 1),
  upsample_block_type="pixel_shuffle",
  decoder_conv_act_fn="silu",
)
# What no published file combines: no shortcuts at the latents, one value for
# all stages, other widths on either side, batch norm after attention.
ODD = dict(
  in_channels=2,
  latent_channels=6,
  attention_head_dim=4,
  encoder_block_types="EfficientViTBlock",
  decoder_block_types=("ResBlock", "EfficientViTBlock", "ResBlock"),
  encoder_block_out_channels=(8, 8, 16),
  decoder_block_out_channels=(12, 12, 24),
  encoder_layers_per_block=(0, 1, 1),
  decoder_layers_per_block=(1, 1, 1),
  encoder_qkv_multiscales=((), (3,), (3, 5)),
  decoder_qkv_multiscales=((), (3,), ()),
  decoder_norm_types="batch_norm",
  decoder_act_fns="mish",
  encoder_out_shortcut=False,
  decoder_in_shortcut=False,
  decoder_conv_act_fn="gelu",
)
KINDS = {"sana": SANA, "imagenet": IMAGENET, "lite": LITE, "odd": ODD}
# For bfloat16 and gradients: a query without one positive channel gives 0, next
# to one with a mean of values. Of 4 channels that is one query in 16 and many
# are close to it: the reference's own bfloat16 is off by up to 9%, its float32
# gradients by 8.6e-6 from its float64 ones (1.5e-6 with 16 channels).
WIDE_HEADS = {
  f"{name} 16": dict(KINDS[name], attention_head_dim=16)
  for name in ("sana", "imagenet", "lite")
}


@dataclasses.dataclass(frozen=True)
class Pair:
  """The same autoencoder twice, and what happened to its scaling factor."""

  reference: diffusers.AutoencoderDC
  module: Autoencoder
  params: dict

  @property
  def channels(self) -> int:
    return self.module.config.in_channels

  @property
  def scaling_factor(self) -> float:
    return self.reference.config.scaling_factor

  def encode(self, x: np.ndarray) -> np.ndarray:
    """The reference's raw latents, channels last like the pixels."""
    with torch.no_grad():
      return last(self.reference.encode(first(x)).latent)

  def decode(self, z: np.ndarray) -> np.ndarray:
    with torch.no_grad():
      return last(self.reference.decode(first(z)).sample)

  def apply(self, method: str):
    """(params, x, ...) -> our method's result, compiled."""
    return jax.jit(
      lambda params, x: self.module.apply({"params": params}, x, method=method)
    )


@functools.cache
def pair(kind: str) -> Pair:
  """A random model of that kind, handed over in a folder, as users do it."""
  kinds = KINDS | WIDE_HEADS
  reference = diffusers.AutoencoderDC(**kinds[kind]).eval()
  randomise(reference, seed=list(kinds).index(kind))
  with tempfile.TemporaryDirectory() as folder:
    reference.save_pretrained(folder)
    return Pair(reference, *convert.load(folder))


def randomise(module: torch.nn.Module, seed: int) -> None:
  """Gives every weight and statistic a random value."""
  generator = torch.Generator().manual_seed(seed)
  with torch.no_grad():
    for name, x in module.state_dict().items():
      if not x.is_floating_point():
        x.copy_(torch.tensor(17))
        continue
      noise = torch.randn(x.shape, generator=generator)
      if name.endswith("running_var"):
        x.copy_(0.5 + noise.abs())
      elif x.ndim < 2:
        x.copy_(
          (1.0 if "norm" in name and "weight" in name else 0.0) + 0.3 * noise
        )
      else:
        x.copy_(noise * (x[0].numel() ** -0.5))


def first(x: np.ndarray) -> torch.Tensor:
  """(P, Y, X, C) -> torch's (P, C, Y, X)."""
  return torch.from_numpy(np.ascontiguousarray(np.moveaxis(x, -1, 1)))


def last(x: torch.Tensor) -> np.ndarray:
  return np.moveaxis(x.detach().float().numpy(), 1, -1)


def noise(*shape: int, seed: int = 0) -> np.ndarray:
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def error(ours, theirs: np.ndarray) -> float:
  """The largest difference, of the reference's maximum; NaN counts as all."""
  ours = np.asarray(ours, np.float32)
  assert ours.shape == theirs.shape, (ours.shape, theirs.shape)
  worst = np.abs(ours - theirs).max() / np.abs(theirs).max()
  return float(np.nan_to_num(worst, nan=np.inf))


def write_config(folder: pathlib.Path, change: dict) -> None:
  """Changes keys of a folder's config.json; None removes one."""
  path = folder / "config.json"
  config = json.loads(path.read_text()) | change
  path.write_text(
    json.dumps({k: v for k, v in config.items() if v is not None})
  )
