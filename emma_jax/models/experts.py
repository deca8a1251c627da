"""The understanding tower: SigLIP2 whose last blocks are one of two experts.

    pixels -> embed -> lower --+--> versatile --+--> post_norm -> pixel shuffle
                               +--> stem -------+
                               +--> mean over patches -> router -> 2 logits

Routing is per picture and hard (paper section 3.4). The STEM expert starts as
a copy of the versatile one. Axes: P pictures, T tokens after the 2x2 pixel
shuffle, D width, C = 4 * D channels.
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from emma_jax.models import layers, siglip2
from emma_jax.structs import STEM_SCIENCE

ROUTES = ("versatile", "stem", "router")
SHUFFLE = 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class TowerConfig:
  """The encoder's sizes and what the experts add.

  num_expert_layers: how many of the last blocks an expert owns.
  experts: whether `stem` and `router` exist.
  router_threshold: STEM probability above which the STEM expert is taken.
  """

  encoder: siglip2.SiglipConfig
  experts: bool
  num_expert_layers: int
  router_width: int
  router_threshold: float

  def __post_init__(self):
    if not 0 < self.num_expert_layers < self.encoder.num_layers:
      raise ValueError(
          f"{self.num_expert_layers=} must leave some of"
          f" num_layers={self.encoder.num_layers} shared and own at least one."
      )
    if not 0 <= self.router_threshold <= 1:
      raise ValueError(f"{self.router_threshold=} is not a probability.")

  @property
  def num_lower_layers(self) -> int:
    return self.encoder.num_layers - self.num_expert_layers


class Router(nn.Module):
  """Mean over patches, linear, GELU, linear: float32 logits (P, 2)."""

  width: int

  @nn.compact
  def __call__(self, x_PTD: jax.Array) -> jax.Array:
    x_PD = jnp.mean(x_PTD.astype(jnp.float32), axis=1)
    x = layers.Linear(self.width, ("embed", None), name="fc1")(x_PD)
    x = jax.nn.gelu(x, approximate=True)
    return layers.Linear(2, (None, None), name="fc2")(x)


class VisionTower(nn.Module):
  """Subtrees embed, lower, versatile, post_norm; with experts, stem, router.

  Initialise with `route="router"` (or, without experts, "versatile"): it is
  the route that reaches every weight.
  """

  config: TowerConfig

  def setup(self):
    c = self.config
    self.embed = siglip2.Embed(c.encoder)
    self.lower = siglip2.stack(c.encoder, c.num_lower_layers)
    self.versatile = siglip2.stack(c.encoder, c.num_expert_layers)
    self.post_norm = layers.LayerNorm(c.encoder.norm_eps)
    if c.experts:
      self.stem = siglip2.stack(c.encoder, c.num_expert_layers)
      self.router = Router(c.router_width)

  def __call__(
      self, pixels_PYXC: jax.Array, route: str = "versatile"
  ) -> tuple[jax.Array, jax.Array | None]:
    """Pictures in [-1, 1] -> (tokens (P, T, C), router logits (P, 2) or None).

    T counts 2x2 patches, row-major; see `siglip2.pixel_shuffle` for C.

    Args:
      pixels_PYXC: sides divisible by twice the patch size.
      route: "versatile" or "stem" for all pictures (logits None; the weights
        of the other expert and the router are not touched), or "router": each
        picture's own choice. "router" runs both experts on every picture and
        selects, since shapes are static: 3 of 27 blocks more at full size.
        Training never takes it.
    """
    x_PhwD, lower_PTD = self._lower(pixels_PYXC)
    c, logits_P2 = self.config, None
    if route not in ROUTES:
      raise ValueError(f"Unknown {route=}; choose one of {ROUTES}.")
    if route != "versatile" and not c.experts:
      raise ValueError(f"{route=} needs a tower with experts=True.")
    if route == "router":
      logits_P2 = self.router(lower_PTD)
      science_P = jax.nn.softmax(logits_P2)[:, STEM_SCIENCE]
      x_PTD = jnp.where(
          (science_P > c.router_threshold)[:, None, None],
          self.stem(lower_PTD, None)[0],
          self.versatile(lower_PTD, None)[0],
      )
    else:
      expert = self.stem if route == "stem" else self.versatile
      x_PTD, _ = expert(lower_PTD, None)
    x_PhwD = self.post_norm(x_PTD).reshape(x_PhwD.shape)
    x_PhwC = siglip2.pixel_shuffle(x_PhwD, SHUFFLE)
    return x_PhwC.reshape(x_PhwC.shape[0], -1, x_PhwC.shape[-1]), logits_P2

  def router_logits(self, pixels_PYXC: jax.Array) -> jax.Array:
    """Float32 logits (P, 2) over (general, STEM); no expert runs."""
    if not self.config.experts:
      raise ValueError("router_logits needs a tower with experts=True.")
    return self.router(self._lower(pixels_PYXC)[1])

  def _lower(self, pixels_PYXC: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The embeddings (P, h, w, D) and the shared blocks' output (P, T, D)."""
    side = SHUFFLE * self.config.encoder.patch_size
    height, width = pixels_PYXC.shape[1:3]
    if height % side or width % side:
      raise ValueError(
          f"A picture of {height}x{width} does not divide into tokens of {side}"
          f" pixels; resize or pad it to multiples of {side}."
      )
    x_PhwD = self.embed(pixels_PYXC)
    x_PTD = x_PhwD.reshape(x_PhwD.shape[0], -1, x_PhwD.shape[-1])
    return x_PhwD, self.lower(x_PTD, None)[0]
