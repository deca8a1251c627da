"""DC-AE: folders of `diffusers.AutoencoderDC`, in and out.

config.json and diffusion_pytorch_model.safetensors of the dc-ae-f32c32
sana-1.0, sana-1.1, in-1.0 and mix-1.0, of the lite decoder, and of every other
size of that class. Its `scaling_factor` becomes our leaves latent/shift (0)
and latent/scale (the factor), which stay float32.

    module, params = load("dc-ae-f32c32-sana-1.1-diffusers")
    z = module.apply({"params": params}, pixels, method="encode_normalised")
"""

from collections.abc import Iterator, Mapping
import math
import os
from typing import Any

import einops
import jax
import jax.numpy as jnp
import numpy as np

from emma_jax import rules
from emma_jax.convert import table
from emma_jax.convert.files import Folder, write_folder
from emma_jax.convert.table import Entry
from emma_jax.models.dcae import Autoencoder, DcaeConfig, Stage

STEM = "diffusion_pytorch_model"
_CLASS = "AutoencoderDC"
_VERSION = "0.42.1"  # of diffusers; the exports are tested with it

# What diffusers assumes where a config.json is silent.
_SCALES = ((), (), (), (5,), (5,), (5,))
DEFAULTS: dict[str, Any] = dict(
  in_channels=3,
  latent_channels=32,
  attention_head_dim=32,
  encoder_block_types="ResBlock",
  encoder_block_out_channels=(128, 256, 512, 512, 1024, 1024),
  encoder_layers_per_block=(2, 2, 2, 3, 3, 3),
  encoder_qkv_multiscales=_SCALES,
  downsample_block_type="pixel_unshuffle",
  encoder_out_shortcut=True,
  decoder_block_types="ResBlock",
  decoder_block_out_channels=(128, 256, 512, 512, 1024, 1024),
  decoder_layers_per_block=(3, 3, 3, 3, 3, 3),
  decoder_qkv_multiscales=_SCALES,
  decoder_norm_types="rms_norm",
  decoder_act_fns="silu",
  upsample_block_type="pixel_shuffle",
  decoder_in_shortcut=True,
  decoder_conv_act_fn="relu",
  scaling_factor=1.0,
)
# Ours: the normalisation of latents that is more than one factor. diffusers
# ignores both, and pipelines built on it know only scaling_factor.
_SHIFT, _SCALE = "latent_shift", "latent_scale"
_OTHER = {_SHIFT, _SCALE, "dtype", "torch_dtype"}  # of no size


def config_from_hf(config: Mapping[str, Any]) -> DcaeConfig:
  """The sizes of a config.json, sparse or not.

  As in diffusers, any `downsample_block_type` but "pixel_unshuffle" is a
  strided convolution ("Conv" in published files) and any `upsample_block_type`
  but "interpolate" a pixel shuffle.

  Raises:
    ValueError: another class, a field nobody here knows, or a value that is
      not implemented.
  """
  if config.get("_class_name", _CLASS) != _CLASS:
    raise ValueError(
      f"This is a {config['_class_name']}, not an {_CLASS}; give the folder"
      " of a DC-AE."
    )
  unknown = sorted(
    name
    for name, value in config.items()
    if name not in DEFAULTS
    and name not in _OTHER
    and value is not None
    and not name.startswith("_")
  )
  if unknown:
    raise ValueError(
      f"config.json has fields that are not implemented: {unknown}. Remove"
      " them if they do not change the network."
    )
  c = DEFAULTS | {k: v for k, v in config.items() if k in DEFAULTS}
  scaling_factor(config)
  del c["scaling_factor"]
  for side in ("encoder", "decoder"):
    count = len(c[f"{side}_block_out_channels"])
    for name in _columns(side):
      # diffusers takes one value for all stages, and reads no entry too many.
      one = isinstance(c[name], str)
      c[name] = (c[name],) * count if one else tuple(c[name][:count])
  c["decoder_act_fns"] = tuple(a.lower() for a in c["decoder_act_fns"])
  c["decoder_conv_act_fn"] = c["decoder_conv_act_fn"].lower()
  if c["downsample_block_type"] != "pixel_unshuffle":
    c["downsample_block_type"] = "conv"
  if c["upsample_block_type"] != "interpolate":
    c["upsample_block_type"] = "pixel_shuffle"
  return DcaeConfig(**c, residual_gain=1.0)


