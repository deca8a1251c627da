"""Packed autoencoders give unit variance in every channel."""

import jax.numpy as jnp
import numpy as np
import pytest

from emma_jax.build import model as build_model
from emma_jax.build import packed, sections
from emma_jax.data.loading import sources
from emma_jax.models.dcae import Autoencoder
from emma_jax.models.emma import to_unit
from tests import tiny


def config() -> dict:
  c = tiny.config()
  c.model.kind = "autoencoder"
  c.data.update(height=96, width=96)
  c.data.sources = dict(pictures="world:autoencoder:train")
  return sections.plain(c)


def test_measured_latents_have_mean_0_and_deviation_1():
  c = config()
  params = {"autoencoder": tiny.params()["autoencoder"]}
  measured, report = packed.measure(params, c, pictures=32)
  module = build_model.model(c["model"]).module
  source = sources.open_source("world:autoencoder:train")
  x = to_unit(
    jnp.asarray(np.stack([source[i].picture for i in range(32)])), jnp.float32
  )
  z = module.apply(
    {"params": measured["autoencoder"]}, x, method=Autoencoder.encode_normalised
  )
  np.testing.assert_allclose(np.mean(z, (0, 1, 2)), 0, atol=1e-3)
  np.testing.assert_allclose(np.std(z, (0, 1, 2)), 1, atol=1e-3)
  assert report["pictures"] == 32 and np.isfinite(report["psnr"])


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_a_channel_without_a_deviation_is_refused(value: float):
  params = {"autoencoder": dict(tiny.params()["autoencoder"])}
  encoder = dict(params["autoencoder"]["encoder"])
  out = {k: np.full_like(v, value) for k, v in encoder["conv_out"].items()}
  params["autoencoder"]["encoder"] = encoder | {"conv_out": out}
  c = config()
  c["model"]["autoencoder"]["encoder_out_shortcut"] = False
  with pytest.raises(packed.Unmeasurable, match="more training"):
    packed.measure(params, c, pictures=32)
