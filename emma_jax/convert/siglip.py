"""SigLIP and SigLIP2 vision models: Hugging Face folders in and out.

Two families, told apart by `model_type`, not by the name of the checkpoint:

  siglip, siglip_vision_model: fixed resolution, Conv2d patches, bicubic
    positions. Also all SigLIP2 checkpoints but NaFlex, such as
    siglip2-so400m-patch16-512.
  siglip2, siglip2_vision_model: NaFlex, Linear patches in the order (row,
    column, channel), antialiased bilinear positions.

    module, params = load("siglip2-so400m-patch16-512")
    patches, pooled, states = module.apply({"params": params}, pixels_PYXC)

`naflex.PackedVision(module.config)` takes the same parameters and pictures of
mixed sizes. `to_tower` and `from_tower` go between such a model and EMMA's
tower of two experts (models/experts.py).
"""

from collections.abc import Mapping
import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from emma_jax import rules
from emma_jax.convert import files, table
from emma_jax.convert.fields import ConfigError
from emma_jax.convert.siglip_config import (
  config_from_hf,
  config_to_hf,
  read_config,
)
from emma_jax.models import experts, siglip2
from emma_jax.models.siglip2_vision import SiglipVision, SiglipVisionConfig

__all__ = ["ConfigError", "config_from_hf", "config_to_hf", "load", "save"]

# What is left out on purpose: the text tower and the two scalars of the
# contrastive loss, of whole models; a counter that old versions saved.
IGNORED = (
  r"text_model\..*",
  r"logit_scale",
  r"logit_bias",
  r"(vision_model\.)?embeddings\.position_ids",
)
# Of whole models, and of every file that transformers 4 wrote. Version 5
# writes none, and reads both.
PREFIX = "vision_model."

# ------------------------------------------------------------------- names

# Of one block: our path -> their name. Kernels are (in, out) here and (out,
# in) there.
_LINEARS = {
  "attention/query": "self_attn.q_proj",
  "attention/key": "self_attn.k_proj",
  "attention/value": "self_attn.v_proj",
  "attention/out": "self_attn.out_proj",
  "mlp/up": "mlp.fc1",
  "mlp/down": "mlp.fc2",
}
_NORMS = {"attention_norm": "layer_norm1", "mlp_norm": "layer_norm2"}
_HEAD_LINEARS = {
  "out": "attention.out_proj",
  "mlp/up": "mlp.fc1",
  "mlp/down": "mlp.fc2",
}


def entries(config: SiglipVisionConfig) -> tuple[table.Entry, ...]:
  """The name table of a vision model; their names without `vision_model.`."""
  c = config.encoder
  layers = [f"encoder.layers.{i}." for i in range(c.num_layers)]

  def blocks(
    ours: str,
    theirs: str,
    to_ours: table.Change = table.same,
    to_theirs: table.Change = table.same,
  ) -> table.Entry:
    names = tuple(layer + theirs for layer in layers)
    return table.Entry(
      f"blocks/{ours}", names, to_ours, to_theirs, stacked=True
    )

  def single(ours: str, theirs: str, *change) -> table.Entry:
    return table.Entry(ours, (theirs,), *change)

  out = [
    single(
      "embed/kernel", "embeddings.patch_embedding.weight", *_patch_kernel(c)
    ),
    single("embed/bias", "embeddings.patch_embedding.bias"),
    single("embed/position", "embeddings.position_embedding.weight"),
    *_norm(single, "post_norm", "post_layernorm"),
  ]
  for ours, theirs in _LINEARS.items():
    out += _linear(blocks, ours, theirs)
  for ours, theirs in _NORMS.items():
    out += _norm(blocks, ours, theirs)
  if config.pool_head:
    out += [
      single(
        "head/probe",
        "head.probe",
        lambda x: x.reshape(-1),
        lambda x: x.reshape(1, 1, -1),
      ),
      single(
        "head/in_kernel",
        "head.attention.in_proj_weight",
        table.transpose,
        table.transpose,
      ),
      single("head/in_bias", "head.attention.in_proj_bias"),
      *_norm(single, "head/norm", "head.layernorm"),
    ]
    for ours, theirs in _HEAD_LINEARS.items():
      out += _linear(single, f"head/{ours}", f"head.{theirs}")
  return tuple(out)


def _linear(make, ours: str, theirs: str) -> list[table.Entry]:
  change = table.transpose, table.transpose
  return [
    make(f"{ours}/kernel", f"{theirs}.weight", *change),
    make(f"{ours}/bias", f"{theirs}.bias"),
  ]


def _norm(make, ours: str, theirs: str) -> list[table.Entry]:
  return [
    make(f"{ours}/scale", f"{theirs}.weight"),
    make(f"{ours}/bias", f"{theirs}.bias"),
  ]


def _patch_kernel(c: siglip2.SiglipConfig) -> tuple[table.Change, table.Change]:
  """Our (row, column, channel, width) from theirs and back.

  A convolution has (width, channel, row, column). NaFlex's linear map has
  (width, row column channel): its channel is fastest.
  """
  if c.position_resize == "bicubic":
    return lambda x: x.transpose(2, 3, 1, 0), lambda x: x.transpose(3, 2, 0, 1)
  shape = (c.patch_size, c.patch_size, c.num_channels, c.width)
  return lambda x: x.T.reshape(shape), lambda x: x.reshape(-1, c.width).T