def _columns(side: str) -> tuple[str, ...]:
  names = [f"{side}_block_types", f"{side}_qkv_multiscales"]
  if side == "decoder":
    names += ["decoder_norm_types", "decoder_act_fns"]
  return tuple(names)


def scaling_factor(config: Mapping[str, Any]) -> float:
  """What raw latents are multiplied with for diffusion.

  Raises:
    ValueError: not a positive number.
  """
  value = config.get("scaling_factor", DEFAULTS["scaling_factor"])
  number = isinstance(value, (int, float)) and not isinstance(value, bool)
  if not number or not math.isfinite(value) or value <= 0:
    raise ValueError(
      f"scaling_factor {value!r} must be a positive number, such as 0.41407"
      " for sana-1.0."
    )
  return float(value)


def config_to_hf(
  config: DcaeConfig, latent: Mapping[str, Any] | None = None
) -> dict[str, Any]:
  """The config.json of `save_pretrained`, every field written out.

  Args:
    config: our sizes. `residual_gain` goes: it shapes only a random start.
    latent: our leaves {"shift", "scale"}; None: a scaling factor of 1. Where
      they are not one factor for all channels, they are kept in two fields of
      our own and scaling_factor is the mean scale.

  Raises:
    ValueError: an activation that diffusers lacks.
  """
  if "relu6" in (*config.decoder_act_fns, config.decoder_conv_act_fn):
    raise ValueError("diffusers has no relu6; a folder with it cannot load.")
  out = {
    name: _lists(getattr(config, name))
    for name in DEFAULTS
    if name != "scaling_factor"
  }
  out |= {"_class_name": _CLASS, "_diffusers_version": _VERSION}
  out["scaling_factor"] = 1.0
  if latent is None:
    return out
  shift, scale = (
    np.asarray(latent[name]).astype(np.float32) for name in ("shift", "scale")
  )
  if not shift.any() and (scale == scale[0]).all():
    out["scaling_factor"] = _short(scale[0])
  else:
    out["scaling_factor"] = _short(scale.mean())
    out[_SHIFT] = [_short(x) for x in shift]
    out[_SCALE] = [_short(x) for x in scale]
  return out


def _lists(value: Any) -> Any:
  return [_lists(v) for v in value] if isinstance(value, tuple) else value


def _short(x: np.float32) -> float:
  """The number with fewest digits that is x in float32: 0.41407."""
  short = float(str(x))
  return short if np.float32(short) == x else float(x)


def latent_from_hf(
  config: Mapping[str, Any], channels: int
) -> dict[str, np.ndarray]:
  """Our leaves latent/{shift,scale}, float32, of a config.json.

  Raises:
    ValueError: our own two fields are there but do not fit.
  """
  factor = scaling_factor(config)
  shift = np.asarray(config.get(_SHIFT, [0.0] * channels), np.float32)
  scale = np.asarray(config.get(_SCALE, [factor] * channels), np.float32)
  if shift.shape != (channels,) or scale.shape != (channels,):
    raise ValueError(
      f"{_SHIFT} and {_SCALE} in config.json must hold {channels} numbers"
      f" each, not {shift.shape} and {scale.shape}."
    )
  return {"shift": shift, "scale": scale}


# ------------------------------------------------------------- the name table


def entries(config: DcaeConfig) -> tuple[Entry, ...]:
  """Every tensor of the reference but batch norm's counters; no latent/*."""
  return (*_encoder(config), *_decoder(config))


