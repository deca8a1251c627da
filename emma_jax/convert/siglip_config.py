"""config.json of SigLIP and SigLIP2 vision models, whole or alone.

Two families, told apart by `model_type`: see `siglip`.
"""

from collections.abc import Mapping
import math
from typing import Any

from emma_jax.convert import fields
from emma_jax.convert.fields import (
  ConfigError,
  Field,
  flag,
  number,
  only,
  square,
  whole,
)
from emma_jax.models import siglip2
from emma_jax.models.siglip2_vision import SiglipVisionConfig

RESIZE = {"siglip": "bicubic", "siglip2": "bilinear_antialias"}
_FAMILY = "a SigLIP vision model"
_KINDS = {
  "siglip": "siglip",
  "siglip_vision_model": "siglip",
  "siglip2": "siglip2",
  "siglip2_vision_model": "siglip2",
}
_CLASSES = {
  "SiglipModel": "siglip",
  "SiglipVisionModel": "siglip",
  "Siglip2Model": "siglip2",
  "Siglip2VisionModel": "siglip2",
}
_WHOLE = ("siglip", "siglip2")  # model types that have a vision_config
# The one value of each that is implemented; also the default.
_FIXED = {"hidden_act": "gelu_pytorch_tanh", "attention_dropout": 0.0}
_REMEDY = "a model trained with another value needs code of its own"


def fields_of(family: str) -> tuple[Field, ...]:
  """The keys of a vision model.

  transformers writes a whole model's vision_config with what differs from the
  class's defaults alone, so that all published files rely on these.
  """
  name = {"siglip": "SiglipVisionConfig", "siglip2": "Siglip2VisionConfig"}
  source = f"transformers 5.24.0, {name[family]}"
  side = square(whole(1, 8192))
  grid = (
    Field("image_size", side, default=224, source=source)
    if family == "siglip"
    else Field("num_patches", whole(1, 1 << 18), default=256, source=source)
  )
  return (
    Field("hidden_size", whole(1, 1 << 16), default=768, source=source),
    Field("intermediate_size", whole(1, 1 << 18), default=3072, source=source),
    Field("num_hidden_layers", whole(1, 1024), default=12, source=source),
    Field("num_attention_heads", whole(1, 4096), default=12, source=source),
    Field("num_channels", whole(1, 64), default=3, source=source),
    Field("patch_size", square(whole(1, 256)), default=16, source=source),
    Field("layer_norm_eps", number(0, 1), default=1e-6, source=source),
    Field("vision_use_head", flag, default=True, source=source),
    *(
      Field(key, only(value, remedy=_REMEDY), default=value, source=source)
      for key, value in _FIXED.items()
    ),
    grid,
  )


def config_from_hf(
  config: Mapping[str, Any], where: str = "config.json"
) -> SiglipVisionConfig:
  """Sizes from a config.json, with transformers' defaults filled in.

  Args:
    config: of a whole model (with a `vision_config`, which may be empty) or of
      a vision model.
    where: the file, for errors.

  Raises:
    ConfigError: another family, a key that is null, of a wrong type or out of
      range, or a value that is not implemented.
  """
  return read_config(config, where)[0]


def read_config(
  config: Mapping[str, Any], where: str
) -> tuple[SiglipVisionConfig, str]:
  """(our sizes, what is told of defaults)."""
  own, inner = config, config.get("vision_config")
  if inner is not None and type(inner) is not dict:
    raise ConfigError(
      f"{where}: vision_config={inner!r:.60} must be an object of keys and"
      " values."
    )
  if inner is not None or config.get("model_type") in _WHOLE:
    own = inner or {}
  said = {k: config[k] for k in ("model_type", "architectures") if k in config}
  if said.get("model_type") is None and own.get("model_type") is not None:
    said["model_type"] = own["model_type"]
  family = _family(said, where)
  if own is not config:
    where = f"{where}, vision_config"
    kind = own.get("model_type")
    kind = family if kind is None else kind
    if _family({"model_type": kind}, where) != family:
      raise ConfigError(
        f"{where} is of the model_type {kind!r} in a file of {family!r}; get"
        " it again from where the weights came from."
      )
  for section in (config, own):
    fields.refuse_quantised(section, where)
  c, taken = fields.read(fields_of(family), own, where)
  encoder = fields.sized(
    siglip2.SiglipConfig,
    where,
    width=c["hidden_size"],
    mlp_width=c["intermediate_size"],
    num_layers=c["num_hidden_layers"],
    num_heads=c["num_attention_heads"],
    patch_size=c["patch_size"],
    native_grid=_grid(c, where),
    norm_eps=c["layer_norm_eps"],
    num_channels=c["num_channels"],
    position_resize=RESIZE[family],
    scan_unroll=1,
    remat="none",
    attention="auto",
  )
  margin = c["image_size"] % c["patch_size"] if family == "siglip" else 0
  out = SiglipVisionConfig(
    encoder=encoder, pool_head=c["vision_use_head"], margin=margin
  )
  return out, fields.told(taken, where)


def _family(said: Mapping[str, Any], where: str) -> str:
  return fields.identify(
    said, where, wanted=_FAMILY, kinds=_KINDS, classes=_CLASSES
  )


def _grid(c: Mapping[str, Any], where: str) -> int:
  """Patches along a side of the training size."""
  if "image_size" in c:
    grid = c["image_size"] // c["patch_size"]
    if not 1 <= grid <= 512:
      raise ConfigError(
        f"{where}: image_size={c['image_size']} of"
        f" patch_size={c['patch_size']} makes {grid} patches a side; 1 to 512"
        " are implemented."
      )
    return grid
  grid = math.isqrt(c["num_patches"])
  if grid**2 != c["num_patches"]:
    raise ConfigError(
      f"{where}: num_patches={c['num_patches']} is no square; positions must"
      " form a square grid."
    )
  return grid


def config_to_hf(
  config: SiglipVisionConfig, dtype: str = "float32"
) -> dict[str, Any]:
  """The config.json of the vision model alone, every value said."""
  c = config.encoder
  family = {resize: name for name, resize in RESIZE.items()}[c.position_resize]
  out = {
    "architectures": [f"{family.capitalize()}VisionModel"],
    "model_type": f"{family}_vision_model",
    "dtype": dtype,
    "hidden_size": c.width,
    "intermediate_size": c.mlp_width,
    "num_hidden_layers": c.num_layers,
    "num_attention_heads": c.num_heads,
    "num_channels": c.num_channels,
    "patch_size": c.patch_size,
    "layer_norm_eps": c.norm_eps,
    "vision_use_head": config.pool_head,
    **_FIXED,
  }
  if family == "siglip":
    out["image_size"] = c.native_grid * c.patch_size + config.margin
  else:
    out["num_patches"] = c.native_grid**2
  return out
