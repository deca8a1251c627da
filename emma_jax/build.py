"""From a config's sections to frozen dataclasses and models, once.

A config is nested dicts (an ml_collections ConfigDict, or the JSON that a
checkpoint keeps of it). Every key is passed on by name, so an unknown or a
missing one is an error here, not a silent default later.
"""

from collections.abc import Mapping
import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from emma_jax import rules
from emma_jax.data import images
from emma_jax.data import tokenizer as tokenizer_lib
from emma_jax.data.packing import Layout
from emma_jax.data.transforms import ToSample
from emma_jax.models.adapters import FusionConfig
from emma_jax.models.dcae import Autoencoder, DcaeConfig
from emma_jax.models.emma import Emma, EmmaConfig, boxed_params
from emma_jax.models.experts import TowerConfig
from emma_jax.models.llm import LlmConfig
from emma_jax.models.siglip2 import SiglipConfig

KINDS = ("emma", "autoencoder")


class ConfigError(ValueError):
  """A config section that does not fit; the message names the key."""


def plain(value: Any) -> Any:
  """ConfigDicts as dicts and sequences as lists: what JSON gives back."""
  if hasattr(value, "items"):
    return {k: plain(v) for k, v in value.items()}
  if isinstance(value, (list, tuple)):
    return [plain(v) for v in value]
  return value


def make(
    cls: type, section: Mapping[str, Any], name: str, /, **more: Any
) -> Any:
  """`cls(**section, **more)` with the section's name in every error."""
  fields = {f.name for f in dataclasses.fields(cls)}
  given = {k: _tuples(v) for k, v in section.items()} | more
  unknown = sorted(set(given) - fields)
  if unknown:
    raise ConfigError(f"config.{name} has unknown keys {unknown}; it takes "
                      f"{sorted(fields)}.")
  try:
    return cls(**given)
  except (TypeError, ValueError) as error:
    raise ConfigError(f"config.{name}: {error}") from error


def _tuples(value: Any) -> Any:
  if isinstance(value, (list, tuple)):
    return tuple(_tuples(v) for v in value)
  return value


def dcae_config(model: Mapping[str, Any]) -> DcaeConfig:
  return make(DcaeConfig, model["autoencoder"], "model.autoencoder")


