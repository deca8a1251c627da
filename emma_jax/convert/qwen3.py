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
from emma_jax.convert.fields import ConfigError
from emma_jax.convert.files import Folder
from emma_jax.convert.qwen3_config import (
  config_from_hf,
  config_to_hf,
  read_config,
)
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

__all__ = ["ConfigError", "config_from_hf", "config_to_hf", "load", "save"]

# The two tensors that are one parameter in a tied model.
_EMBED, _HEAD = "model.embed_tokens.weight", "lm_head.weight"


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
  be equal to them; that is looked at before the first leaf. Names, shapes and
  dtypes are checked at the call.

  Raises:
    ConversionError: names, shapes or kinds of numbers that do not fit, or such
      a copy that differs.
    BadValues: while leaves are read: what is not finite.
  """
  tied = config.tie_embeddings
  found = table.read(
    folder,
    entries(config),
    lambda: shapes(config),
    dtype=dtype,
    ignore=("lm_head[.]weight",) if tied else (),
  )
  if tied and _HEAD in folder.names():
    _check_head_shape(folder)
    return _after_head(folder, found)
  return found


def _after_head(folder: Folder, found: Iterator) -> Iterator:
  """The leaves, once the redundant head is known to be redundant."""
  _check_redundant_head(folder)
  yield from found


def _check_head_shape(folder: Folder) -> None:
  shape = folder.shape(_HEAD)
  if shape != folder.shape(_EMBED):
    raise table.ConversionError(
      str(folder.path),
      misshaped=[
        f"{_HEAD} {shape} must be a copy of {_EMBED} {folder.shape(_EMBED)}"
      ],
    )


def _check_redundant_head(folder: Folder) -> None:
  head, embed = folder.read(_HEAD), folder.read(_EMBED)
  rows = 4096  # at a time: the real ones have 151,936
  for start in range(0, len(head), rows):
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


def open_folder(
  path: str | os.PathLike, dtype: Any = "float32"
) -> table.Opened[Qwen3Config]:
  """A downloaded folder, checked as far as its headers tell.

  Args and errors as of `load`; `leaves` raises what is found in tensors.
  """
  folder = Folder.open(path)
  config, told = read_config(folder.config, str(folder.path / "config.json"))
  return table.Opened(config, leaves(folder, config, dtype), told)


def built(opened: table.Opened[Qwen3Config]) -> tuple[Qwen3, dict]:
  """(module, parameters) of an opened folder, whose tensors are read now."""
  flat = {k: jnp.asarray(x) for k, x in opened.leaves}
  return Qwen3(opened.config), rules.unflatten(flat)


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
    FolderError, ConfigError, ConversionError, BadValues: what is wrong with the
      folder; all of them are ValueErrors.
  """
  return built(open_folder(path, dtype))


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
