"""A trained run as one weight file, in float16 as the package ships them.

The averaged (EMA) weights of the newest sound checkpoint are taken. For an
autoencoder the latents' mean and deviation are measured first, so that
diffusion sees unit variance in every channel.
"""

from collections.abc import Mapping
import json
import os
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from emma_jax.build import data as build_data
from emma_jax.build import model as build_model
from emma_jax.checkpoints import locate, weight_files
from emma_jax.data.loading import sources
from emma_jax.data.transforms import Picture
from emma_jax.models.emma import to_unit
from emma_jax.structs import Record


class Unmeasurable(ValueError):
  """Latents that no scale gives unit variance."""


def pack(
  workdir: str | os.PathLike,
  out: str | os.PathLike,
  *,
  autoencoder: bool,
  pictures: int,
  dtype: str,
  note: str = "",
) -> tuple[dict[str, Any], dict[str, int]]:
  """Writes a run's weights.

  Returns the metadata written with them, and leaf -> how many of its values
  were too small for `dtype` and became 0.

  Args:
    workdir: of the finished run; its scores.json goes along.
    out: the .safetensors file.
    autoencoder: whether the run is of an autoencoder alone, see `measure`.
    pictures: that latents are measured on.
    dtype: of the stored weights.
    note: kept in the metadata.

  Raises:
    CheckpointError: nothing is there, it is damaged or not finite, or `dtype`
      cannot hold it.
    Unmeasurable: see `measure`.
  """
  found = locate.read(str(workdir))
  params, meta = found.params, found.meta
  metadata = {
    "config": meta["config"],
    "fingerprints": meta["fingerprints"],
    "stage": meta["stage"],
    "step": steps_done(meta),
    "router_trained": meta["router_trained"],
    "note": note,
  }
  if autoencoder:
    params, metadata["latents"] = measure(params, meta["config"], pictures)
  scores = pathlib.Path(workdir) / "scores.json"
  if scores.is_file():
    metadata["scores"] = json.loads(scores.read_text("utf-8"))
  flushed = weight_files.save_weights(
    pathlib.Path(out), params, metadata, dtype=dtype
  )
  return metadata, flushed


def steps_done(meta: Mapping[str, Any]) -> int:
  """Steps of all stages up to the checkpoint, not of its last one alone.

  >>> stages = {"a": {"steps": 10}, "b": {"steps": 30}}
  >>> steps_done({"config": {"stages": stages}, "stage": "b", "stage_step": 4})
  14
  """
  names = list(meta["config"]["stages"])
  before = names[: names.index(meta["stage"])]
  earlier = sum(meta["config"]["stages"][name]["steps"] for name in before)
  return earlier + meta["stage_step"]


def measure(
  params: Mapping[str, Any], config: Mapping[str, Any], pictures: int
) -> tuple[dict, dict]:
  """Parameters whose latents have mean 0 and deviation 1 per channel.

  Returns them with what was measured: the reconstruction's PSNR in dB over
  held-out pictures (peak 2, pictures in [-1, 1]).

  Raises:
    Unmeasurable: a channel that hardly varies.
  """
  module = build_model.model(config["model"]).module
  spec = next(iter(config["data"]["sources"].values()))
  to_sample = build_data.to_sample(config["data"], training=False)

  def last(record: Record) -> np.ndarray:
    part = to_sample(record).parts[-1]
    assert isinstance(part, Picture)  # a drawing ends with what it shows
    return part.pixels_YXC

  def batches(source):
    for start in range(0, pictures, 32):
      pixels = [last(source[i]) for i in range(start, start + 32)]
      yield to_unit(jnp.asarray(np.stack(pixels)), jnp.float32)

  weights = params["autoencoder"]
  encode = jax.jit(
    lambda x: module.apply({"params": weights}, x, method="encode")
  )
  decode = jax.jit(
    lambda z: module.apply({"params": weights}, z, method="decode")
  )
  z = np.concatenate([encode(x) for x in batches(sources.open_source(spec))])
  shift, deviation = z.mean((0, 1, 2)), z.std((0, 1, 2))
  if not deviation.min() > 1e-3 * deviation.max():  # also where it is NaN
    raise Unmeasurable(
      f"A latent channel hardly varies (deviation {deviation.min():.2g} of "
      f"{deviation.max():.2g}): the autoencoder needs more training."
    )
  held_out = sources.open_source(spec.replace(":train", ":test"))
  errors = [
    float(jnp.mean((decode(encode(x)) - x) ** 2)) for x in batches(held_out)
  ]
  measured = {
    "psnr": float(10 * np.log10(4 / np.mean(errors))),
    "pictures": pictures,
  }
  latent = {"shift": shift, "scale": 1 / deviation}
  return {"autoencoder": {**weights, "latent": latent}}, measured
