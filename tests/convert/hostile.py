"""Published folders and what may have happened to them, with the outcomes.

Every key of a family's config.json is in CONFIGS, with what becomes of it when
it is dropped, null, of a wrong type and out of range: words of the refusal, or
`Default`: taken from the reference implementation and told, or SAME: read as if
nothing had happened, or `Sizes`: what then differs.
"""

from collections.abc import Callable, Iterator
import contextlib
import dataclasses
import functools
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from emma_jax.convert import (
  dcae,
  dcae_config,
  qwen3,
  qwen3_config,
  siglip,
  siglip_config,
)
from tests.convert import published
from tests.goldens import dcae as dcae_golden
from tests.goldens import qwen3 as qwen3_golden
from tests.goldens import siglip as siglip_golden

SAME = "the same sizes, and nothing is told"
WRONG = object()  # in place of a value that every type differs from


@dataclasses.dataclass(frozen=True)
class Default:
  """Accepted: the reference implementation's value, told with its source."""

  value: Any


@dataclasses.dataclass(frozen=True)
class Sizes:
  """Accepted, with fields of our config that differ; nothing is told."""

  fields: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Key:
  """What becomes of one key, and what it is changed to.

  Without `words` the changes do nothing: the key is not read.
  """

  dropped: Any
  null: Any
  types: tuple = ()  # values of a wrong type, and what is said of them
  beyond: tuple = ()  # values out of range, and what is said of them
  words: str = ""


@dataclasses.dataclass(frozen=True)
class Family:
  """A folder that is whole, and the module that reads it."""

  name: str
  module: ModuleType
  reader: Callable
  config: dict[str, Any]
  tensors: published.Tensors
  keys: dict[str, Key]
  section: str = ""  # the object of config that the keys are of
  stem: str = "model"
  prefix: str = ""

  def write(self, folder: Path, config=None, tensors=None) -> Path:
    return published.write(
      folder,
      self.config if config is None else config,
      self.tensors if tensors is None else tensors,
      self.stem,
    )

  def changed(self, key: str, value: Any) -> dict[str, Any]:
    """The config with a key of another value; WRONG: without it."""
    config = dict(self.config)
    own = dict(config[self.section]) if self.section else config
    if value is WRONG:
      own.pop(key, None)
    else:
      own[key] = value
    return config | {self.section: own} if self.section else own


@contextlib.contextmanager
def shapes_once() -> Iterator[None]:
  """Shapes are traced once for each config, not once for each folder."""
  with pytest.MonkeyPatch.context() as patch:
    for module, name in (
      (qwen3, "shapes"),
      (siglip, "shapes"),
      (dcae, "leaf_shapes"),
    ):
      patch.setattr(module, name, functools.cache(getattr(module, name)))
    yield


# ------------------------------------------------------------------- configs

_NOT_WHOLE = ("24", 24.5, 24.0, True, [24], {"n": 24})
_NOT_NUMBER = ("1e-6", True, [1e-6], {})
_NOT_FLAG = ("false", "true", 0, 1, [], {})
_NOT_LIST = ("8", 8, True, {"0": 8})


def size(dropped: Any = "is missing", null: Any = "is null") -> Key:
  """A whole number from 1."""
  beyond = (0, -1, 10**12, 10**400)
  return Key(dropped, null, _NOT_WHOLE, beyond, "must be a whole number from")


def side(dropped: Any) -> Key:
  """A length in pixels, one or two equal ones."""
  types = ("24", 24.0, True, {}, [16, 8], [], [16, 16, 16], [[16]])
  return Key(dropped, "is null", types, (0, -1, 10**12, [0, 0]), "must be")


def epsilon(dropped: Any = "is missing") -> Key:
  beyond = (0, -1e-6, 5.0, 10**400)
  return Key(dropped, "is null", _NOT_NUMBER, beyond, "must be a number above")


def flag(dropped: Any) -> Key:
  return Key(dropped, "is null", _NOT_FLAG, (), "must be true or false")


def fixed(dropped: Any, null: Any, *wrong: Any) -> Key:
  """One value is implemented."""
  return Key(dropped, null, (), wrong, "nothing else is implemented")


def stages(dropped: Any, beyond: tuple) -> Key:
  """A list with an item for each stage."""
  return Key(dropped, "is null", _NOT_LIST, beyond, "must be a list")


def words(default: Any) -> Key:
  types = (8, True, {"0": "x"}, [8, 8, 8])
  return Key(Default(default), "is null", types, (), "must be a")


def name(*foreign: Any) -> Key:
  """What a file calls itself; another name of its tells enough."""
  words = "another family|must be a list|is of the model_type"
  return Key(SAME, SAME, (8, {}, True), foreign, words)


FREE = Key(SAME, SAME, ("x", [], {}), (-1, 10**12))  # not read

