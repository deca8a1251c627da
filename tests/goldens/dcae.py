"""diffusers' AutoencoderDC in the kinds that are published.

Also the folders the numbers were computed from, without torch: `CONFIGS` are
config.json as published, `shapes` the names and shapes of the safetensors.
"""

from collections.abc import Iterator
from pathlib import Path
import tempfile
from typing import Any

import numpy as np

from tests.convert import published
from tests.goldens import store

KEPT = 24
STEM = "diffusion_pytorch_model"

# Neighbouring stages have the same width where the kind allows it, so that
# convolutions are square; heads are 4 wide, and so are the grouped maps.
SANA = dict(
  _class_name="AutoencoderDC",
  _diffusers_version="0.32.0.dev0",
  latent_channels=4,
  attention_head_dim=4,
  encoder_block_types=["ResBlock", "ResBlock", "EfficientViTBlock"],
  decoder_block_types=["ResBlock", "EfficientViTBlock", "EfficientViTBlock"],
  encoder_block_out_channels=[8, 8, 8],
  decoder_block_out_channels=[8, 8, 8],
  encoder_layers_per_block=[1, 2, 1],
  decoder_layers_per_block=[2, 1, 1],
  encoder_qkv_multiscales=[[], [], [5]],
  decoder_qkv_multiscales=[[], [3, 5], []],
  downsample_block_type="Conv",
  upsample_block_type="interpolate",
  scaling_factor=0.41407,
)
IMAGENET = dict(
  SANA,
  decoder_block_types=["ResBlock", "ResBlock", "EfficientViTBlock"],
  encoder_layers_per_block=[0, 1, 1],
  decoder_layers_per_block=[0, 1, 2],
  encoder_qkv_multiscales=[[], [], []],
  decoder_qkv_multiscales=[[], [], []],
  downsample_block_type="pixel_unshuffle",
  upsample_block_type="pixel_shuffle",
  decoder_norm_types=["batch_norm", "batch_norm", "rms_norm"],
  decoder_act_fns=["relu", "relu", "silu"],
  scaling_factor=0.3189,
)
LITE = dict(
  SANA,
  decoder_block_types="ResBlock",
  decoder_layers_per_block=[0, 1, 1],
  decoder_qkv_multiscales=[[], [], []],
  upsample_block_type="pixel_shuffle",
  decoder_conv_act_fn="silu",
)
# What no published file combines.
ODD = dict(
  SANA,
  in_channels=2,
  latent_channels=6,
  encoder_block_types="EfficientViTBlock",
  decoder_block_types=["ResBlock", "EfficientViTBlock", "ResBlock"],
  encoder_block_out_channels=[8, 8, 16],
  decoder_block_out_channels=[12, 12, 24],
  encoder_layers_per_block=[0, 1, 1],
  decoder_layers_per_block=[1, 1, 1],
  encoder_qkv_multiscales=[[], [3], [3, 5]],
  decoder_qkv_multiscales=[[], [3], []],
  decoder_norm_types="batch_norm",
  decoder_act_fns="mish",
  encoder_out_shortcut=False,
  decoder_in_shortcut=False,
  decoder_conv_act_fn="gelu",
  downsample_block_type="pixel_unshuffle",
  upsample_block_type="pixel_shuffle",
)
CONFIGS = {"sana": SANA, "imagenet": IMAGENET, "lite": LITE, "odd": ODD}
# Latents of the pictures, 4 pixels apart. With no more of them than a head has
# channels the reference's attention is quadratic, above it is linear.
GRIDS = {"sana": (3, 4), "imagenet": (2, 2), "lite": (1, 2), "odd": (2, 3)}
SHARDS = {"sana": 2, "imagenet": 1, "lite": 1, "odd": 3}


def of_stages(config: dict[str, Any], key: str, default: Any = None) -> list:
  value = config.get(key, default)
  return [value] * 3 if isinstance(value, str) else value


def shapes(kind: str) -> dict[str, tuple[int, ...]]:
  """Name -> shape of the published tensors."""
  c = CONFIGS[kind]
  return dict(_encoder(c)) | dict(_decoder(c))


Shapes = Iterator[tuple[str, tuple[int, ...]]]


