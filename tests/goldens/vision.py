"""SigLIP2, its pooling head, packed pictures, the experts and the router."""

import dataclasses

import jax.numpy as jnp
import numpy as np

from emma_jax.models import naflex, siglip2
from emma_jax.models.experts import TowerConfig, VisionTower
from emma_jax.models.siglip2_vision import SiglipVision, SiglipVisionConfig
from emma_jax.structs import Patches
from tests import fixed, neutral

KEPT = 6
CONFIG = neutral.siglip_config(
  width=16,
  mlp_width=20,
  num_layers=2,
  num_heads=2,
  patch_size=2,
  native_grid=3,
  norm_eps=0.03,
)
NAFLEX = dataclasses.replace(CONFIG, position_resize="bilinear_antialias")
TOWER = TowerConfig(
  encoder=CONFIG,
  experts=True,
  extra_experts=(),
  num_expert_layers=1,
  router_width=6,
  router_threshold=0.79,
)
GRIDS = (((2, 4), (2, 2)), ((4, 2), (2, 2)))  # patches of packed pictures


def _encoder(config: siglip2.SiglipConfig, *size: int):
  def case(dtype):
    x = fixed.values("pixels", (2, *size, 3), dtype)
    module = siglip2.SiglipEncoder(config)
    return fixed.made(*fixed.bound(module, x), x)

  return case


def _pooled(dtype):
  """The published model's outputs, with patches that are padding."""
  x = fixed.values("pixels", (2, 6, 4, 3), dtype)
  valid = jnp.array([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0]], bool)
  module = SiglipVision(SiglipVisionConfig(encoder=CONFIG))
  apply, weights = fixed.bound(module, x, valid)
  f = lambda p, x: apply(p, x, valid)._asdict()
  return fixed.made(f, weights, x)


def _naflex(dtype):
  """Two pictures in a row and one, each pooled; the rest is padding."""
  x = fixed.values("patches", (2, 13, 12), dtype)
  grids = jnp.array([[[2, 4], [2, 2]], [[4, 3], [0, 0]]])
  module = naflex.PackedVision(SiglipVisionConfig(encoder=NAFLEX))
  apply, weights = fixed.bound(module, x, grids)

  def f(p, x):
    out = apply(p, x, grids)
    real = naflex.slots(grids, 13).picture_BW >= 0
    return {
      "patches": jnp.where(real[..., None], out.patches_PTD, 0),
      "pooled": out.pooled_PD,
    }

  return fixed.made(f, weights, x)


def patches() -> Patches:
  """`GRIDS` as `structs.Patches`, with two patches of padding a row."""
  rows = []
  for grids in GRIDS:
    cells = [
      (n, 2 * r + dy, 2 * c + dx)
      for n, (h, w) in enumerate(grids, 1)
      for r in range(h // 2)
      for c in range(w // 2)
      for dy in (0, 1)
      for dx in (0, 1)
    ]
    rows.append(cells + [(0, 0, 0)] * 4)
  rows = np.array(rows, np.int32)
  return Patches(
    values_BWC=None,
    picture_BW=rows[..., 0],
    cell_BW2=rows[..., 1:],
    grid_BN2=np.array(GRIDS, np.int32),
  )


def _tower(dtype):
  """Pictures that take different experts."""
  x = fixed.values("pixels", (4, 4, 8, 3), dtype)
  apply, weights = fixed.bound(
    VisionTower(TOWER), x, method=lambda m, x: m(x, "router")
  )
  return _divided(fixed.made(lambda p, x: _named(apply(p, x)), weights, x))


def _packed_tower(dtype):
  """Neighbours in a row that take different experts."""
  there = patches()
  x = fixed.values("values", (2, 16, 12), dtype)
  apply, weights = fixed.bound(
    VisionTower(TOWER), x, method=lambda m, x: m.packed(there, x, "router")
  )

  def f(p, x):
    tokens, logits = apply(p, x)
    real = (there.picture_BW > 0)[:, ::4, None]
    return _named((jnp.where(real, tokens, 0), logits))

  return _divided(fixed.made(f, weights, x))


def _named(made: tuple) -> dict:
  return dict(zip(("tokens", "logits"), made))


def _divided(made: dict) -> dict:
  """As it is, if of two neighbours one is science: else it would not show
  whose decision counts."""
  z = np.asarray(made["out"]["logits"]).reshape(2, 2, 2)
  science = 1 / (1 + np.exp(z[..., 0] - z[..., 1])) > TOWER.router_threshold
  assert (science.sum(axis=1) == 1).all(), science
  return made


CASES = fixed.both({"bicubic": _encoder(CONFIG, 10, 4)}) | fixed.float32(
  {
    "antialias": _encoder(NAFLEX, 4, 10),
    "pooled": _pooled,
    "naflex": _naflex,
    "router": _tower,
    "packed_router": _packed_tower,
  }
)


def cases():
  return {name: case() for name, case in CASES.items()}
