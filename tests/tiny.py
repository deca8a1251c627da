"""A micro EMMA for tests: every part is there, every weight is off zero.

Pictures are 32x64 pixels, two tokens; three layers, one shallow and two deep.
"""

import functools

import jax
import ml_collections
import numpy as np

from configs import defaults, models
from emma_jax import rules
from emma_jax.build import model as build_model
from emma_jax.data.batching.packing import pack
from emma_jax.data.batching.row_layout import Layout
from emma_jax.data.transforms import Picture, Sample, Text
from emma_jax.models.emma import Emma, Latents
from emma_jax.structs import Batch
from tests import neutral

HEIGHT, WIDTH = 32, 64
GRID = (1, 2)
CHANNELS = 8  # of a latent

# For programs that run once or twice: compiled in a third of the time.
QUICK = {"xla_backend_optimization_level": 0}

# Comparison variants of the paper's design, as changes of `model`.
VARIANTS = {
  "paper": {},
  "token_fusion": {"fusion.mode": "token"},
  "reference_und": {"fusion.reference_branch": "und"},
  "all_shared": {
    "llm.shallow_shared": ("attn_norm", "qk", "v", "o", "mlp_norm", "mlp"),
    "llm.deep_shared": ("attn_norm", "qk", "v", "o", "mlp_norm", "mlp"),
    "llm.final_norm_shared": True,
  },
  "all_decoupled": {"llm.shallow_shared": (), "llm.num_shallow": 0},
  "no_experts": {"vision.experts": False},
}
# All of them, two or three at a time.
MIXTURES = {
  "token_all_shared": VARIANTS["token_fusion"] | VARIANTS["all_shared"],
  "und_decoupled_no_experts": VARIANTS["reference_und"]
  | VARIANTS["all_decoupled"]
  | VARIANTS["no_experts"],
}


def model(variant: str = "paper", **llm) -> ml_collections.ConfigDict:
  """`config.model`, micro."""
  m = models.tiny()
  m.llm.update(
    width=32,
    mlp_width=48,
    num_layers=3,
    num_shallow=1,
    num_heads=2,
    num_kv_heads=1,
    head_dim=16,
    scan_unroll=1,
  )
  m.vision.encoder.update(
    width=16,
    mlp_width=24,
    num_layers=2,
    num_heads=2,
    native_grid=3,
    scan_unroll=1,
  )
  m.vision.router_width = 8
  m.autoencoder.update(
    latent_channels=CHANNELS,
    attention_head_dim=8,
    encoder_block_out_channels=(8,) * 6,
    decoder_block_out_channels=(8,) * 6,
    encoder_block_types=("ResBlock",) * 5 + ("EfficientViTBlock",),
    decoder_block_types=("ResBlock",) * 5 + ("EfficientViTBlock",),
  )
  m.fusion.time_channels = 16
  m.update_from_flattened_dict((VARIANTS | MIXTURES)[variant])
  m.llm.update(llm)
  return m


def config(variant: str = "paper") -> ml_collections.ConfigDict:
  """A whole config around `model`, without stages."""
  c = defaults.get_config()
  c.model = model(variant)
  c.data.update(height=HEIGHT, width=WIDTH, threads=0)
  return c


def emma(variant: str = "paper", **llm) -> Emma:
  return Emma(build_model.emma_config(model(variant, **llm)))


@functools.cache
def built(variant: str = "paper") -> build_model.Model:
  return build_model.model(model(variant))


def shapes(variant: str = "paper") -> dict:
  return built(variant).shapes


def params(variant: str = "paper", seed: int = 0) -> dict:
  """`filled` for the shapes of a variant."""
  return filled(shapes(variant), seed)


def filled(wanted: dict, seed: int = 0) -> dict:
  """Numbers around 0, and around 1 where a norm scales: no symmetry left."""
  rng = np.random.default_rng(seed)
  out = {}
  for path, leaf in rules.flatten(wanted).items():
    center = 1.0 if path.endswith(("scale", "q_norm", "k_norm")) else 0.0
    std = 0.02 if path.startswith("autoencoder") else 0.15
    out[path] = rng.normal(center, std, leaf.shape).astype(np.float32)
  return rules.unflatten(out)