def _encoder(c: DcaeConfig) -> Iterator[Entry]:
  stages = c.encoder
  yield from _conv(*_edge("encoder", "conv_in", stages))
  for i, stage in enumerate(stages):
    ours, theirs = f"encoder/stage{i}", f"encoder.down_blocks.{i}"
    for j in range(stage.layers):
      yield from _block(f"{ours}/block{j}", f"{theirs}.{j}", stage)
    if stage.layers and i + 1 < len(stages):  # the last module of its stage
      yield from _conv(f"{ours}/down/conv", f"{theirs}.{stage.layers}.conv")
  yield from _conv("encoder/conv_out", "encoder.conv_out")


def _decoder(c: DcaeConfig) -> Iterator[Entry]:
  stages = c.decoder
  yield from _conv("decoder/conv_in", "decoder.conv_in")
  for i, stage in enumerate(stages):
    ours, theirs = f"decoder/stage{i}", f"decoder.up_blocks.{i}"
    up = int(stage.layers > 0 and i + 1 < len(stages))
    if up:  # the first module of its stage
      yield from _conv(f"{ours}/up/conv", f"{theirs}.0.conv")
    for j in range(stage.layers):
      yield from _block(f"{ours}/block{j}", f"{theirs}.{j + up}", stage)
  yield from _norm("decoder/norm_out", "decoder.norm_out")
  yield from _conv(*_edge("decoder", "conv_out", stages))


def _edge(side: str, name: str, stages: tuple[Stage, ...]) -> tuple[str, str]:
  """The convolution on the pixels; it resizes where stage 0 is left out."""
  if stages[0].layers:
    return f"{side}/{name}", f"{side}.{name}"
  return f"{side}/{name}/conv", f"{side}.{name}.conv"


def _block(ours: str, theirs: str, stage: Stage) -> Iterator[Entry]:
  if stage.block_type == "ResBlock":
    yield from _conv(f"{ours}/conv1", f"{theirs}.conv1")
    yield from _conv(f"{ours}/conv2", f"{theirs}.conv2", bias=False)
    yield from _norm(f"{ours}/norm", f"{theirs}.norm", stage.norm_type)
    return
  yield from _attention(f"{ours}/attention", f"{theirs}.attn", stage)
  ours, theirs = f"{ours}/conv", f"{theirs}.conv_out"
  yield from _pointwise(f"{ours}/inverted", f"{theirs}.conv_inverted")
  yield from _bias(f"{ours}/inverted", f"{theirs}.conv_inverted")
  yield from _depthwise(f"{ours}/depth", f"{theirs}.conv_depth")
  yield from _bias(f"{ours}/depth", f"{theirs}.conv_depth")
  yield from _pointwise(f"{ours}/point", f"{theirs}.conv_point")
  yield from _norm(f"{ours}/norm", f"{theirs}.norm")


def _attention(ours: str, theirs: str, stage: Stage) -> Iterator[Entry]:
  # Names only: a group's q, k and v are thirds of runs of their concatenation.
  for name in ("to_q", "to_k", "to_v", "to_out"):
    yield Entry(
      f"{ours}/{name}/kernel",
      (f"{theirs}.{name}.weight",),
      table.transpose,
      table.transpose,
    )
  for i in range(len(stage.scales)):
    scale, part = f"{ours}/scale{i}", f"{theirs}.to_qkv_multiscale.{i}"
    yield from _depthwise(f"{scale}/filter", f"{part}.proj_in")
    yield _grouped(scale, f"{part}.proj_out", stage.head_dim)
  yield from _norm(f"{ours}/norm", f"{theirs}.norm_out", stage.norm_type)


def _bias(ours: str, theirs: str) -> Iterator[Entry]:
  yield Entry(f"{ours}/bias", (f"{theirs}.bias",))


def _conv(ours: str, theirs: str, bias: bool = True) -> Iterator[Entry]:
  """(out, in, y, x) <-> (y, x, in, out)."""
  yield Entry(
    f"{ours}/kernel",
    (f"{theirs}.weight",),
    lambda x: x.transpose(2, 3, 1, 0),
    lambda x: x.transpose(3, 2, 0, 1),
  )
  if bias:
    yield from _bias(ours, theirs)


