"""From `config.model` to a module, and its parameters' shapes and axes."""

from collections.abc import Mapping
import dataclasses
import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from emma_jax import rules
from emma_jax.build.sections import ConfigError, make
from emma_jax.models.adapters import FusionConfig
from emma_jax.models.autoencoder import AutoencoderConfig
from emma_jax.models.dcae import DcaeConfig
from emma_jax.models.emma import Emma, EmmaConfig
from emma_jax.models.experts import TowerConfig
from emma_jax.models.initial import boxed_params
from emma_jax.models.llm import LlmConfig
from emma_jax.models.siglip2 import SiglipConfig

KINDS = ("emma", "autoencoder")
DTYPES = ("float32", "bfloat16", "float16")  # that it computes with
# `kind` of an autoencoder's section -> its sizes; see models/autoencoder.py.
AUTOENCODERS: Mapping[str, type[AutoencoderConfig]] = {"dcae": DcaeConfig}


def autoencoder_config(model: Mapping[str, Any]) -> AutoencoderConfig:
  """The autoencoder's sizes, of a `config.model` of either kind."""
  section = dict(model["autoencoder"])
  kind = section.pop("kind", None)
  if kind not in AUTOENCODERS:
    raise ConfigError(
      f"config.model.autoencoder.kind={kind!r}: choose one of "
      f"{tuple(AUTOENCODERS)}."
    )
  return make(AUTOENCODERS[kind], section, "model.autoencoder")


def dcae_config(model: Mapping[str, Any]) -> DcaeConfig:
  """The same where only a DC-AE will do."""
  found = autoencoder_config(model)
  if not isinstance(found, DcaeConfig):
    raise ConfigError(
      f"The autoencoder is a {type(found).__name__}; this is for DC-AE alone."
    )
  return found


def emma_config(model: Mapping[str, Any]) -> EmmaConfig:
  """`config.model` of kind "emma"."""
  vision = dict(model["vision"])
  encoder = make(SiglipConfig, vision.pop("encoder"), "model.vision.encoder")
  return EmmaConfig(
    llm=make(LlmConfig, model["llm"], "model.llm"),
    vision=make(TowerConfig, vision, "model.vision", encoder=encoder),
    autoencoder=autoencoder_config(model),
    fusion=make(FusionConfig, model["fusion"], "model.fusion"),
    dtype=model["dtype"],
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Model:
  """A model, its parameters' shapes, and how they start at random."""

  module: Any  # an Emma, or an autoencoder's module
  shapes: dict  # nested ShapeDtypeStruct
  axes: dict[str, tuple[str | None, ...]]  # path -> logical axes
  rounded_to: dict[str, str]  # path -> dtype, see `layers.Weight`
  kind: str
  dtype: str

  def init(self, seed: int, shardings: Any = None) -> dict:
    """Random parameters, each device making its part (None: the first one).

    Jitted: op by op, the initialisation takes minutes at full size.
    """
    init = jax.jit(
      lambda key: nn.unbox(_boxed(self.module, key)), out_shardings=shardings
    )
    return init(jax.random.key(seed))


def _boxed(module: Any, key: jax.Array) -> dict:
  """Random parameters in boxes that name their axes."""
  if isinstance(module, Emma):
    return boxed_params(module.config, key)
  side = module.config.factor
  pixels = jnp.zeros((1, side, side, module.config.in_channels))
  return {"autoencoder": module.init(key, pixels)["params"]}


def model(section: Mapping[str, Any]) -> Model:
  """The model of `config.model`."""
  kind = section["kind"]
  if kind not in KINDS:
    raise ConfigError(f"config.model.kind={kind!r}: choose one of {KINDS}.")
  if section["dtype"] not in DTYPES:
    raise ConfigError(
      f"config.model.dtype={section['dtype']!r}: choose one of {DTYPES}."
    )
  module: nn.Module
  try:
    if kind == "emma":
      module = Emma(emma_config(section))
    else:
      module = autoencoder_config(section).module()
    return _model(module, kind, section["dtype"])
  except ConfigError:
    raise
  except (ArithmeticError, TypeError, ValueError) as error:
    # Sizes that are right by themselves and not together.
    raise ConfigError(f"config.model: {error}") from error


@functools.lru_cache(maxsize=8)
def _model(module: nn.Module, kind: str, dtype: str) -> Model:
  """Kept: tracing takes seconds, and a run is built once without its data."""
  boxed = jax.eval_shape(lambda: _boxed(module, jax.random.key(0)))
  boxes, tree = jax.tree_util.tree_flatten_with_path(
    boxed, is_leaf=lambda x: isinstance(x, nn.Partitioned)
  )
  return Model(
    module=module,
    kind=kind,
    dtype=dtype,
    shapes=jax.tree.unflatten(tree, [box.value for _, box in boxes]),
    axes={rules.path_of(keys): box.names for keys, box in boxes},
    rounded_to={
      rules.path_of(keys): box.rounded_to
      for keys, box in boxes
      if box.rounded_to
    },
  )
