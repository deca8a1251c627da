"""Qwen3 from and to Hugging Face folders: 0.6B, 1.7B, 4B, 8B and alike.

    module, params = load("Qwen3-4B", dtype="bfloat16")
    logits, hidden = module.apply({"params": params}, tokens_BL)

`hidden` has what `transformers` calls `hidden_states`: the embeddings, each
layer's output but the last, and the output of the final norm. Padding on
either side is segment 0 with position `cumsum(mask) - 1`; packed sequences
are segments 1, 2, ...; any other mask that ids can say is passed as `ids`.

Source: `transformers` 4.51 to 5, `Qwen3ForCausalLM`.
"""

from collections.abc import Iterator
import os
from typing import Any

import einops
import jax
import jax.numpy as jnp
import numpy as np

from emma_jax import rules
from emma_jax.convert import files, table
from emma_jax.convert.files import Folder
from emma_jax.convert.table import Change, Entry
from emma_jax.models.qwen3 import Qwen3, Qwen3Config


def _published(
  width: int, mlp_width: int, layers: int, heads: int, tie: bool = True
) -> Qwen3Config:
  return Qwen3Config(
    vocab_size=151936,
    width=width,
    mlp_width=mlp_width,
    num_layers=layers,
    num_heads=heads,
    num_kv_heads=8,
    head_dim=128,
    rope_theta=1e6,
    norm_eps=1e-6,
    tie_embeddings=tie,
    embed_std=0.02,
    residual_gain=1.0,
    scan_unroll=1,
    remat="none",
    attention="auto",
  )


QWEN3_0_6B = _published(1024, 3072, 28, 16)
QWEN3_1_7B = _published(2048, 6144, 28, 16)
QWEN3_4B = _published(2560, 9728, 36, 32)
QWEN3_8B = _published(4096, 12288, 36, 32, tie=False)

# What a key means where a sparse config.json leaves it out.
_DEFAULTS = {
  "vocab_size": 151936,
  "hidden_size": 4096,
  "intermediate_size": 22016,
  "num_hidden_layers": 32,
  "num_attention_heads": 32,
  "num_key_value_heads": 32,
  "head_dim": 128,
  "rms_norm_eps": 1e-6,
  "tie_word_embeddings": False,
}
_DEFAULT_THETA = 10_000.0

# The two tensors that are one parameter in a tied model.
_EMBED, _HEAD = "model.embed_tokens.weight", "lm_head.weight"


class ConfigError(ValueError):
  """A config.json that asks for what is not implemented."""


def config_from_hf(config: dict[str, Any]) -> Qwen3Config:
  """Our sizes from a config.json, of transformers 4 or 5.

  Keys that are left out mean what `transformers.Qwen3Config` means by it.
  Ignored, as they change no output: attention_dropout, initializer_range,
  max_position_embeddings, and the ids of special tokens.

  Raises:
    ConfigError: another family, scaled RoPE, a sliding window, biases, another
      activation, quantised weights.
  """
  _refuse_what_differs(config)
  value = _DEFAULTS | {k: config[k] for k in _DEFAULTS if k in config}
  if value["num_key_value_heads"] is None:
    value["num_key_value_heads"] = value["num_attention_heads"]
  empty = [key for key in value if value[key] is None]
  if empty:
    raise ConfigError(f"config.json has null for {empty}; write the numbers.")
  return Qwen3Config(
    vocab_size=int(value["vocab_size"]),
    width=int(value["hidden_size"]),
    mlp_width=int(value["intermediate_size"]),
    num_layers=int(value["num_hidden_layers"]),
    num_heads=int(value["num_attention_heads"]),
    num_kv_heads=int(value["num_key_value_heads"]),
    head_dim=int(value["head_dim"]),
    rope_theta=_theta(config),
    norm_eps=float(value["rms_norm_eps"]),
    tie_embeddings=bool(value["tie_word_embeddings"]),
    embed_std=0.02,
    residual_gain=1.0,
    scan_unroll=1,
    remat="none",
    attention="auto",
  )