def _encoder(c: dict[str, Any]) -> Shapes:
  """down_blocks.i holds the blocks of a stage, then the way down."""
  widths, layers, fold = (
    c["encoder_block_out_channels"],
    c["encoder_layers_per_block"],
    4 if c["downsample_block_type"] == "pixel_unshuffle" else 1,
  )
  colours = c.get("in_channels", 3)
  if layers[0]:
    yield from _conv("encoder.conv_in", widths[0], colours)
  else:
    yield from _conv("encoder.conv_in.conv", widths[1] // fold, colours)
  kinds = of_stages(c, "encoder_block_types")
  for i, n in enumerate(layers):
    at = f"encoder.down_blocks.{i}"
    for j in range(n):
      yield from _block(
        f"{at}.{j}",
        c,
        kinds[i],
        widths[i],
        c["encoder_qkv_multiscales"][i],
        "rms_norm",
      )
    if n and i < 2:
      yield from _conv(f"{at}.{n}.conv", widths[i + 1] // fold, widths[i])
  yield from _conv("encoder.conv_out", c["latent_channels"], widths[2])


def _decoder(c: dict[str, Any]) -> Shapes:
  """up_blocks.i holds the way up to a stage, then its blocks."""
  widths, layers, fold = (
    c["decoder_block_out_channels"],
    c["decoder_layers_per_block"],
    4 if c["upsample_block_type"] == "pixel_shuffle" else 1,
  )
  yield from _conv("decoder.conv_in", widths[2], c["latent_channels"])
  kinds = of_stages(c, "decoder_block_types")
  norms = of_stages(c, "decoder_norm_types", "rms_norm")
  for i, n in enumerate(layers):
    at, up = f"decoder.up_blocks.{i}", int(n > 0 and i < 2)
    if up:
      yield from _conv(f"{at}.0.conv", widths[i] * fold, widths[i + 1])
    for j in range(n):
      yield from _block(
        f"{at}.{j + up}",
        c,
        kinds[i],
        widths[i],
        c["decoder_qkv_multiscales"][i],
        norms[i],
      )
  last = widths[0] if layers[0] else widths[1]
  yield from _norm("decoder.norm_out", last, "rms_norm")
  colours = c.get("in_channels", 3)
  if layers[0]:
    yield from _conv("decoder.conv_out", colours, last)
  else:
    yield from _conv("decoder.conv_out.conv", colours * fold, last)


def _conv(name: str, out: int, into: int, bias: bool = True) -> Shapes:
  yield f"{name}.weight", (out, into, 3, 3)
  if bias:
    yield f"{name}.bias", (out,)


def _norm(name: str, width: int, kind: str) -> Shapes:
  parts = ["weight", "bias"]
  if kind == "batch_norm":
    parts += ["running_mean", "running_var"]
    yield f"{name}.num_batches_tracked", ()
  for part in parts:
    yield f"{name}.{part}", (width,)


def _block(at: str, c: dict, kind: str, C: int, scales: list, norm: str):
  if kind == "ResBlock":
    yield from _conv(f"{at}.conv1", C, C)
    yield from _conv(f"{at}.conv2", C, C, bias=False)
    yield from _norm(f"{at}.norm", C, norm)
    return
  E = c["attention_head_dim"]
  for name in ("to_q", "to_k", "to_v"):
    yield f"{at}.attn.{name}.weight", (C, C)
  for i, size in enumerate(scales):
    part = f"{at}.attn.to_qkv_multiscale.{i}"
    yield f"{part}.proj_in.weight", (3 * C, 1, size, size)
    yield f"{part}.proj_out.weight", (3 * C, E, 1, 1)
  yield f"{at}.attn.to_out.weight", (C, C * (1 + len(scales)))
  yield from _norm(f"{at}.attn.norm_out", C, norm)
  for name, shape in (
    ("inverted", (8 * C, C, 1, 1)),
    ("depth", (8 * C, 1, 3, 3)),
  ):
    yield f"{at}.conv_out.conv_{name}.weight", shape
    yield f"{at}.conv_out.conv_{name}.bias", (8 * C,)
  yield f"{at}.conv_out.conv_point.weight", (C, 4 * C, 1, 1)
  yield from _norm(f"{at}.conv_out.norm", C, "rms_norm")


def tensors(kind: str) -> published.Tensors:
  out = published.weights(shapes(kind))
  for name in out:
    if name.endswith("num_batches_tracked"):
      out[name] = np.zeros((), np.int64)
  return out


def write(folder: Path, kind: str) -> Path:
  return published.write(
    folder, CONFIGS[kind], tensors(kind), STEM, SHARDS[kind]
  )


def picture(kind: str) -> np.ndarray:
  """(1, Y, X, C)."""
  h, w = GRIDS[kind]
  channels = CONFIGS[kind].get("in_channels", 3)
  return store.noise(f"dcae {kind} picture", (1, 4 * h, 4 * w, channels))


def latents(kind: str) -> np.ndarray:
  """(1, h, w, C), as diffusion sees them: times the scaling factor."""
  shape = (1, *GRIDS[kind], CONFIGS[kind]["latent_channels"])
  return store.noise(f"dcae {kind} latents", shape)


# ------------------------------------------------------------- with torch


def cases() -> dict[str, dict[str, np.ndarray]]:
  import torch

  out = {}
  for kind in CONFIGS:
    model = reference(kind)
    factor = model.config.scaling_factor
    with torch.no_grad():
      z = model.encode(first(picture(kind))).latent
      y = model.decode(first(latents(kind)) / factor).sample
    out[kind] = {"latents": last(z * factor), "picture": last(y)}
  return out


def reference(kind: str):
  """The published folder, as diffusers reads it."""
  import diffusers

  with tempfile.TemporaryDirectory() as folder:
    model, info = diffusers.AutoencoderDC.from_pretrained(
      write(Path(folder), kind), output_loading_info=True
    )
  assert not any(info.values()), info
  return model.eval()


def first(x: np.ndarray):
  """(P, Y, X, C) -> torch's (P, C, Y, X)."""
  import torch

  return torch.from_numpy(np.ascontiguousarray(np.moveaxis(x, -1, 1)))


def last(x) -> np.ndarray:
  return np.moveaxis(x.detach().numpy(), 1, -1)