# --------------------------------------------------------------- sequences


def picture(seed: int, role: str, stem: int = 0) -> Picture:
  rng = np.random.default_rng(seed)
  pixels = rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
  return Picture(pixels, role, stem)


def understanding(seed: int = 0, stem: int = 0) -> Sample:
  first = 100 + 20 * seed
  words = lambda a, b: tuple(range(first + a, first + b))
  return Sample(
    "understanding",
    (
      Text(words(0, 2)),
      picture(3 * seed, "und", stem),
      Text(words(2, 5)),
      Text(words(5, 8), loss=True),
    ),
  )


def drawing(seed: int = 0) -> Sample:
  first = 300 + 20 * seed
  return Sample(
    "drawing",
    (Text(tuple(range(first, first + 4))), picture(3 * seed + 1, "target")),
  )


def editing(seed: int = 0, sources: int = 1) -> Sample:
  """Words first, first + 10, ... stand before the sources."""
  first = 500 + 20 * seed
  further: list[Text | Picture] = []
  for i in range(1, sources):
    further += [Text((first + 9 + i,)), picture(3 * seed + 2 + 50 * i, "ref")]
  return Sample(
    "editing",
    (
      Text((first,)),
      picture(3 * seed + 2, "ref"),
      *further,
      Text(tuple(range(first + 1, first + 4))),
      picture(3 * seed + 1, "target"),
    ),
  )


def layout(variant: str = "paper", **changes) -> Layout:
  fusion = model(variant).fusion
  sizes = dict(rows=2, und_tokens=32, und_pictures=1, references=2, targets=2)
  return neutral.layout(
    **sizes | changes,
    height=HEIGHT,
    width=WIDTH,
    fusion=fusion.mode,
    reference_branch=fusion.reference_branch,
  )


def packed(samples: list[Sample], variant: str = "paper", **changes) -> Batch:
  batch, info = pack(samples, layout(variant, **changes))
  assert not info.dropped, info.dropped
  return batch


# ------------------------------------------------------------------ inputs


def latents(batch: Batch) -> Latents:
  """Stand-ins for the autoencoder's: a fixed function of a token's pixels."""
  rng = np.random.default_rng(1)
  project = rng.normal(size=(32 * 32 * 3, CHANNELS)) / (32 * 32 * 3) ** 0.5

  def of(pixels):
    B, P = pixels.shape[:2]
    if not P:
      return None
    x = pixels.reshape(B, P, GRID[0], 32, GRID[1], 32, 3) / 127.5 - 1
    x = x.transpose(0, 1, 2, 4, 3, 5, 6).reshape(B, P, GRID[0] * GRID[1], -1)
    return (x @ project).astype(np.float32)

  return Latents(
    of(batch.und_pixels_BNYXC),
    of(batch.ref_pixels_BRYXC),
    of(batch.gen_pixels_BMYXC),
  )


def noise(batch: Batch) -> tuple[np.ndarray, np.ndarray]:
  """Noisy latents and times of the targets, functions of their pixels too."""
  clean_BMTC = latents(batch).gen_BMTC
  time_BM = batch.gen_pixels_BMYXC.mean((2, 3, 4)).astype(np.float32) % 1.0
  return np.sin(7 * clean_BMTC), time_BM


def inputs(batch: Batch) -> tuple:
  """The arguments of `Emma.__call__`."""
  return (batch, latents(batch), *noise(batch))


@functools.partial(
  jax.jit, static_argnames=("emma", "route"), compiler_options=QUICK
)
def run(emma: Emma, params: dict, args: tuple, route: str = "versatile"):
  """(output, logits) of one pass; one `layout` compiles once."""
  out = emma.apply({"params": params}, *args, route, return_kv=True)
  logits = emma.apply({"params": params}, out.hidden_BUD, method=Emma.logits)
  return out, logits