def _depthwise(ours: str, theirs: str) -> Iterator[Entry]:
  """(channels, 1, y, x) <-> (y, x, channels)."""
  yield Entry(
    f"{ours}/kernel",
    (f"{theirs}.weight",),
    lambda x: x[:, 0].transpose(1, 2, 0),
    lambda x: x.transpose(2, 0, 1)[:, None],
  )


def _pointwise(ours: str, theirs: str) -> Iterator[Entry]:
  """(out, in, 1, 1) <-> (in, out)."""
  yield Entry(
    f"{ours}/kernel",
    (f"{theirs}.weight",),
    lambda x: x[:, :, 0, 0].T,
    lambda x: x.T[:, :, None, None],
  )


def _grouped(ours: str, theirs: str, size: int) -> Entry:
  """1x1 in groups: (groups * out, in, 1, 1) <-> (groups, in, out)."""
  return Entry(
    f"{ours}/kernel",
    (f"{theirs}.weight",),
    lambda x: einops.rearrange(x, "(g o) i 1 1 -> g i o", o=size),
    lambda x: einops.rearrange(x, "g i o -> (g o) i 1 1"),
  )


def _norm(ours: str, theirs: str, kind: str = "rms_norm") -> Iterator[Entry]:
  yield Entry(f"{ours}/scale", (f"{theirs}.weight",))
  yield from _bias(ours, theirs)
  if kind == "batch_norm":
    yield Entry(f"{ours}/mean", (f"{theirs}.running_mean",))
    yield Entry(f"{ours}/var", (f"{theirs}.running_var",))


def _counters(config: DcaeConfig) -> list[str]:
  """Batch norm's num_batches_tracked, which no result depends on."""
  return [
    entry.theirs[0].replace("running_mean", "num_batches_tracked")
    for entry in entries(config)
    if entry.ours.endswith("/mean")
  ]


# ------------------------------------------------------------ whole folders


def leaf_shapes(config: DcaeConfig) -> dict[str, jax.ShapeDtypeStruct]:
  """Slash path -> shape of every leaf that comes from the tensors."""
  side = config.factor
  picture = jax.ShapeDtypeStruct(
    (1, side, side, config.in_channels), jnp.float32
  )
  shapes = table.leaf_shapes(Autoencoder(config), picture)
  return {k: v for k, v in shapes.items() if not k.startswith("latent/")}


def load(
  path: str | os.PathLike, dtype: str | None = "float32"
) -> tuple[Autoencoder, dict]:
  """Reads a folder: (module, parameters).

  `module.apply({"params": params}, x, method=...)` with methods encode, decode
  (raw latents), encode_normalised, decode_normalised (times scaling_factor),
  encode_states and decode_states (also every hidden state).

  Args:
    path: the folder with config.json.
    dtype: of the weights; None: as stored. Compute follows the input's dtype.

  Raises:
    FolderError, ConversionError: not such a folder, or names and shapes that
      do not fit its config.json.
    ValueError: a config.json with what is not implemented.
  """
  folder = Folder.open(path)
  config = config_from_hf(folder.config)
  ignore = [name.replace(".", r"\.") for name in _counters(config)]
  leaves = table.read(
    folder, entries(config), leaf_shapes(config), ignore=ignore, dtype=dtype
  )
  params = rules.unflatten(dict(leaves))
  params["latent"] = latent_from_hf(folder.config, config.latent_channels)
  return Autoencoder(config), params


def save(path: str | os.PathLike, config: DcaeConfig, params: dict) -> None:
  """Writes a folder that `diffusers.AutoencoderDC.from_pretrained` loads.

  The counters of batch norm are written as 0: they are not kept, and matter
  only to training in torch without a momentum.
  """
  weights = {side: params[side] for side in ("encoder", "decoder")}
  tensors = table.write(weights, entries(config))
  write_folder(
    path,
    config_to_hf(config, params["latent"]),
    _with_counters(tensors, config),
    stem=STEM,
  )


def _with_counters(
  tensors: Iterator[tuple[str, np.ndarray]], config: DcaeConfig
) -> Iterator[tuple[str, np.ndarray]]:
  yield from tensors
  for name in _counters(config):
    yield name, np.zeros((), np.int64)
