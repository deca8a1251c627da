"""DC-AE: folders of `diffusers.AutoencoderDC`, in and out.

config.json and diffusion_pytorch_model.safetensors of the dc-ae-f32c32
sana-1.0, sana-1.1, in-1.0 and mix-1.0, of the lite decoder, and of every other
size of that class. Its `scaling_factor` becomes our leaves latent/shift (0)
and latent/scale (the factor), which stay float32.

    module, params = load("dc-ae-f32c32-sana-1.1-diffusers")
    z = module.apply({"params": params}, pixels, method="encode_normalised")
"""

from collections.abc import Iterator
import itertools
import os

import einops
import jax
import jax.numpy as jnp
import numpy as np

from emma_jax import rules
from emma_jax.convert import table
from emma_jax.convert.dcae_config import (
  config_from_hf,
  config_to_hf,
  latent_from_hf,
  read_config,
)
from emma_jax.convert.fields import ConfigError
from emma_jax.convert.files import Folder, write_folder
from emma_jax.convert.table import Entry
from emma_jax.models.dcae import Autoencoder, DcaeConfig, Stage

__all__ = ["ConfigError", "config_from_hf", "config_to_hf", "load", "save"]

STEM = "diffusion_pytorch_model"
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


def open_folder(
  path: str | os.PathLike, dtype: str | None = "float32"
) -> table.Opened[DcaeConfig]:
  """A folder, checked as far as its headers tell.

  Args and errors as of `load`; `leaves`, latent/shift and latent/scale among
  them, raises what is found in tensors.
  """
  folder = Folder.open(path)
  where = str(folder.path / "config.json")
  config, told = read_config(folder.config, where)
  latent = latent_from_hf(folder.config, config.latent_channels, where)
  ignore = [name.replace(".", r"\.") for name in _counters(config)]
  leaves = table.read(
    folder,
    entries(config),
    lambda: leaf_shapes(config),
    ignore=ignore,
    dtype=dtype,
    told=told,
  )
  own = ((f"latent/{name}", x) for name, x in latent.items())
  return table.Opened(config, itertools.chain(leaves, own), told)


def built(opened: table.Opened[DcaeConfig]) -> tuple[Autoencoder, dict]:
  """(module, parameters) of an opened folder, whose tensors are read now."""
  return Autoencoder(opened.config), rules.unflatten(dict(opened.leaves))


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
    FolderError, ConfigError, ConversionError, BadValues: what is wrong with the
      folder; all of them are ValueErrors.
  """
  return built(open_folder(path, dtype))


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