def _refuse_what_differs(config: dict[str, Any]) -> None:
  window = config.get("sliding_window")
  for key, allowed, remedy in (
    ("model_type", ("qwen3",), "use the converter of that family"),
    ("hidden_act", ("silu", "swish"), "Qwen3's is silu"),
    ("attention_bias", (False,), "the projections here have no bias"),
    (
      "use_sliding_window",
      (False,),
      "set it to false if all sequences are"
      f" shorter than the window ({window})",
    ),
    ("partial_rotary_factor", (1.0,), "RoPE rotates whole heads here"),
    ("quantization_config", (None,), "save the weights dequantised"),
  ):
    if config.get(key, allowed[0]) not in allowed:
      raise ConfigError(
        f"config.json: {key}={config[key]!r} is not implemented; {remedy}."
      )
  kinds = config.get("layer_types") or ()
  other = [kind for kind in kinds if kind != "full_attention"]
  if other:
    raise ConfigError(
      f"config.json: layer_types has {other[0]!r}, which is not implemented;"
      " only full_attention is."
    )


def _theta(config: dict[str, Any]) -> float:
  """RoPE's base: `rope_theta` (transformers 4) or in `rope_parameters` (5)."""
  found = {}
  if config.get("rope_theta") is not None:
    found["rope_theta"] = float(config["rope_theta"])
  for key in ("rope_scaling", "rope_parameters"):
    rope = config.get(key) or {}
    rope = rope.get("full_attention", rope)  # nested by kind of layer
    kind = rope.get("rope_type", rope.get("type", "default"))
    part = rope.get("partial_rotary_factor", 1.0)
    if kind != "default" or part != 1.0:
      raise ConfigError(
        f"config.json: {key}={rope!r} is not implemented; only unscaled RoPE"
        " over whole heads is. Set it to null if all sequences fit the"
        " original length."
      )
    if rope.get("rope_theta") is not None:
      found[f"{key}.rope_theta"] = float(rope["rope_theta"])
  if len(set(found.values())) > 1:
    raise ConfigError(
      f"config.json contradicts itself: {found}; leave the one the model was"
      " trained with."
    )
  return next(iter(found.values()), _DEFAULT_THETA)


