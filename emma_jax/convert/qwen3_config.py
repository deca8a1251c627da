"""config.json of Qwen3: `Qwen3ForCausalLM` of transformers 4.51 to 5."""

from collections.abc import Mapping
from typing import Any

from emma_jax.convert import fields
from emma_jax.convert.fields import (
  ConfigError,
  Field,
  each,
  flag,
  number,
  only,
  section,
  whole,
  word,
)
from emma_jax.models.qwen3 import Qwen3Config

_FAMILY = "a Qwen3 decoder"
_CLASS = "Qwen3ForCausalLM"
_SOURCE = "transformers 5.24.0, Qwen3Config"
# `save_pretrained` writes all keys of sizes; a file without one was edited.
# What has a default here either came later than some published files, or the
# tensors tell it.
FIELDS = (
  Field("vocab_size", whole(1, 1 << 24)),
  Field("hidden_size", whole(1, 1 << 17)),
  Field("intermediate_size", whole(1, 1 << 20)),
  Field("num_hidden_layers", whole(1, 1024)),
  Field("num_attention_heads", whole(1, 4096)),
  # null: as many as heads, in Qwen3Config.__post_init__.
  Field("num_key_value_heads", whole(1, 4096), null=None),
  Field("head_dim", whole(2, 4096)),
  Field("rms_norm_eps", number(0, 1)),
  # The head's tensor is there, or it is not.
  Field("tie_word_embeddings", flag, default=False, source=_SOURCE),
  Field(
    "hidden_act",
    only("silu", "swish", remedy="Qwen3's is silu"),
    default="silu",
    source=_SOURCE,
  ),
  Field(
    "attention_bias",
    only(False, remedy="the projections here have no bias"),
    default=False,
    told=False,
  ),
  Field(
    "use_sliding_window",
    only(
      False,
      remedy="set it to false if all sequences are shorter than sliding_window",
    ),
    default=False,
    told=False,
  ),
  Field(
    "partial_rotary_factor",
    only(1.0, remedy="RoPE rotates whole heads here"),
    default=1.0,
    null=1.0,
    told=False,
  ),
  Field(
    "layer_types",
    each(only("full_attention", remedy="no layer has a window here"), 1, 1024),
    default=None,
    null=None,
    told=False,
  ),
  # RoPE's base is in one of these, or there is none: see `_theta`.
  Field("rope_theta", number(0, 1e15), default=None, null=None, told=False),
  Field("rope_scaling", section, default=None, null=None, told=False),
  Field("rope_parameters", section, default=None, null=None, told=False),
)
# What may stand in rope_scaling and rope_parameters, or in one of the sections
# that these have for each kind of layer.
_ROPE = (
  Field("rope_theta", number(0, 1e15), default=None, null=None),
  Field("rope_type", word, default=None, null=None),
  Field("type", word, default=None, null=None),
  Field("partial_rotary_factor", number(0, 1), default=1.0, null=1.0),
  Field("factor", number(0, 1e6), default=1.0, null=1.0),
)


def config_from_hf(
  config: Mapping[str, Any], where: str = "config.json"
) -> Qwen3Config:
  """Our sizes from a config.json, of transformers 4 or 5.

  What a key must be, and which may be left out, stands in FIELDS. Ignored, as
  they change no output: attention_dropout, initializer_range,
  max_position_embeddings, and the ids of special tokens.

  Args:
    config: the JSON object.
    where: the file, for errors.

  Raises:
    ConfigError: another family, a key that is missing, null, of a wrong type or
      out of range, scaled RoPE, a sliding window, biases, another activation,
      quantised weights.
  """
  return read_config(config, where)[0]


