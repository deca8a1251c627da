"""Model FLOPs by formula: what a step must compute, from its sizes alone.

A multiplication and an addition are two. Only products of matrices count (the
field's convention); no recomputation, no masked pair of an attention (`live`).
A backward pass costs as much again for the gradients of a product's input, and
again for those of its weights, where anything needs them: a frozen part that
gradients pass through counts twice, one that they do not reach once.
"""

from collections.abc import Collection
import dataclasses

from emma_jax.data.batching.row_layout import Layout
from emma_jax.models.autoencoder import AutoencoderConfig
from emma_jax.models.dcae import DcaeConfig
from emma_jax.models.dcae import Stage as DcaeStage
from emma_jax.models.emma import EmmaConfig
from emma_jax.models.llm import LlmConfig
from emma_jax.models.siglip2 import SiglipConfig


@dataclasses.dataclass(frozen=True)
class Part:
  """FLOPs of one pass, and of which passes there are."""

  forward: float
  inputs: bool = False  # gradients reach what came in
  weights: bool = False  # its weights are trained

  @property
  def total(self) -> float:
    """FLOPs of the forward pass and of those backward ones that there are."""
    return self.forward * (1 + self.inputs + self.weights)


def step(
  config: EmmaConfig,
  layout: Layout,
  trained: Collection[str],
  *,
  draws: int,
  route: str,
  live: float = 1.0,
  live_patches: float = 1.0,
) -> dict[str, Part]:
  """A training step of `EmmaObjective`, by part of the model.

  Args:
    config: sizes of the model.
    layout: the batch's static shapes; padding counts, it is computed.
    trained: paths of the weights that move.
    draws: noisy versions of every target.
    route: the expert that understanding pictures take.
    live: share of all pairs of slots of a row that may attend, of the two
      buffers together (about 0.15 in rows of 8,192 slots).
    live_patches: the same of the patches of a row, where understanding
      pictures have native sizes and share it.
  """
  moves = lambda *parts: any(p.startswith(parts) for p in trained)
  c, B = config.llm, layout.rows
  G = layout.gen_tokens + (draws - 1) * layout.targets * (
    layout.tokens_per_picture
  )
  tokens = B * (layout.und_tokens + G)
  und, ref, gen = (
    B * n for n in (layout.und_pictures, layout.references, layout.targets)
  )
  # Latents that were made beforehand cost the step nothing.
  encoded = 0 if layout.latent_channels else und + ref + gen
  out = dict(
    autoencoder=Part(
      encoded * encoder(config.autoencoder, layout.height, layout.width)
    )
  )
  out |= _vision(config, layout, moves, ref, route, live_patches)
  from_vision = moves(
    "vision/embed", "vision/lower", "vision/versatile", "vision/stem"
  )
  out["adapters"] = Part(
    _adapters(config, layout, ref, gen * draws), from_vision, moves("adapters")
  )
  reached = from_vision or moves("adapters", "llm/")
  out["projections"] = Part(
    tokens * c.num_layers * projections(c),
    reached,
    moves("llm/shallow", "llm/deep"),
  )
  pairs = B * (layout.und_tokens + G) ** 2 * live
  out["attention"] = Part(
    4.0 * c.num_layers * c.num_heads * c.head_dim * pairs, reached, reached
  )
  head = "llm/embed" if c.tie_embeddings else "llm/lm_head"
  out["next_token"] = Part(
    2.0 * B * layout.und_tokens * c.width * c.vocab_size, reached, moves(head)
  )
  out["velocity"] = Part(
    2.0
    * gen
    * draws
    * layout.tokens_per_picture
    * c.width
    * config.autoencoder.latent_channels,
    reached,
    moves("heads"),
  )
  return out


def router_step(
  config: EmmaConfig, layout: Layout, *, live_patches: float = 1.0
) -> dict[str, Part]:
  """A training step of `RouterObjective`: the router alone moves."""
  e, t = config.vision.encoder, config.vision
  pictures = layout.rows * layout.und_pictures
  embed, block = _und_vision(e, layout, live_patches)
  return dict(
    vision=Part(embed + t.num_lower_layers * block),
    router=Part(
      2.0 * pictures * t.router_width * (e.width + len(t.names)), weights=True
    ),
  )


def total(parts: dict[str, Part]) -> float:
  """FLOPs of a step."""
  return sum(p.total for p in parts.values())


# --------------------------------------------------------------------- parts


def projections(c: LlmConfig) -> float:
  """Per token and layer: Q, K, V, O and the SwiGLU, of one branch."""
  attention = c.head_dim * (2 * c.num_heads + 2 * c.num_kv_heads)
  return 2.0 * c.width * (attention + 3 * c.mlp_width)


