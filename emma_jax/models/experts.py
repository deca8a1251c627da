"""The understanding tower: SigLIP2 whose last blocks are one of its experts.

    pixels -> embed -> lower --+--> versatile --+--> post_norm -> pixel shuffle
                               +--> stem -------+
                               +--> mean over patches -> router -> 2 logits

Routing is per picture and hard (paper section 3.4). The STEM expert starts as
a copy of the versatile one; so may further ones, `extra_experts`, each with
blocks and a logit of its own. An expert's number is the code of its label in
`structs.STEM_LABELS`: 0 versatile, 1 STEM. Pictures are of one size
(`__call__`), or each of its own, packed in rows (`packed`). Axes: P pictures, T
tokens after the 2x2 pixel shuffle, D width, C = 4 * D channels, e experts; B
rows, N their pictures, W patches and J = W / 4 tokens of a row.
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from emma_jax.models import layers, siglip2
from emma_jax.structs import Patches

SHUFFLE = 2
# Subtrees of the tower that are no expert's.
_OTHERS = (
  "config",
  "embed",
  "lower",
  "versatile",
  "stem",
  "router",
  "post_norm",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TowerConfig:
  """The encoder's sizes and what the experts add.

  num_expert_layers: how many of the last blocks an expert owns.
  experts: whether `stem` and `router` exist.
  extra_experts: names of further ones beside `stem`, and of their weights.
  router_threshold: probability above which another expert than the versatile
    one is taken: the most probable of them.
  """

  encoder: siglip2.SiglipConfig
  experts: bool
  extra_experts: tuple[str, ...]
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
    extra = self.extra_experts
    if extra and not self.experts:
      raise ValueError(f"extra_experts={extra} need experts=True.")
    for name in extra:
      # What a module has already, such as `packed`, is no subtree either.
      taken = name in _OTHERS or hasattr(VisionTower, name)
      if taken or not name.isidentifier() or name.startswith("_"):
        raise ValueError(
          f"extra_experts={extra}: {name!r} cannot name an expert's weights; "
          "take another word."
        )
    if len(set(extra)) < len(extra):
      raise ValueError(f"extra_experts={extra} names an expert twice.")

  @property
  def num_lower_layers(self) -> int:
    """How many of the first blocks all experts share."""
    return self.encoder.num_layers - self.num_expert_layers

  @property
  def names(self) -> tuple[str, ...]:
    """The experts, in the order of their numbers."""
    stem = ("stem",) if self.experts else ()
    return ("versatile", *stem, *self.extra_experts)

  @property
  def routes(self) -> tuple[str, ...]:
    """Ways that pictures can take: an expert for all, or each its own."""
    return (*self.names, "router") if self.experts else self.names


class Router(nn.Module):
  """Linear, GELU, linear on a picture's mean patch: float32 logits (..., e)."""

  width: int
  num_experts: int

  @nn.compact
  def __call__(self, mean: jax.Array) -> jax.Array:
    """(..., D) float32 -> (..., e) logits over (general, STEM, ...)."""
    x = layers.Linear(self.width, ("embed", None), name="fc1")(mean)
    x = jax.nn.gelu(x, approximate=True)
    return layers.Linear(self.num_experts, (None, None), name="fc2")(x)


def choose(logits: jax.Array, threshold: float) -> jax.Array:
  """Router logits (..., e) -> number of the expert that a picture goes to."""
  others = jax.nn.softmax(logits)[..., 1:]
  best = 1 + jnp.argmax(others, axis=-1)
  return jnp.where(jnp.max(others, axis=-1) > threshold, best, 0)