def config_to_hf(config: Qwen3Config, dtype: str = "float32") -> dict[str, Any]:
  """A config.json that transformers 4 and 5 both read rightly.

  Both dialects of RoPE's base are in it: a reader that misses its own would
  take 10,000 without a word.
  """
  c = config
  out = {
    "architectures": ["Qwen3ForCausalLM"],
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


# ---------------------------------------------------------------- weights


def _to_heads(heads: int) -> tuple[Change, Change]:
  """(heads * E, D) <-> (D, heads, E)."""
  return (
    lambda x: einops.rearrange(x, "(h e) d -> d h e", h=heads),
    lambda x: einops.rearrange(x, "d h e -> (h e) d"),
  )


def _from_heads(heads: int) -> tuple[Change, Change]:
  """(D, heads * E) <-> (heads, E, D)."""
  return (
    lambda x: einops.rearrange(x, "d (h e) -> h e d", h=heads),
    lambda x: einops.rearrange(x, "h e d -> d (h e)"),
  )


def entries(config: Qwen3Config) -> tuple[Entry, ...]:
  """The name table of `Qwen3ForCausalLM`."""
  c = config
  same = (table.same, table.same)
  flip = (table.transpose, table.transpose)
  layer = {
    "attn_norm/scale": ("input_layernorm", same),
    "qk/q": ("self_attn.q_proj", _to_heads(c.num_heads)),
    "qk/k": ("self_attn.k_proj", _to_heads(c.num_kv_heads)),
    "qk/q_norm": ("self_attn.q_norm", same),
    "qk/k_norm": ("self_attn.k_norm", same),
    "v/kernel": ("self_attn.v_proj", _to_heads(c.num_kv_heads)),
    "o/kernel": ("self_attn.o_proj", _from_heads(c.num_heads)),
    "mlp_norm/scale": ("post_attention_layernorm", same),
    "mlp/gate": ("mlp.gate_proj", flip),
    "mlp/up": ("mlp.up_proj", flip),
    "mlp/down": ("mlp.down_proj", flip),
  }
  out = [Entry("embed", (_EMBED,)), Entry("norm/scale", ("model.norm.weight",))]
  if not c.tie_embeddings:
    out.append(Entry("lm_head", (_HEAD,)))
  for ours, (theirs, (to_ours, to_theirs)) in layer.items():
    names = tuple(
      f"model.layers.{i}.{theirs}.weight" for i in range(c.num_layers)
    )
    out.append(
      Entry(f"layers/block/{ours}", names, to_ours, to_theirs, stacked=True)
    )
  return tuple(out)


def shapes(config: Qwen3Config) -> dict[str, jax.ShapeDtypeStruct]:
  """Slash path -> shape of every parameter of `Qwen3(config)`."""
  tokens = jax.ShapeDtypeStruct((1, 1), jnp.int32)
  return table.leaf_shapes(Qwen3(config), tokens)


def leaves(
  folder: Folder, config: Qwen3Config, dtype: Any = None
) -> Iterator[tuple[str, np.ndarray]]:
  """(path, leaf on the host) of every parameter, one at a time.

  A tied model may bring a copy of its embeddings as lm_head.weight; it must
  be equal to them. Everything is checked at the call.

  Raises:
    ConversionError: names or shapes that do not fit, or such a copy that
      differs.
  """
  tied = config.tie_embeddings
  found = table.read(
    folder,
    entries(config),
    shapes(config),
    dtype=dtype,
    ignore=("lm_head[.]weight",) if tied else (),
  )
  if tied and _HEAD in folder.names():
    _check_redundant_head(folder)
  return found


def _check_redundant_head(folder: Folder) -> None:
  shape = folder.shape(_HEAD)
  if shape != folder.shape(_EMBED):
    raise table.ConversionError(
      str(folder.path),
      misshaped=[
        f"{_HEAD} {shape} must be a copy of {_EMBED} {folder.shape(_EMBED)}"
      ],
    )
  head, embed = folder.read(_HEAD), folder.read(_EMBED)
  rows = 4096  # at a time: the real ones have 151,936
  for start in range(0, shape[0], rows):
    part = slice(start, start + rows)
    if not np.array_equal(head[part], embed[part]):
      a, b = (x[part].astype(np.float32) for x in (head, embed))
      row, column = np.argwhere(~(a == b))[0]
      raise table.ConversionError(
        str(folder.path),
        misshaped=[
          f"{_HEAD}[{start + row}, {column}] = {a[row, column]:g} but"
          f" {_EMBED} has {b[row, column]:g} there, though config.json says"
          " tie_word_embeddings=true (set it to false if the head is its"
          " own)"
        ],
      )


def load(
  path: str | os.PathLike, dtype: Any = "float32"
) -> tuple[Qwen3, dict[str, Any]]:
  """A downloaded folder as (module, parameters).

  Args:
    path: the folder with config.json and the safetensors.
    dtype: of the parameters, and so of the activations; None: as stored.

  Returns:
    The module, and nested dicts of arrays for `module.apply({"params": ...})`.

  Raises:
    FolderError, ConfigError, ConversionError: what is wrong with the folder.
  """
  folder = Folder.open(path)
  config = config_from_hf(folder.config)
  flat = {k: jnp.asarray(x) for k, x in leaves(folder, config, dtype)}
  return Qwen3(config), rules.unflatten(flat)


def save(
  path: str | os.PathLike,
  config: Qwen3Config,
  params: dict[str, Any],
  overrides: dict[str, Any] | None = None,
  max_shard_bytes: float = 5e9,
) -> None:
  """Writes a folder that `Qwen3ForCausalLM.from_pretrained` loads.

  Args:
    path: the folder; it must hold no safetensors yet.
    config: the sizes.
    params: what `load` returns or training made, in any dtype.
    overrides: keys of config.json that this code does not use, such as
      max_position_embeddings.
    max_shard_bytes: see `files.write_folder`.
  """
  dtype = jnp.dtype(params["embed"].dtype).name
  files.write_folder(
    path,
    config_to_hf(config, dtype) | (overrides or {}),
    table.write(params, entries(config)),
    max_shard_bytes=max_shard_bytes,
  )