def encoder_block(c: SiglipConfig, patches: int, live: float = 1.0) -> float:
  """One block of the vision tower on one picture, or on a row of `patches` of
  which a share `live` of all pairs may attend."""
  products = 4 * c.width**2 + 2 * c.width * c.mlp_width
  return 2.0 * patches * products + 4.0 * c.width * patches**2 * live


def encoder(c: AutoencoderConfig, height: int, width: int) -> float:
  """The autoencoder's encoder on one picture."""
  if not isinstance(c, DcaeConfig):
    own = getattr(c, "encoder_flops", None)
    if own is None:
      raise ValueError(
        f"{type(c).__name__} does not count its encoder's FLOPs; give it "
        "encoder_flops(height, width)."
      )
    return own(height, width)
  stages = c.encoder
  Y, X = height, width
  if stages[0].layers:
    out = _conv(Y * X, c.in_channels, stages[0].channels)
  else:
    out = _down(c, Y * X, c.in_channels, stages[1].channels)
    Y, X = Y // 2, X // 2
  for i, stage in enumerate(stages):
    if not stage.layers:
      continue
    out += stage.layers * _dcae_block(stage, Y * X)
    if i + 1 < len(stages):
      out += _down(c, Y * X, stage.channels, stages[i + 1].channels)
      Y, X = Y // 2, X // 2
  return out + _conv(Y * X, stages[-1].channels, c.latent_channels)


def _vision(
  config: EmmaConfig, layout: Layout, moves, ref: int, route: str, live: float
) -> dict[str, Part]:
  e, t = config.vision.encoder, config.vision
  n = _patches(e, layout)
  und_embed, und_block = _und_vision(e, layout, live)
  ref_block = ref * encoder_block(e, n)
  below = moves("vision/embed")
  out = dict(
    vision_embed=Part(und_embed + ref * _embed(e, n), weights=below),
    vision_lower=Part(
      t.num_lower_layers * (und_block + ref_block),
      moves("vision/embed", "vision/lower"),
      moves("vision/lower"),
    ),
  )
  below = below or moves("vision/lower")
  for name, block in ((route, und_block), ("versatile", ref_block)):
    path = f"vision/{name}"
    before = out.get(f"vision_{name}", Part(0.0))
    out[f"vision_{name}"] = Part(
      before.forward + t.num_expert_layers * block,
      below or moves(path),
      moves(path),
    )
  return out


def _und_vision(c: SiglipConfig, layout: Layout, live: float):
  """(embedding, a block) of all understanding pictures."""
  if not layout.und_patches:
    n, count = _patches(c, layout), layout.rows * layout.und_pictures
    return count * _embed(c, n), count * encoder_block(c, n)
  n = layout.und_patches
  # Every patch interpolates its own position.
  positions = 2.0 * n * c.native_grid**2 * c.width
  return (
    layout.rows * (_embed(c, n) + positions),
    layout.rows * encoder_block(c, n, live),
  )


def _adapters(config: EmmaConfig, layout: Layout, ref: int, noisy: int):
  """Fusion of all clean and of `noisy` pictures and the time of the latter."""
  D, T = config.llm.width, layout.tokens_per_picture
  clean = ref * T + layout.rows * layout.und_visual // layout.per_cell
  semantic = 4 * config.vision.encoder.width
  latent = config.autoencoder.latent_channels
  time = 2.0 * noisy * D * (config.fusion.time_channels + D)
  if config.fusion.mode == "channel":
    return 2.0 * (clean + noisy * T) * D * (semantic + latent + D) + time
  return time + 2.0 * D * (
    clean * (semantic + latent + 2 * D) + noisy * T * (latent + D)
  )


def _patches(c: SiglipConfig, layout: Layout) -> int:
  return (layout.height // c.patch_size) * (layout.width // c.patch_size)


def _embed(c: SiglipConfig, patches: int) -> float:
  return 2.0 * patches * c.patch_size**2 * c.num_channels * c.width


def _conv(positions: int, inputs: int, outputs: int) -> float:
  return 2.0 * positions * 9 * inputs * outputs


def _down(c: DcaeConfig, positions: int, inputs: int, outputs: int) -> float:
  if c.downsample_block_type == "conv":  # of stride 2
    return _conv(positions // 4, inputs, outputs)
  return _conv(positions, inputs, outputs // 4)


def _dcae_block(stage: DcaeStage, positions: int) -> float:
  """A ResBlock, or linear attention and a gated convolution."""
  C, E = stage.channels, stage.head_dim
  if stage.block_type == "ResBlock":
    return 2 * _conv(positions, C, C)
  inner = C // E * E
  branches = 1 + len(stage.scales)
  attention = 3 * C * inner + branches * inner * (2 * E + C)
  attention += sum(3 * inner * (size**2 + E) for size in stage.scales)
  gated = 8 * C * C + 9 * 8 * C + 4 * C * C
  return 2.0 * positions * (attention + gated)
