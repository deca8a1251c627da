"""EMMA: two encoders, channel-wise fusion, the shared-and-decoupled decoder.

    pictures --+-- SigLIP2 (versatile or STEM expert), 2x2 pixel shuffle --+
               +-- DC-AE encoder, 32x, frozen ----------------------------+
                                                   concatenate | channels
                     Und adapter (understanding)  or  Gen adapter (references,
                                |                     noisy targets + time)
    text -- embedding -- Und buffer                   |
                            +--- joint attention --- Gen buffer
                     next-token head                 velocity head

Parameter tree: vision, autoencoder, adapters, llm, heads.
"""

from collections.abc import Callable
import dataclasses

import chex
from flax import struct
import flax.linen as nn
import jax
import jax.numpy as jnp

from emma_jax.models import partition, pictures
from emma_jax.models.adapters import Adapter, FusionConfig, TimeEmbedding
from emma_jax.models.autoencoder import AutoencoderConfig
from emma_jax.models.experts import SHUFFLE, TowerConfig, VisionTower
from emma_jax.models.layers import Linear, zeros
from emma_jax.models.llm import Llm, LlmConfig
from emma_jax.structs import Array, Batch, KvCache, Latents, Patches, TokenIds

# Pixels per token and side: the autoencoder's factor, and SigLIP2's patch of
# 16 times the 2x2 pixel shuffle.
PIXELS_PER_TOKEN = 32


@dataclasses.dataclass(frozen=True, kw_only=True)
class EmmaConfig:
  """The parts' sizes, and the dtype of all computation ("bfloat16", ...)."""

  llm: LlmConfig
  vision: TowerConfig
  autoencoder: AutoencoderConfig
  fusion: FusionConfig
  dtype: str

  def __post_init__(self):
    side = 2 * self.vision.encoder.patch_size
    if side != PIXELS_PER_TOKEN:
      raise ValueError(
        f"vision patch_size={self.vision.encoder.patch_size} gives tokens of "
        f"{side} pixels; the autoencoder's have {PIXELS_PER_TOKEN}."
      )
    if self.autoencoder.factor != PIXELS_PER_TOKEN:
      raise ValueError(
        f"The autoencoder's latents have {self.autoencoder.factor} pixels a "
        f"side; a token has {PIXELS_PER_TOKEN}: take one of that factor."
      )


@struct.dataclass
class EmmaOutput:
  """What one pass over a batch gives."""

  hidden_BUD: jax.Array  # after the Und final norm; see `Emma.logits`
  velocity_BMTC: jax.Array | None
  cache: KvCache | None
  router_logits_BNe: jax.Array | None


def to_unit(pixels: Array, dtype) -> jax.Array:
  """uint8 RGB -> [-1, 1], the range both encoders take."""
  return jnp.asarray((pixels.astype(jnp.float32) / 127.5 - 1.0).astype(dtype))


def to_levels(x: jax.Array) -> jax.Array:
  """[-1, 1] -> uint8 RGB, rounded to nearest; what lies outside is clipped."""
  levels = jnp.round((x.astype(jnp.float32) + 1.0) * 127.5)
  return jnp.clip(levels, 0, 255).astype(jnp.uint8)


def token_grid(height: int, width: int) -> tuple[int, int]:
  """Token rows and columns of a picture of height x width pixels."""
  if height % PIXELS_PER_TOKEN or width % PIXELS_PER_TOKEN:
    raise ValueError(
      f"A picture of {height}x{width} pixels does not divide into tokens of "
      f"{PIXELS_PER_TOKEN}; pad it to multiples of {PIXELS_PER_TOKEN}."
    )
  return height // PIXELS_PER_TOKEN, width // PIXELS_PER_TOKEN


class Adapters(nn.Module):
  """The Und and the Gen adapter, and the timestep embedding."""

  config: EmmaConfig

  def setup(self):
    """Declares the submodules."""
    c = self.config
    semantic = 4 * c.vision.encoder.width
    width = c.llm.width
    self.und = Adapter(c.fusion, width, semantic, may_be_noisy=False)
    self.gen = Adapter(c.fusion, width, semantic, may_be_noisy=True)
    self.time = TimeEmbedding(c.fusion, width)