def read_config(
  config: Mapping[str, Any], where: str
) -> tuple[Qwen3Config, str]:
  """(our sizes, what is told of defaults)."""
  fields.identify(
    config,
    where,
    wanted=_FAMILY,
    kinds={"qwen3": "qwen3"},
    classes={_CLASS: "qwen3"},
  )
  fields.refuse_quantised(config, where)
  value, taken = fields.read(FIELDS, config, where)
  layers = value["layer_types"]
  if layers is not None and len(layers) != value["num_hidden_layers"]:
    raise ConfigError(
      f"{where}: layer_types names {len(layers)} layers, num_hidden_layers is"
      f" {value['num_hidden_layers']}; get the file again."
    )
  heads = value["num_attention_heads"]
  sizes = fields.sized(
    Qwen3Config,
    where,
    vocab_size=value["vocab_size"],
    width=value["hidden_size"],
    mlp_width=value["intermediate_size"],
    num_layers=value["num_hidden_layers"],
    num_heads=heads,
    num_kv_heads=value["num_key_value_heads"] or heads,
    head_dim=value["head_dim"],
    rope_theta=_theta(value, where),
    norm_eps=value["rms_norm_eps"],
    tie_embeddings=value["tie_word_embeddings"],
    embed_std=0.02,
    residual_gain=1.0,
    scan_unroll=1,
    remat="none",
    attention="auto",
  )
  return sizes, fields.told(taken, where)


def _theta(value: Mapping[str, Any], where: str) -> float:
  """RoPE's base: `rope_theta` (transformers 4) or in `rope_parameters` (5).

  transformers takes 10,000 where it is in neither; no Qwen3 has that base, and
  every published file has its own.
  """
  found = {}
  if value["rope_theta"] is not None:
    found["rope_theta"] = value["rope_theta"]
  for key in ("rope_scaling", "rope_parameters"):
    rope = value[key] or {}
    rope = rope.get("full_attention", rope)  # nested by kind of layer
    if type(rope) is not dict:
      raise ConfigError(
        f"{where}: {key}.full_attention={rope!r} must be an object of keys and"
        " values."
      )
    part, _ = fields.read(_ROPE, rope, f"{where}, {key}")
    kind = part["rope_type"] or part["type"] or "default"
    # A factor without a type: transformers 4 fails, and 5 leaves it out.
    typed = part["rope_type"] or part["type"] or part["factor"] == 1.0
    if kind != "default" or not typed or part["partial_rotary_factor"] != 1.0:
      raise ConfigError(
        f"{where}: {key}={rope!r} is not implemented; only unscaled RoPE"
        " over whole heads is. Set it to null if all sequences fit the"
        " original length."
      )
    if part["rope_theta"] is not None:
      found[f"{key}.rope_theta"] = part["rope_theta"]
  if len(set(found.values())) > 1:
    raise ConfigError(
      f"{where} contradicts itself: {found}; leave the one the model was"
      " trained with."
    )
  if not found:
    raise ConfigError(
      f"{where}: rope_theta is missing, there and in rope_parameters; write the"
      " one the model was trained with, 1000000 for Qwen3 and 5000000 for its"
      " 2507 releases."
    )
  return next(iter(found.values()))


def config_to_hf(config: Qwen3Config, dtype: str = "float32") -> dict[str, Any]:
  """A config.json that transformers 4 and 5 both read rightly.

  Both dialects of RoPE's base are in it: a reader that misses its own would
  take 10,000 without a word.
  """
  c = config
  out = {
    "architectures": [_CLASS],
    "model_type": "qwen3",
    "attention_bias": False,
    "attention_dropout": 0.0,
    "dtype": dtype,
    "head_dim": c.head_dim,
    "hidden_act": "silu",
    "hidden_size": c.width,
    "initializer_range": 0.02,
    "intermediate_size": c.mlp_width,
    "layer_types": ["full_attention"] * c.num_layers,
    "max_position_embeddings": 40960,
    "max_window_layers": c.num_layers,
    "num_attention_heads": c.num_heads,
    "num_hidden_layers": c.num_layers,
    "num_key_value_heads": c.num_kv_heads,
    "rms_norm_eps": c.norm_eps,
    "rope_parameters": {"rope_theta": c.rope_theta, "rope_type": "default"},
    "rope_scaling": None,
    "rope_theta": c.rope_theta,
    "sliding_window": None,
    "tie_word_embeddings": c.tie_embeddings,
    "use_cache": True,
    "use_sliding_window": False,
    "vocab_size": c.vocab_size,
  }
  if c.vocab_size > 151645:  # Qwen3's own vocabulary
    out |= {"bos_token_id": 151643, "eos_token_id": 151645}
  return out