QWEN3 = {
  "architectures": name(["LlamaForCausalLM"], ["Qwen3MoeModel"], "x", [8]),
  "model_type": name("llama", "qwen2", "qwen3_moe", "Qwen3", ""),
  "vocab_size": size(),
  "hidden_size": size(),
  "intermediate_size": size(),
  "num_hidden_layers": size(),
  "num_attention_heads": size(),
  "num_key_value_heads": size(null=Sizes({"num_kv_heads": 4})),
  "head_dim": size(),
  "rms_norm_eps": epsilon(),
  "tie_word_embeddings": flag(Default(False)),
  "hidden_act": fixed(Default("silu"), "is null", "gelu", "SiLU", 1, ["silu"]),
  "attention_bias": fixed(SAME, "is null", True, "false", 0, []),
  "use_sliding_window": fixed(SAME, "is null", True, "false", 0),
  "rope_theta": Key(
    "rope_theta is missing",
    "rope_theta is missing",
    ("10000", True, [1e4], {}),
    (0, -1e4, 1e300),
    "must be a number above 0",
  ),
  "rope_scaling": Key(
    SAME,
    SAME,
    ("yarn", 8, True, [8]),
    (
      {"rope_type": "yarn", "factor": 4.0},
      {"type": "linear"},
      {"rope_type": 8},
      {"rope_theta": "1"},
      {"rope_theta": 7.0},
      {"full_attention": None},
      {"full_attention": "x"},
      {"partial_rotary_factor": 0.5},
    ),
    "must be|not implemented|contradicts",
  ),
  **dict.fromkeys(
    "attention_dropout initializer_range max_position_embeddings sliding_window"
    " max_window_layers torch_dtype use_cache".split(),
    FREE,
  ),
}
SIGLIP = {
  "model_type": name("clip_vision_model", "siglip2_vision_model", "llama"),
  "hidden_size": size(Default(768)),
  "intermediate_size": size(Default(3072)),
  "num_hidden_layers": size(Default(12)),
  "num_attention_heads": size(Default(12)),
  "num_channels": size(Default(3)),
  "patch_size": side(Default(16)),
  "image_size": side(Default(224)),
  "layer_norm_eps": epsilon(Default(1e-6)),
  "vision_use_head": flag(Default(True)),
  "hidden_act": fixed(
    Default("gelu_pytorch_tanh"), "is null", "gelu", 1, ["gelu_pytorch_tanh"]
  ),
  "attention_dropout": fixed(Default(0.0), "is null", 0.1, "0.0", False),
}
NAFLEX = {k: v for k, v in SIGLIP.items() if k != "image_size"} | {
  "model_type": Key(
    "does not say", "does not say", (8, {}), ("clip", "llama"), "another family"
  ),
  "num_patches": size(Default(256)),
}
_SIX = "stages differ in number"  # the default has six, these files three
_KERNELS = ((), (), (), (5,), (5,), (5,))
_BAD_WIDTHS = ([], [8], [8, 0, 8], [8, "8", 8], [8] * 11, [8, 10**12, 8])
_BAD_LAYERS = ([], [1], [1, -1, 1], [1, 1.0, 1], [1] * 11, [1, 65, 1])
_BAD_KERNELS = ([5, 5, 5], [[], [], [0]], [[], [], "5"], [[], [], [99]], [[]])
DCAE = {
  "_class_name": Key(
    "does not say",
    "does not say",
    (8, {}, ["AutoencoderDC"]),
    ("AutoencoderKL", "LlamaForCausalLM", ""),
    "another family",
  ),
  "in_channels": size(Default(3)),
  "latent_channels": size("not a multiple of latent_channels=32"),
  "attention_head_dim": size("multiple of attention_head_dim=32"),
  "encoder_block_types": words("ResBlock"),
  "decoder_block_types": words("ResBlock"),
  "encoder_block_out_channels": stages(_SIX, _BAD_WIDTHS),
  "decoder_block_out_channels": stages(_SIX, _BAD_WIDTHS),
  "encoder_layers_per_block": stages(_SIX, _BAD_LAYERS),
  "decoder_layers_per_block": stages(_SIX, _BAD_LAYERS),
  "encoder_qkv_multiscales": stages(Default(_KERNELS), _BAD_KERNELS),
  "decoder_qkv_multiscales": stages(Default(_KERNELS), _BAD_KERNELS),
  "downsample_block_type": words("pixel_unshuffle"),
  "upsample_block_type": words("pixel_shuffle"),
  "decoder_norm_types": words("rms_norm"),
  "decoder_act_fns": words("silu"),
  "encoder_out_shortcut": flag(Default(True)),
  "decoder_in_shortcut": flag(Default(True)),
  "decoder_conv_act_fn": words("relu"),
  "scaling_factor": Key(
    "scaling_factor is missing",
    "is null",
    ("0.41407", True, [0.41407], {}),
    (0, -1.0, 1e300),
    "must be a number above 0",
  ),
  "_diffusers_version": FREE,
}