class Heads(nn.Module):
  """The velocity head; the next-token head is the LLM's (often tied)."""

  config: EmmaConfig

  def setup(self):
    """Declares the submodule."""
    channels = self.config.autoencoder.latent_channels
    # Zero at first, so that training starts at the velocity's mean.
    self.velocity = Linear(channels, ("embed", None), kernel_init=zeros)


class Emma(nn.Module):
  """The whole model; every method is pure given its variables."""

  config: EmmaConfig

  def setup(self):
    """Declares the submodules."""
    c = self.config
    self.vision = VisionTower(c.vision, c.dtype)
    self.autoencoder = c.autoencoder.module()
    self.adapters = Adapters(c)
    self.llm = Llm(c.llm, c.dtype)
    self.heads = Heads(c)

  # ------------------------------------------------------------ encoders

  def encode_latents(self, pixels_PYXC: jax.Array) -> jax.Array:
    """uint8 pictures -> normalised latents (P, T, C). No gradient, ever.

    Some pictures at a time on each device: the first stages hold 128 channels
    for every pixel.
    """
    chex.assert_shape(pixels_PYXC, (None, None, None, 3))
    P, *size, _ = pixels_PYXC.shape
    token_grid(*size)
    chunks = pictures.num_chunks(
      P // partition.shards("pictures"), size[0] * size[1]
    )
    if chunks == 1:
      z = self._encode(self.autoencoder.encode_normalised, pixels_PYXC)
    else:  # of every device's own pictures the first, then the second, ...
      module, weights = self.autoencoder.unbind()
      run = lambda x: module.apply(weights, x, method="encode_normalised")
      x = pixels_PYXC.reshape(-1, chunks, *pixels_PYXC.shape[1:])
      z = jax.lax.map(lambda x: self._encode(run, x), x.swapaxes(0, 1))
      z = z.swapaxes(0, 1)
    return jax.lax.stop_gradient(z.reshape(P, -1, z.shape[-1]))

  def _encode(self, run: Callable, pixels_PYXC: jax.Array) -> jax.Array:
    x = to_unit(pixels_PYXC, self.config.dtype)
    return run(partition.constrain(x, "pictures", None, None, None))

  def decode_latents(
    self, latents_PTC: jax.Array, grid: tuple[int, int]
  ) -> jax.Array:
    """Normalised latents -> pictures (P, Y, X, 3), float32, about -1 to 1."""
    chex.assert_shape(latents_PTC, (None, grid[0] * grid[1], None))
    z = latents_PTC.reshape(-1, *grid, latents_PTC.shape[-1])
    x = self.autoencoder.decode_normalised(z.astype(self.config.dtype))
    return x.astype(jnp.float32)

  def latents(self, batch: Batch) -> Latents:
    """Latents of all the batch's pictures: its own, or encoded in one call.

    Raises:
      ValueError: pictures of native sizes without latents.
    """
    if batch.latents is not None:
      return batch.latents
    if batch.patches is not None:
      raise ValueError(
        "Understanding pictures of native sizes need latents made beforehand:"
        " DC-AE has no packed form. Run `emma-data encode-latents` and set "
        "config.data.latents=stored."
      )
    groups = (
      batch.und_pixels_BNYXC,
      batch.ref_pixels_BRYXC,
      batch.gen_pixels_BMYXC,
    )
    z_PTC = self.encode_latents(pictures.concat_groups(groups))
    return Latents(*pictures.split_groups(z_PTC, groups))

  def encode_semantic(self, batch: Batch, route: str):
    """SigLIP2 tokens of understanding pictures and references.

    Returns (und (B, N, T, C), at native sizes (B, J, C), or None; ref (B, R, T,
    C) or None; router logits (B, N, 2) or None). References bypass the router:
    always versatile.
    """
    groups = (batch.und_pixels_BNYXC, batch.ref_pixels_BRYXC)
    B = groups[0].shape[0]
    unit = lambda *g: to_unit(pictures.concat_groups(g), self.config.dtype)
    logits = None
    if batch.patches is None and not sum(g.shape[1] for g in groups):
      return None, None, None
    if route == "versatile" and batch.patches is None:  # one call for both
      x_PTC, _ = self.vision(unit(*groups), route)
      return (*pictures.split_groups(x_PTC, groups), None)
    und = ref = None
    if batch.patches is not None:
      und, logits = self.vision.packed(
        batch.patches, self._patch_values(batch.patches), route
      )
    elif groups[0].shape[1]:
      x_PTC, logits = self.vision(unit(groups[0]), route)
      und = x_PTC.reshape(B, -1, *x_PTC.shape[1:])
    if groups[1].shape[1]:
      x_PTC, _ = self.vision(unit(groups[1]), "versatile")
      ref = x_PTC.reshape(B, -1, *x_PTC.shape[1:])
    if logits is not None:
      logits = logits.reshape(B, -1, logits.shape[-1])
    return und, ref, logits

  def _patch_values(self, patches: Patches) -> jax.Array:
    x_BWC = to_unit(patches.values_BWC, self.config.dtype)
    return partition.constrain(x_BWC, "pictures", None, None)

  def router_logits(self, batch: Batch) -> jax.Array:
    """(B, N, e) over the experts: only the tower's lower blocks run."""
    if batch.patches is not None:
      return self.vision.packed_router_logits(
        batch.patches, self._patch_values(batch.patches)
      )
    pixels = batch.und_pixels_BNYXC
    x = to_unit(pixels.reshape(-1, *pixels.shape[2:]), self.config.dtype)
    logits_Pe = self.vision.router_logits(x)
    return logits_Pe.reshape(*pixels.shape[:2], logits_Pe.shape[-1])

  # ------------------------------------------------------------ the decoder

  def __call__(
    self,
    batch: Batch,
    latents: Latents,
    noisy_BMTC: jax.Array | None,
    time_BM: jax.Array | None,
    route: str = "versatile",
    return_kv: bool = False,
  ) -> EmmaOutput:
    """One pass over packed rows.

    Args:
      batch: packed rows; `latents` those of its clean pictures.
      noisy_BMTC: x_t of the targets, time_BM their times; None without targets.
      route: of understanding pictures, see `TowerConfig.routes`.
      return_kv: also return the keys and values (prefill).
    """
    if noisy_BMTC is not None:
      chex.assert_shape(noisy_BMTC, (*batch.gen_task_BM.shape, None, None))
      chex.assert_equal_shape((time_BM, batch.gen_task_BM))
    grid = token_grid(*batch.gen_pixels_BMYXC.shape[2:4])
    und_sem, ref_sem, router = self.encode_semantic(batch, route)
    ref_in_und = self.config.fusion.reference_branch == "und"
    und_visual: list[jax.Array] = []
    gen_parts: list[jax.Array] = []
    if batch.patches is not None:
      und_visual.append(
        self._adapt_native(und_sem, latents.native_BJC, batch.patches.cell_BW2)
      )
    elif und_sem is not None:
      und_visual.append(
        self._adapt(self.adapters.und, und_sem, latents.und_BNTC, grid)
      )
    if ref_sem is not None:
      adapter = self.adapters.und if ref_in_und else self.adapters.gen
      tokens = self._adapt(adapter, ref_sem, latents.ref_BRTC, grid)
      (und_visual if ref_in_und else gen_parts).append(tokens)
    if noisy_BMTC is not None:
      gen_parts.append(self._noisy_tokens(noisy_BMTC, time_BM, grid))
    und_BUD = self._und_tokens(batch, und_visual)
    gen_BGD = jnp.concatenate(gen_parts, axis=1) if gen_parts else None
    und_BUD, gen_BGD, cache = self.llm(
      und_BUD, gen_BGD, batch.und_ids, batch.gen_ids, return_kv=return_kv
    )
    velocity = None
    if noisy_BMTC is not None:
      B, M, T, _ = noisy_BMTC.shape
      target_BGD = gen_BGD[:, -M * T :].reshape(B, M, T, -1)
      velocity = self.heads.velocity(target_BGD.astype(jnp.float32))
    return EmmaOutput(und_BUD, velocity, cache, router)

  def logits(self, hidden: jax.Array) -> jax.Array:
    """Next-token logits (..., V), float32."""
    return self.llm.logits(hidden)

  def head(self) -> jax.Array:
    """The next-token head (V, D): what `logits` multiplies with."""
    return self.llm.head()

  def extend(
    self, tokens_BL: Array, ids: TokenIds, cache: KvCache
  ) -> tuple[jax.Array, KvCache]:
    """Text after a cached context: hidden states, and the new keys/values."""
    x = self.llm.embed(tokens_BL).astype(self.config.dtype)
    hidden, _, new = self.llm(x, None, ids, None, cache=cache, return_kv=True)
    return hidden, new

  def denoise(
    self,
    noisy_BTC: jax.Array,
    time_B: jax.Array,
    grid: tuple[int, int],
    ids: TokenIds,
    cache: KvCache,
  ) -> jax.Array:
    """Velocity (B, T, C) of one target per row behind a cached context.

    Nothing but the target depends on the noise, so only its tokens run, and
    only through Gen weights.
    """
    chex.assert_shape(noisy_BTC, (*ids.segment.shape, None))
    chex.assert_shape(time_B, noisy_BTC.shape[:1])
    x = self._noisy_tokens(noisy_BTC[:, None], time_B[:, None], grid)
    _, x, _ = self.llm(None, x, None, ids, cache=cache)
    return self.heads.velocity(x.astype(jnp.float32))

  # ------------------------------------------------------------ pieces

  def _adapt(self, adapter, semantic, latent, grid):
    """Adapter over (B, pictures, T, C) features -> (B, tokens, D)."""
    B, P = latent.shape[:2]
    flat = [
      x.reshape(B * P, *x.shape[2:]).astype(self.config.dtype)
      for x in (semantic, latent)
    ]
    x = adapter(*flat, grid)
    return x.reshape(B, P * x.shape[1], x.shape[2])

  def _adapt_native(self, semantic_BJC, latent_BJC, cell_BW2):
    """The Und adapter over packed pictures, each token in its own cell."""
    dtype = self.config.dtype
    # A token stands where the first of its four patches does.
    cell_BJ2 = cell_BW2[:, :: SHUFFLE**2] // SHUFFLE
    return self.adapters.und(
      semantic_BJC.astype(dtype), latent_BJC.astype(dtype), cell_BJ2
    )

  def _noisy_tokens(self, noisy_BMTC, time_BM, grid):
    B, M, T, C = noisy_BMTC.shape
    dtype = self.config.dtype
    x = self.adapters.gen(
      None, noisy_BMTC.reshape(B * M, T, C).astype(dtype), grid
    )
    time = self.adapters.time(time_BM.reshape(B * M), dtype)
    return (x + time[:, None]).reshape(B, M * T, -1)

  def _und_tokens(self, batch: Batch, visual: list[jax.Array]) -> jax.Array:
    x_BUD = self.llm.embed(batch.tokens_BU).astype(self.config.dtype)
    if not visual:
      return x_BUD
    index = batch.visual_BU[..., None]
    seen = jnp.take_along_axis(
      jnp.concatenate(visual, axis=1), jnp.maximum(index, 0), axis=1
    )
    return jnp.where(index >= 0, seen, x_BUD)

  def init_all(self, batch: Batch) -> EmmaOutput:
    """Runs every weight once: `initial.init_params` creates them all so."""
    latents = self.latents(batch)
    target_BMTC = jnp.asarray(latents.gen_BMTC)
    self.decode_latents(
      target_BMTC[:, 0], token_grid(*batch.gen_pixels_BMYXC.shape[2:4])
    )
    route = "router" if self.config.vision.experts else "versatile"
    out = self(
      batch, latents, target_BMTC, jnp.zeros(batch.gen_task_BM.shape), route
    )
    # With references in the Und branch nothing clean goes through the Gen
    # adapter; its weights exist all the same, so that layouts can change.
    dtype = self.config.dtype
    sem = jnp.zeros((1, 1, 4 * self.config.vision.encoder.width), dtype)
    self.adapters.gen(sem, target_BMTC[0, :1].astype(dtype), (1, 1))
    self.logits(out.hidden_BUD)
    return out
