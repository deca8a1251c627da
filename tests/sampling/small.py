"""The smallest EMMA that has every part, with nothing left at zero."""

import functools

import numpy as np

from configs import defaults, models
from emma_jax import rules
from emma_jax.build import model as build_model
from emma_jax.build import sections
from emma_jax.build import session as build_session
from emma_jax.sampling.session import Session


def config(fusion: str = "channel", branch: str = "gen") -> dict:
  c = defaults.get_config()
  c.model = models.tiny()
  c.model.llm.update(
    width=32,
    mlp_width=48,
    num_layers=2,
    num_shallow=1,
    num_heads=2,
    num_kv_heads=1,
    head_dim=16,
    scan_unroll=1,
  )
  c.model.vision.encoder.update(
    width=32, mlp_width=48, num_layers=2, num_heads=2, scan_unroll=1
  )
  c.model.vision.router_width = 8
  c.model.autoencoder.update(
    latent_channels=8,
    attention_head_dim=8,
    encoder_block_out_channels=(8,) * 6,
    decoder_block_out_channels=(8,) * 6,
    encoder_layers_per_block=(0, 1, 1, 1, 1, 1),
    decoder_layers_per_block=(0, 1, 1, 1, 1, 1),
  )
  c.model.fusion.update(mode=fusion, reference_branch=branch, time_channels=16)
  c.data.update(height=64, width=64)
  c.sample.update(steps=3, max_tokens=6)
  return sections.plain(c)


def random_params(model: dict) -> dict:
  """Numbers around 0, and around 1 where a norm scales."""
  rng = np.random.default_rng(0)
  out = {}
  for path, leaf in rules.flatten(build_model.model(model).shapes).items():
    center = 1.0 if path.endswith("scale") else 0.0
    out[path] = rng.normal(center, 0.15, leaf.shape).astype(np.float32)
  return rules.unflatten(out)


@functools.cache
def session(fusion: str = "channel", branch: str = "gen") -> Session:
  c = config(fusion, branch)
  return build_session.session(
    c, random_params(c["model"]), "small", 7, batch=4
  )


def picture(seed: int, height: int = 64, width: int = 64) -> np.ndarray:
  rng = np.random.default_rng(seed)
  return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