# All keys, as the newest versions write them; the goldens' files are sparse.
_VISION = dict(
  num_channels=3,
  vision_use_head=True,
  hidden_act="gelu_pytorch_tanh",
  attention_dropout=0.0,
)
_AUTOENCODER = dict(
  in_channels=3,
  decoder_norm_types="rms_norm",
  decoder_act_fns="silu",
  encoder_out_shortcut=True,
  decoder_in_shortcut=True,
  decoder_conv_act_fn="relu",
)


def _family(name: str) -> Family:
  if name == "qwen3":
    golden, kind, options = qwen3_golden, "tied", {}
    parts, config = (qwen3, qwen3_config, QWEN3), golden.CONFIGS[kind]
  elif name in ("patch14", "naflex"):
    golden, kind, options = siglip_golden, name, {}
    parts = (siglip, siglip_config, SIGLIP if name == "patch14" else NAFLEX)
    config = golden.CONFIGS[kind]
    if name == "naflex":
      config = _VISION | config
    else:
      options = {"section": "vision_config"}
      config = config | {"vision_config": _VISION | config["vision_config"]}
  else:
    golden, kind, options = dcae_golden, name, {"stem": dcae_golden.STEM}
    parts = (dcae, dcae_config, DCAE)
    config = _AUTOENCODER | golden.CONFIGS[kind]
  module, reader, keys = parts
  return Family(
    name=name,
    module=module,
    reader=reader.read_config,
    config=config,
    tensors=golden.tensors(kind),
    keys=keys,
    **options,
  )


FAMILIES = {
  name: _family(name)
  for name in ("qwen3", "patch14", "naflex", "sana", "imagenet")
}
# --family of each, for `emma-convert check`.
OF_CHECK = {"qwen3": "qwen3", "patch14": "siglip2", "naflex": "siglip2"}

# What no single key says: (family, change of config.json, words).
REFUSED: tuple[tuple[str, dict[str, Any], str], ...] = (
  (
    "qwen3",
    dict(architectures=["LlamaForCausalLM"], model_type="llama"),
    "architectures says 'LlamaForCausalLM'",
  ),
  ("qwen3", dict(architectures=None, model_type=None), "does not say which"),
  ("qwen3", dict(quantization_config={"quant_method": "gptq"}), "by 'gptq'"),
  ("qwen3", dict(quantization_config=[]), "are quantised"),
  ("qwen3", dict(quantization={"bits": 4}), "are quantised"),
  ("qwen3", dict(compression_config={"quant_method": "fp8"}), "by 'fp8'"),
  ("qwen3", dict(layer_types=["full_attention"]), "names 1 layers"),
  ("qwen3", dict(layer_types="full_attention"), "must be a list"),
  ("qwen3", dict(layer_types=["sliding_attention"] * 3), "item 0"),
  ("qwen3", dict(rope_parameters="yarn"), "rope_parameters='yarn' must be"),
  ("qwen3", dict(rope_parameters={"rope_theta": 1e6}), "contradicts itself"),
  ("qwen3", dict(partial_rotary_factor=0.5), "partial_rotary_factor=0.5"),
  ("qwen3", dict(num_key_value_heads=3), "not a multiple"),
  ("qwen3", dict(head_dim=13), "must be even"),
  ("patch14", dict(vision_config=[]), "vision_config=.. must be an object"),
  ("patch14", dict(vision_config="x"), "vision_config='x' must be an object"),
  ("patch14", dict(model_type="clip"), "model_type says 'clip'"),
  ("patch14", dict(model_type=["siglip"]), "another family"),
  ("patch14", dict(architectures=["Siglip2Model"]), "contradicts itself"),
  ("naflex", dict(num_patches=26), "no square"),
  ("naflex", dict(num_attention_heads=5), "not a multiple"),
  ("naflex", dict(quantization_config={"bits": 8}), "are quantised"),
  ("sana", dict(model_type="llama"), "model_type says 'llama'"),
  ("sana", dict(architectures=["X"]), "architectures says 'X'"),
  ("sana", dict(mid_block="x"), "fields that are not implemented"),
  ("sana", dict(latent_shift="abc"), "latent_shift='abc' must be"),
  ("sana", dict(latent_shift=[0.0, 1.0]), "must hold 4 numbers"),
  ("sana", dict(latent_scale=[1.0, 0.0, 1.0, 1.0]), "no scale 0"),
  ("sana", dict(latent_scale=[1.0, 1e300, 1.0, 1.0]), "finite in float32"),
  ("sana", dict(quantization_config={"bits": 8}), "are quantised"),
)