def emma_config(model: Mapping[str, Any]) -> EmmaConfig:
  """`config.model` of kind "emma"."""
  vision = dict(model["vision"])
  encoder = make(SiglipConfig, vision.pop("encoder"), "model.vision.encoder")
  return EmmaConfig(
      llm=make(LlmConfig, model["llm"], "model.llm"),
      vision=make(TowerConfig, vision, "model.vision", encoder=encoder),
      autoencoder=dcae_config(model),
      fusion=make(FusionConfig, model["fusion"], "model.fusion"),
      dtype=model["dtype"],
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Model:
  """A model, its parameters' shapes, and how they start at random."""

  module: Emma | Autoencoder
  shapes: dict  # nested ShapeDtypeStruct
  axes: dict[str, tuple[str | None, ...]]  # path -> logical axes
  kind: str
  dtype: str

  def init(self, seed: int, shardings: Any = None) -> dict:
    """Random parameters, each device making its part (None: the first one).

    Jitted: op by op, the initialisation takes minutes at full size.
    """
    make = jax.jit(lambda key: nn.unbox(_boxed(self.module, self.kind, key)),
                   out_shardings=shardings)
    return make(jax.random.key(seed))


def _boxed(module: Emma | Autoencoder, kind: str, key: jax.Array) -> dict:
  """Random parameters in boxes that name their axes."""
  if kind == "emma":
    return boxed_params(module.config, key)
  side = module.config.factor
  pixels = jnp.zeros((1, side, side, module.config.in_channels))
  return {"autoencoder": module.init(key, pixels)["params"]}


def model(section: Mapping[str, Any]) -> Model:
  """The model of `config.model`."""
  kind = section["kind"]
  if kind not in KINDS:
    raise ConfigError(f"config.model.kind={kind!r}: choose one of {KINDS}.")
  if kind == "emma":
    module = Emma(emma_config(section))
  else:
    module = Autoencoder(dcae_config(section))
  boxed = jax.eval_shape(lambda: _boxed(module, kind, jax.random.key(0)))
  boxes, tree = jax.tree_util.tree_flatten_with_path(
      boxed, is_leaf=lambda x: isinstance(x, nn.Partitioned))
  return Model(
      module=module, kind=kind, dtype=section["dtype"],
      shapes=jax.tree.unflatten(tree, [box.value for _, box in boxes]),
      axes={rules.path_of(keys): box.names for keys, box in boxes})


def tokenizer(
    data: Mapping[str, Any], model: Mapping[str, Any] | None = None
) -> tokenizer_lib.Tokenizer:
  """The tokenizer that `config.data.tokenizer` names: tiny or qwen3:PATH.

  PATH is a file or folder as in `QwenTokenizer`. With `model` (the config's
  section) its vocabulary must have room for the tokenizer's.
  """
  name = data["tokenizer"]
  kind, _, path = name.partition(":")
  made: tokenizer_lib.Tokenizer
  if name == "tiny":
    made = tokenizer_lib.TinyTokenizer()
  elif kind == "qwen3" and path:
    try:
      made = tokenizer_lib.QwenTokenizer(path)
    except (ImportError, OSError, ValueError) as error:
      raise ConfigError(f"config.data.tokenizer={name!r}: {error}") from error
  else:
    raise ConfigError(f"config.data.tokenizer={name!r}: choose tiny, or "
                      "qwen3:PATH with Qwen3's tokenizer.json, qwen.tiktoken "
                      "or a folder that holds one.")
  if model is not None and model["kind"] == "emma":
    room = model["llm"]["vocab_size"]
    if made.vocab_size > room:
      raise ConfigError(
          f"config.model.llm.vocab_size={room} has no room for the "
          f"{made.vocab_size} tokens of config.data.tokenizer={name!r}; raise "
          "it (Qwen3's models have 151936), or choose another tokenizer.")
  return made


def preprocess(data: Mapping[str, Any]) -> images.Preprocess:
  """The one preprocessing of training and sampling."""
  keys = ("height", "width", "native", "min_tokens", "max_tokens")
  # Checkpoints of before there was a choice were read by Pillow.
  codec = {"codec": data["codec"]} if "codec" in data else {}
  return make(images.Preprocess, {k: data[k] for k in keys} | codec, "data")


def to_sample(data: Mapping[str, Any], *, training: bool) -> ToSample:
  """Records to sequences; conditions are dropped in training only."""
  keys = ("max_turns", "max_pixels")
  if training:
    keys += ("text_dropout", "reference_dropout")
  return make(
      ToSample, {k: data[k] for k in keys}, "data",
      tokenizer=tokenizer(data), preprocess=preprocess(data))


def layout(config: Mapping[str, Any], section: Mapping[str, Any], name: str,
           **changes: Any) -> Layout:
  """Static shapes of a batch: capacities of `section`, the config's sizes."""
  keys = ("rows", "und_tokens", "und_pictures", "references", "targets",
          "und_patches")
  sizes = {k: section[k] for k in keys}
  sizes |= dict(height=config["data"]["height"], width=config["data"]["width"])
  if config["model"]["kind"] == "emma":
    fusion = config["model"]["fusion"]
    sizes |= dict(fusion=fusion["mode"],
                  reference_branch=fusion["reference_branch"])
  return make(Layout, sizes | changes, name)


def fingerprints(data: Mapping[str, Any]) -> dict[str, str]:
  """Hashes of what a sampler must share with the training."""
  seen = preprocess(data)
  out = {
      "preprocess": seen.fingerprint(),
      "tokenizer": tokenizer(data).fingerprint(),
  }
  if seen.native:  # in questions; what is drawn and edited has one size
    frame = dataclasses.replace(seen, native=False)
    out["frame"] = frame.fingerprint()
  return out
