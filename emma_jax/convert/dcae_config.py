"""config.json of DC-AE, `diffusers.AutoencoderDC`: sizes, scale of latents."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from emma_jax.convert import fields
from emma_jax.convert.fields import (
  ConfigError,
  Field,
  Kind,
  each,
  either,
  finite,
  flag,
  number,
  whole,
  word,
)
from emma_jax.models.dcae import DcaeConfig

_CLASS = "AutoencoderDC"
_VERSION = "0.42.1"  # of diffusers; the exports are tested with it

_FAMILY = "a DC-AE"
_SOURCE = f"diffusers {_VERSION}, {_CLASS}"
_SCALES = ((), (), (), (5,), (5,), (5,))
_WIDTHS = (128, 256, 512, 512, 1024, 1024)
_STAGES = 10  # the most; published ones have 6
# Ours: the normalisation of latents that is more than one factor. diffusers
# ignores both, and pipelines built on it know only scaling_factor.
_SHIFT, _SCALE = "latent_shift", "latent_scale"


def _by_stage(kind: Kind) -> Kind:
  return each(kind, 2, _STAGES)


def _field(key: str, kind: Kind, default: Any) -> Field:
  return Field(key, kind, default=default, source=_SOURCE)


_WORDS = either(word, _by_stage(word))  # one for all stages, or one each
_SIZES = _by_stage(whole(1, 1 << 15))
_LAYERS = _by_stage(whole(0, 64))
_KERNELS = _by_stage(each(whole(1, 31), 0, 8))
# The fields of a network, and how its latents are scaled. `save_pretrained`
# writes all that its version knows: published files lack the newest.
FIELDS = (
  _field("in_channels", whole(1, 64), 3),
  _field("latent_channels", whole(1, 4096), 32),
  _field("attention_head_dim", whole(1, 1024), 32),
  _field("encoder_block_types", _WORDS, "ResBlock"),
  _field("encoder_block_out_channels", _SIZES, _WIDTHS),
  _field("encoder_layers_per_block", _LAYERS, (2, 2, 2, 3, 3, 3)),
  _field("encoder_qkv_multiscales", _KERNELS, _SCALES),
  _field("downsample_block_type", word, "pixel_unshuffle"),
  _field("encoder_out_shortcut", flag, True),
  _field("decoder_block_types", _WORDS, "ResBlock"),
  _field("decoder_block_out_channels", _SIZES, _WIDTHS),
  _field("decoder_layers_per_block", _LAYERS, (3, 3, 3, 3, 3, 3)),
  _field("decoder_qkv_multiscales", _KERNELS, _SCALES),
  _field("decoder_norm_types", _WORDS, "rms_norm"),
  _field("decoder_act_fns", _WORDS, "silu"),
  _field("upsample_block_type", word, "pixel_shuffle"),
  _field("decoder_in_shortcut", flag, True),
  _field("decoder_conv_act_fn", word, "relu"),
)
# diffusers takes 1 where it is missing, which is right for no published model:
# nothing fails, and diffusion sees latents of another size.
_FACTOR = Field("scaling_factor", number(0, 1e6))
_NUMBERS = either(finite, each(finite, 1, 4096))
_LATENT = (
  _FACTOR,
  Field(_SHIFT, _NUMBERS, default=None, null=None, told=False),
  Field(_SCALE, _NUMBERS, default=None, null=None, told=False),
)
_KNOWN = {f.key for f in (*FIELDS, *_LATENT)}
# Of no size; by other libraries' names a file is told from another family's.
_OTHER = {"dtype", "torch_dtype", "model_type", "architectures"}


def config_from_hf(
  config: Mapping[str, Any], where: str = "config.json"
) -> DcaeConfig:
  """The sizes of a config.json, sparse or not.

  As in diffusers, any `downsample_block_type` but "pixel_unshuffle" is a
  strided convolution ("Conv" in published files) and any `upsample_block_type`
  but "interpolate" a pixel shuffle.

  Args:
    config: the JSON object.
    where: the file, for errors.

  Raises:
    ConfigError: another class, a field nobody here knows, a scaling factor that
      is missing, a value of a wrong type, out of range or not implemented.
  """
  return read_config(config, where)[0]


def read_config(
  config: Mapping[str, Any], where: str
) -> tuple[DcaeConfig, str]:
  """(our sizes, what is told of defaults)."""
  fields.identify(
    config, where, wanted=_FAMILY, kinds={}, classes={_CLASS: _CLASS}
  )
  fields.refuse_quantised(config, where)
  unknown = sorted(
    name
    for name, value in config.items()
    if name not in _KNOWN
    and name not in _OTHER
    and value is not None
    and not name.startswith("_")
  )
  if unknown:
    raise ConfigError(
      f"{where} has fields that are not implemented: {unknown}. Remove"
      " them if they do not change the network."
    )
  c, taken = fields.read((*FIELDS, *_LATENT), config, where)
  for key in (f.key for f in _LATENT):
    del c[key]
  for side in ("encoder", "decoder"):
    count = len(c[f"{side}_block_out_channels"])
    for name in _columns(side):
      # diffusers takes one value for all stages, and reads no entry too many.
      one = isinstance(c[name], str)
      c[name] = (c[name],) * count if one else c[name][:count]
  c["decoder_act_fns"] = tuple(a.lower() for a in c["decoder_act_fns"])
  c["decoder_conv_act_fn"] = c["decoder_conv_act_fn"].lower()
  if c["downsample_block_type"] != "pixel_unshuffle":
    c["downsample_block_type"] = "conv"
  if c["upsample_block_type"] != "interpolate":
    c["upsample_block_type"] = "pixel_shuffle"
  sizes = fields.sized(DcaeConfig, where, **c, residual_gain=1.0)
  latent_from_hf(config, sizes.latent_channels, where)
  return sizes, fields.told(taken, where)


def _columns(side: str) -> tuple[str, ...]:
  names = [f"{side}_block_types", f"{side}_qkv_multiscales"]
  if side == "decoder":
    names += ["decoder_norm_types", "decoder_act_fns"]
  return tuple(names)


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
  out = {f.key: _lists(getattr(config, f.key)) for f in FIELDS}
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
  config: Mapping[str, Any], channels: int, where: str = "config.json"
) -> dict[str, np.ndarray]:
  """Our leaves latent/{shift,scale}, float32, of a config.json.

  Raises:
    ConfigError: no scaling factor, or our own two fields do not fit.
  """
  value, _ = fields.read(_LATENT, config, where)
  factor = value["scaling_factor"]
  with np.errstate(over="ignore"):  # told below
    shift = np.asarray(value[_SHIFT] or [0.0] * channels, np.float32)
    scale = np.asarray(value[_SCALE] or [factor] * channels, np.float32)
  if shift.shape != (channels,) or scale.shape != (channels,):
    raise ConfigError(
      f"{_SHIFT} and {_SCALE} in {where} must hold {channels} numbers"
      f" each, not {shift.shape} and {scale.shape}."
    )
  if not (
    np.isfinite(shift).all() and np.isfinite(scale).all() and scale.all()
  ):
    raise ConfigError(
      f"{_SHIFT} and {_SCALE} in {where} must be finite in float32, and no"
      " scale 0."
    )
  return {"shift": shift, "scale": scale}
