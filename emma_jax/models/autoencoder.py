"""What every kind of autoencoder offers; the kinds are in `build/model.py`.

A kind is a frozen dataclass of sizes, an `AutoencoderConfig`, whose `module`
is a Flax module with these methods, all on (P, Y, X, C) in the input's dtype:

  encode             pixels in [-1, 1] -> raw latents
  decode             raw latents -> pixels, about [-1, 1]
  encode_normalised  pixels -> what diffusion sees, of mean 0 and deviation 1
  decode_normalised  its inverse, up to the autoencoder's own loss
  __call__           pixels -> latents -> pixels, so that init sees all weights

Between the first two and the next stands `latent`, a `dcae_blocks.LatentNorm`,
whose weights `emma-pack autoencoder` measures. The sizes also count the FLOPs
of the encoder on one picture, `encoder_flops(height, width)`; DC-AE's are
counted in `flops.py`.
"""

from typing import Any, Protocol


class AutoencoderConfig(Protocol):
  """Sizes; hashable, as programs are compiled for them."""

  @property
  def in_channels(self) -> int:
    """Of a pixel."""

  @property
  def latent_channels(self) -> int:
    """Of a latent."""

  @property
  def factor(self) -> int:
    """Pixels per latent and side."""

  def module(self) -> Any:
    """The Flax module."""