# ------------------------------------------------------------------- folders


def open_folder(
  path: str | os.PathLike, dtype: str | None = "float32"
) -> table.Opened[SiglipVisionConfig]:
  """A Hugging Face folder, checked as far as its headers tell.

  Args and errors as of `load`; `leaves` raises what is found in tensors.
  """
  folder = files.Folder.open(path)
  config, told = read_config(folder.config, str(folder.path / "config.json"))
  nested = any(name.startswith(PREFIX) for name in folder.names())
  leaves = table.read(
    folder,
    entries(config),
    lambda: shapes(config),
    prefix=PREFIX if nested else "",
    ignore=IGNORED,
    dtype=dtype,
    told=told,
  )
  return table.Opened(config, leaves, told)


def built(
  opened: table.Opened[SiglipVisionConfig],
) -> tuple[SiglipVision, dict]:
  """(module, parameters) of an opened folder, whose tensors are read now."""
  return SiglipVision(opened.config), rules.unflatten(dict(opened.leaves))


def load(
  path: str | os.PathLike, dtype: str | None = "float32"
) -> tuple[SiglipVision, dict]:
  """A Hugging Face folder -> (module, nested dict of numpy parameters).

  `module.apply({"params": params}, pixels_PYXC)` gives every hidden state, the
  patches after the post norm and the pooled output.

  Args:
    path: folder with config.json and safetensors.
    dtype: of the parameters; None: as stored.

  Raises:
    files.FolderError: not a readable folder.
    ConfigError: another family, or something that is not implemented.
    table.ConversionError: unknown, missing, mis-shaped or integer tensors.
    BadValues: a tensor that is not finite.
  """
  return built(open_folder(path, dtype))


def shapes(config: SiglipVisionConfig) -> dict[str, jax.ShapeDtypeStruct]:
  """Slash path -> shape of every parameter of `SiglipVision`."""
  c = config.encoder
  side = c.patch_size * c.native_grid
  pixels = jax.ShapeDtypeStruct((1, side, side, c.num_channels), jnp.float32)
  return table.leaf_shapes(SiglipVision(config), pixels)


def save(
  path: str | os.PathLike,
  config: SiglipVisionConfig,
  params: Mapping[str, Any],
  prefix: str = PREFIX,
) -> None:
  """Writes a folder that SiglipVisionModel or Siglip2VisionModel loads.

  Args:
    path: the folder to write.
    config: its sizes.
    params: exactly the parameters of `SiglipVision`.
    prefix: of the names: "vision_model." is read by transformers 4 and 5, ""
      is what transformers 5 itself writes.
  """
  dtype = np.asarray(params["embed"]["kernel"]).dtype.name
  tensors = table.write(params, entries(config), prefix=prefix)
  files.write_folder(path, config_to_hf(config, dtype), tensors)


# ------------------------------------------------------------ EMMA's experts


def expert_config(config: experts.TowerConfig) -> SiglipVisionConfig:
  """What `from_tower` returns the parameters of: a tower without a head."""
  return SiglipVisionConfig(encoder=config.encoder, pool_head=False, margin=0)


def to_tower(params: Mapping[str, Any], config: experts.TowerConfig) -> dict:
  """A published tower's parameters as those of `experts.VisionTower`.

  The blocks are cut into `lower` and `versatile`, and the other experts are
  copies of `versatile`. A head is left out. The router is new in EMMA and is
  not in the result: the caller adds it.

  Raises:
    ValueError: another number of blocks.
  """
  own, blocks = config.encoder.num_layers, params["blocks"]
  found = {x.shape[0] for x in jax.tree.leaves(blocks)}
  if found != {own}:
    raise ValueError(
      f"The blocks are {sorted(found)} layers deep, the tower"
      f" {own}; set num_layers to the checkpoint's."
    )
  cut = config.num_lower_layers
  versatile = jax.tree.map(lambda x: x[cut:], blocks)
  tower = {
    "embed": params["embed"],
    "lower": jax.tree.map(lambda x: x[:cut], blocks),
    "versatile": versatile,
    "post_norm": params["post_norm"],
  }
  if config.experts:
    for name in config.names[1:]:
      tower[name] = jax.tree.map(lambda x: x.copy(), versatile)
  return tower


def from_tower(
  params: Mapping[str, Any],
  config: experts.TowerConfig,
  expert: str = "versatile",
) -> dict:
  """One expert of `experts.VisionTower` as a plain tower's parameters.

  The inverse of `to_tower`; `expert_config` gives its sizes.

  Args:
    params: the tower's; the router and the other experts are left out.
    config: the tower's.
    expert: one of `config.names`.

  Raises:
    ValueError: an expert the tower does not have.
  """
  if expert not in config.names:
    raise ValueError(
      f"No {expert=} in this tower; choose one of {config.names}."
    )

  def join(lower, upper):
    xp = jnp if isinstance(lower, jax.Array) else np
    return xp.concatenate([lower, upper])

  return {
    "embed": params["embed"],
    "blocks": jax.tree.map(join, params["lower"], params[expert]),
    "post_norm": params["post_norm"],
  }