class VisionTower(nn.Module):
  """Subtrees embed, lower, versatile, post_norm; with experts, stem, router,
  and each of `extra_experts`.

  Initialise with `route="router"` (or, without experts, "versatile"): it is
  the route that reaches every weight. `rounded_to`: the dtype of all pictures.
  """

  config: TowerConfig
  rounded_to: DTypeLike | None = None

  def setup(self):
    """Declares the submodules."""
    c = self.config
    self.embed = siglip2.Embed(c.encoder, self.rounded_to)
    self.lower = siglip2.stack(c.encoder, c.num_lower_layers)
    self.versatile = siglip2.stack(c.encoder, c.num_expert_layers)
    self.post_norm = layers.LayerNorm(c.encoder.norm_eps)
    if c.experts:
      for name in c.names[1:]:
        setattr(self, name, siglip2.stack(c.encoder, c.num_expert_layers))
      self.router = Router(c.router_width, len(c.names))

  def __call__(
    self, pixels_PYXC: jax.Array, route: str = "versatile"
  ) -> tuple[jax.Array, jax.Array | None]:
    """Pictures in [-1, 1] -> (tokens (P, T, C), router logits (P, e) or None).

    T counts 2x2 patches, row-major; see `siglip2.pixel_shuffle` for C.

    Args:
      pixels_PYXC: sides divisible by twice the patch size.
      route: an expert for all pictures (logits None; the weights of the
        others and the router are not touched), or "router": each picture's own
        choice. "router" runs all experts on every picture and selects, since
        shapes are static: 3 of 27 blocks more for each at full size. Training
        never takes it.
    """
    x_PhwD, lower_PTD = self._lower(pixels_PYXC)
    logits_Pe = self._router(lower_PTD, route)
    choice_P11 = None
    if logits_Pe is not None:
      choice_P11 = self._choose(logits_Pe)[:, None, None]
    x_PTD = self._expert(lower_PTD, None, route, choice_P11)
    x_PhwD = self.post_norm(x_PTD).reshape(x_PhwD.shape)
    x_PhwC = siglip2.pixel_shuffle(x_PhwD, SHUFFLE)
    return x_PhwC.reshape(x_PhwC.shape[0], -1, x_PhwC.shape[-1]), logits_Pe

  def router_logits(self, pixels_PYXC: jax.Array) -> jax.Array:
    """Float32 logits (P, e) over (general, STEM, ...); no expert runs."""
    logits_Pe = self._router(self._lower(pixels_PYXC)[1], "router")
    assert logits_Pe is not None  # this route's never are
    return logits_Pe

  def packed(
    self, patches: Patches, values_BWC: jax.Array, route: str = "versatile"
  ) -> tuple[jax.Array, jax.Array | None]:
    """Pictures of any sizes -> (tokens (B, J, C), logits (B, N, e) or None).

    The sizes are data: one program serves all of them. A picture's tokens are
    those of `__call__`; those of padding are finite garbage.

    Args:
      patches: where each patch belongs.
      values_BWC: the patches' values in [-1, 1].
      route: as in `__call__`.
    """
    lower_BWD = self._packed_lower(patches, values_BWC)
    logits_BNe, choice_BW1 = self._router(lower_BWD, route, patches), None
    if logits_BNe is not None:
      own_BW = jnp.maximum(patches.picture_BW - 1, 0)
      choice_BW1 = jnp.take_along_axis(
        self._choose(logits_BNe), own_BW, axis=1
      )[..., None]
    x_BWD = self._expert(lower_BWD, patches.picture_BW, route, choice_BW1)
    x_BWD = self.post_norm(x_BWD)
    B, W, D = x_BWD.shape
    return x_BWD.reshape(B, W // SHUFFLE**2, SHUFFLE**2 * D), logits_BNe

  def packed_router_logits(
    self, patches: Patches, values_BWC: jax.Array
  ) -> jax.Array:
    """`router_logits` of packed pictures: (B, N, e)."""
    lower_BWD = self._packed_lower(patches, values_BWC)
    logits_BNe = self._router(lower_BWD, "router", patches)
    assert logits_BNe is not None  # this route's never are
    return logits_BNe

  def _router(
    self, lower: jax.Array, route: str, patches: Patches | None = None
  ) -> jax.Array | None:
    """Logits of every picture, or None where the route is given."""
    routes = self.config.routes
    if route in ("stem", "router") and not self.config.experts:
      raise ValueError(f"{route=} needs a tower with experts=True.")
    if route not in routes:
      raise ValueError(f"Unknown {route=}; choose one of {routes}.")
    if route != "router":
      return None
    if patches is None:
      return self.router(jnp.mean(lower.astype(jnp.float32), axis=1))
    return self.router(_means(lower, patches))

  def _choose(self, logits: jax.Array) -> jax.Array:
    """The number of each picture's expert."""
    return choose(logits, self.config.router_threshold)

  def _expert(self, lower, part, route: str, choice) -> jax.Array:
    """The upper blocks; `part` as `siglip2.stack` takes it, `choice` numbers
    of experts, None where all pictures take the expert `route`."""
    if choice is None:
      return getattr(self, route)(lower, part)[0]
    x = self.versatile(lower, part)[0]
    for number, name in enumerate(self.config.names[1:], start=1):
      x = jnp.where(choice == number, getattr(self, name)(lower, part)[0], x)
    return x

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

  def _packed_lower(self, patches: Patches, values_BWC: jax.Array) -> jax.Array:
    """The shared blocks' output (B, W, D)."""
    own_BW1 = jnp.maximum(patches.picture_BW - 1, 0)[..., None]
    grid_BW2 = jnp.take_along_axis(patches.grid_BN2, own_BW1, axis=1)
    x_BWD = self.embed.packed(
      values_BWC, patches.cell_BW2, jnp.maximum(grid_BW2, 1)
    )
    return self.lower(x_BWD, patches.picture_BW)[0]


def _means(x_BWD: jax.Array, patches: Patches) -> jax.Array:
  """Mean patch of every picture (B, N, D), float32; 0 where there is none."""
  names_1N1 = jnp.arange(1, patches.grid_BN2.shape[1] + 1)[None, :, None]
  member_BNW = (patches.picture_BW[:, None, :] == names_1N1).astype(jnp.float32)
  total_BND = jnp.einsum(
    "BNW,BWD->BND",
    member_BNW,
    x_BWD.astype(jnp.float32),
    precision=jax.lax.Precision.HIGHEST,
  )
  count_BN1 = member_BNW.sum(axis=-1, keepdims=True)
  return total_BND / jnp.maximum(count_BN1, 1)
