"""A config's encoder of the latents that are stored beside records."""

from collections.abc import Mapping
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from emma_jax.build import data as build_data
from emma_jax.build import model as build_model
from emma_jax.models.emma import Emma
from emma_jax.sampling.record_latents import Encoder
from emma_jax.training.latents import fingerprint


def encoder(
  config: Mapping[str, Any],
  autoencoder: Mapping[str, Any],
  *,
  dtype: str,
  pixels: int,
  threads: int,
) -> Encoder:
  """An `Encoder` for what a config does to pictures; of its arguments see it.

  Args:
    config: a whole one, of an EMMA.
    autoencoder: weights.
    dtype, pixels, threads: of `Encoder`.
  """
  settings = build_data.latent_settings(config)
  whole = dataclasses.replace(
    build_data.to_sample(config["data"], training=False),
    framing=settings.framing,
  )
  return Encoder(
    emma=Emma(build_model.emma_config(config["model"])),
    autoencoder=jax.tree.map(jnp.asarray, autoencoder),
    weights=fingerprint(dict(autoencoder)),
    settings=settings,
    to_sample=[whole.sized(y, x) for y, x in settings.framing.sizes],
    dtype=dtype,
    pixels=pixels,
    threads=threads,
  )
