"""DC-AE: pictures to latents and back."""

import torch
import torch.nn.functional as F

from .primitives import conv, rms_norm

ACTIVATIONS = {"relu": F.relu, "relu6": F.relu6, "silu": F.silu, "gelu": F.gelu}


class Autoencoder:
  """DC-AE (arXiv 2410.10733): 32x smaller grids of latents, and back."""

  def __init__(self, w, c: dict):
    self.w, self.c = w, c

  def encode(self, pixels_PCYX):
    """Pictures in [-1, 1] -> latents (P, T, C) of unit variance."""
    w, n = self.w.encoder, self.c["encoder_layers_per_block"]
    # No first stage: the first convolution itself halves the picture.
    x = (
      conv(w.conv_in, pixels_PCYX)
      if n[0]
      else self.down(w.conv_in, pixels_PCYX, shortcut=False)
    )
    for i in (i for i in range(len(n)) if n[i]):
      stage = vars(w)[f"stage{i}"]
      x = self.blocks(stage, x, "encoder", i)
      x = self.down(stage.down, x) if i + 1 < len(n) else x
    z = conv(w.conv_out, x)
    if self.c["encoder_out_shortcut"]:
      z = z + x.unflatten(1, (z.shape[1], -1)).mean(2)
    z_PTC, latent = z.flatten(2).mT, self.w.latent
    return ((z_PTC.float() - latent.shift) * latent.scale).to(z.dtype)

  def decode(self, latents_PTC, grid: tuple[int, int]):
    """Latents -> pictures (P, 3, Y, X) around [-1, 1], not clipped."""
    w, n = self.w.decoder, self.c["decoder_layers_per_block"]
    z_PTC = latents_PTC.float() / self.w.latent.scale + self.w.latent.shift
    z = z_PTC.to(latents_PTC.dtype).mT.unflatten(2, grid)
    x = conv(w.conv_in, z)
    if self.c["decoder_in_shortcut"]:
      x = x + z.repeat_interleave(x.shape[1] // z.shape[1], 1)
    for i in reversed([i for i in range(len(n)) if n[i]]):
      stage = vars(w)[f"stage{i}"]
      x = self.up(stage.up, x) if i + 1 < len(n) else x
      x = self.blocks(stage, x, "decoder", i)
    x = ACTIVATIONS[self.c["decoder_conv_act_fn"]](self.norm(w.norm_out, x))
    return (
      conv(w.conv_out, x) if n[0] else self.up(w.conv_out, x, shortcut=False)
    )

  def blocks(self, w, x, side: str, i: int):
    """The blocks of the `side`'s stage i: (P, C, Y, X) -> (P, C, Y, X)."""
    c = self.c
    act = c["decoder_act_fns"][i] if side == "decoder" else "silu"
    for j in range(c[f"{side}_layers_per_block"][i]):
      b = vars(w)[f"block{j}"]
      if c[f"{side}_block_types"][i] == "ResBlock":
        y = conv(b.conv2, ACTIVATIONS[act](conv(b.conv1, x)))
        x = x + self.norm(b.norm, y)
        continue
      x = x + self.attention(b.attention, x, c[f"{side}_qkv_multiscales"][i])
      y = F.silu(conv(b.conv.inverted, x))
      value, gate = conv(b.conv.depth, y, groups=y.shape[1]).chunk(2, 1)
      x = x + self.norm(b.conv.norm, conv(b.conv.point, value * F.silu(gate)))
    return x

  def attention(self, w, x, scales: list):
    """Multi-scale ReLU linear attention. to_q, to_k, to_v are only names: runs
    of 3 * head_dim of their channels are a head's q, k and v."""
    E = self.c["attention_head_dim"]
    qkv = torch.cat([conv(w.to_q, x), conv(w.to_k, x), conv(w.to_v, x)], 1)
    every = [qkv]
    for i in range(len(scales)):  # a filter, then a map of E channels each
      s = vars(w)[f"scale{i}"]
      y = conv(s.filter, qkv, groups=qkv.shape[1])
      every.append(conv(s, y, groups=qkv.shape[1] // E))
    runs = torch.cat(every, 1).float().flatten(2).unflatten(1, (-1, 3, E))
    q, k, v = F.relu(runs[:, :, 0]), F.relu(runs[:, :, 1]), runs[:, :, 2]
    y = (v @ k.mT @ q) / (k.sum(-1, keepdim=True).mT @ q + 1e-15)
    y = y.to(x.dtype).flatten(1, 2).unflatten(2, x.shape[2:])
    return self.norm(w.norm, conv(w.to_out, y))

  def norm(self, w, x):
    """Over a pixel's channels, or with the statistics of training."""
    if hasattr(w, "running_mean"):
      return F.batch_norm(x, w.running_mean, w.running_var, w.weight, w.bias)
    return (rms_norm(w, x.movedim(1, -1), 1e-5) + w.bias).movedim(-1, 1)

  def down(self, w, x, shortcut=True):
    """Half the rows and columns; the shortcut is means of what came in."""
    if self.c["downsample_block_type"] == "pixel_unshuffle":
      y = F.pixel_unshuffle(conv(w.conv, x), 2)
    else:
      y = conv(w.conv, x, stride=2)
    folded = F.pixel_unshuffle(x, 2)
    return y + folded.unflatten(1, (y.shape[1], -1)).mean(2) if shortcut else y

  def up(self, w, x, shortcut=True):
    """Twice the rows and columns; the shortcut is repeats of what came in."""
    if self.c["upsample_block_type"] == "pixel_shuffle":
      y = F.pixel_shuffle(conv(w.conv, x), 2)
    else:
      y = conv(w.conv, F.interpolate(x, scale_factor=2, mode="nearest"))
    if not shortcut:
      return y
    repeats = 4 * y.shape[1] // x.shape[1]
    return y + F.pixel_shuffle(x.repeat_interleave(repeats, 1), 2)
