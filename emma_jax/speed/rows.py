"""What is timed on our side: the code that samples and converts, unchanged.

A row is a function from sizes and a dtype to its work, which returns when the
result is there. Weights are random, of the same dtype as the computation.
"""

from collections.abc import Callable
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from emma_jax import rules
from emma_jax.models.adapters import FusionConfig
from emma_jax.models.dcae import Autoencoder
from emma_jax.models.emma import Emma, EmmaConfig
from emma_jax.models.experts import TowerConfig
from emma_jax.models.llm import LlmConfig
from emma_jax.models.qwen3 import PARTS
from emma_jax.models.siglip2_vision import SiglipVision
from emma_jax.sampling import text
from emma_jax.speed.sizes import Sizes
from emma_jax.structs import Batch, TokenIds

Work = Callable[[], None]


def random_like(shapes: Any, dtype: str) -> Any:
  """Normal weights of deviation 0.02, vectors from [0.5, 1).

  One million numbers, repeated: a whole model's own would take as long to draw
  as the rows take to run.
  """
  rng = np.random.default_rng(0)
  matrix = (0.02 * rng.standard_normal(1 << 20, np.float32)).astype(dtype)
  vector = rng.uniform(0.5, 1.0, 1 << 14).astype(dtype)
  # The last axis is no layer's; leading ones may be, of a stack.
  return jax.tree.map(
    lambda x: jnp.asarray(
      np.resize(vector if len(x.shape) == 1 else matrix, x.shape)
    ),
    shapes,
  )


def params_of(
  module: Any, dtype: str, *inputs: Any, **options: Any
) -> dict[str, Any]:
  """Random parameters of a module, found without running it."""
  init = lambda: module.init(jax.random.key(0), *inputs, **options)
  shapes = jax.eval_shape(init)["params"]
  flat = rules.flatten(
    jax.tree.map(
      lambda x: getattr(x, "value", x),
      shapes,
      is_leaf=lambda x: hasattr(x, "value"),
    )
  )
  return rules.unflatten(random_like(flat, dtype))


def _unrolled(config: Any, dtype: str) -> Any:
  """Sizes of a stack, with scan_unroll as is best on a CPU.

  XLA's CPU backend turns a scanned stack of bfloat16 weights into float32 as a
  whole; unrolled, a layer at a time: half the time of a decoded token.
  """
  unroll = config.num_layers if dtype == "bfloat16" else 1
  return dataclasses.replace(config, scan_unroll=unroll)


# ------------------------------------------------------------------- Qwen3


def _emma(sizes: Sizes, dtype: str) -> Emma:
  """EMMA whose decoder is all shared, which is plain Qwen3.

  Only its decoder runs; the rest is as small as it may be.
  """
  llm = LlmConfig(
    **dataclasses.asdict(_unrolled(sizes.llm, dtype)),
    num_shallow=sizes.llm.num_layers,
    shallow_shared=PARTS,
    deep_shared=PARTS,
    final_norm_shared=True,
  )
  encoder = dataclasses.replace(
    sizes.vision.encoder, width=16, mlp_width=16, num_heads=1, num_layers=2
  )
  tower = TowerConfig(
    encoder=encoder,
    experts=False,
    extra_experts=(),
    num_expert_layers=1,
    router_width=1,
    router_threshold=0.5,
  )
  fusion = FusionConfig(
    mode="channel",
    reference_branch="gen",
    position_base=1e4,
    position_scale=1.0,
    time_channels=2,
    time_scale=1.0,
    norm_eps=1e-6,
  )
  return Emma(
    EmmaConfig(
      llm=llm, vision=tower, autoencoder=sizes.dcae, fusion=fusion, dtype=dtype
    )
  )


def _prompt(sizes: Sizes) -> Batch:
  """One row of text and nothing else."""
  length, side = sizes.prompt, sizes.side
  place = np.arange(length, dtype=np.int32)[None]
  ids = TokenIds(
    segment=np.ones_like(place),
    order=place,
    last_visible=place,
    noise_group=np.zeros_like(place),
    position=place,
  )
  none = jax.tree.map(lambda x: x[:, :0], ids)
  pixels = np.zeros((1, 0, side, side, 3), np.uint8)
  tokens = np.random.default_rng(1).integers(
    0, sizes.llm.vocab_size, place.shape, dtype=np.int32
  )
  empty = np.zeros((1, 0), np.int32)
  return Batch(
    tokens_BU=tokens,
    visual_BU=-np.ones_like(place),
    targets_BU=tokens,
    weights_BU=np.zeros(place.shape, np.float32),
    und_ids=ids,
    gen_ids=none,
    und_pixels_BNYXC=pixels,
    und_valid_BN=empty.astype(bool),
    stem_BN=empty,
    ref_pixels_BRYXC=pixels,
    ref_valid_BR=empty.astype(bool),
    gen_pixels_BMYXC=pixels,
    gen_task_BM=empty,
  )


def _qwen3(sizes: Sizes, dtype: str):
  """(EMMA, parameters, () -> the dialogue after the prompt)."""
  emma, batch = _emma(sizes, dtype), _prompt(sizes)
  empty = jnp.zeros((1, 1), jnp.int32)
  ids = TokenIds(
    segment=empty,
    order=empty,
    last_visible=empty,
    noise_group=empty,
    position=empty,
  )
  decoder = lambda m: m.logits(m.llm(m.llm.embed(empty), None, ids, None)[0])
  params = params_of(emma, dtype, method=decoder)
  return (
    emma,
    params,
    lambda: text.start(emma, params, batch, "versatile", sizes.answer),
  )


def qwen3_prefill(sizes: Sizes, dtype: str) -> Work:
  """Reads the prompt: a cache with room for the answer, the last logits."""
  _, _, start = _qwen3(sizes, dtype)
  return lambda: jax.block_until_ready(start())


def qwen3_decode(sizes: Sizes, dtype: str) -> Work:
  """Writes the answer greedily behind the read prompt."""
  emma, params, start = _qwen3(sizes, dtype)
  dialogue = start()
  options = dict(
    active_B=np.ones(1, bool),
    keys_B=jax.random.split(jax.random.key(0), 1),
    temperature=np.float32(0),
    top_p=np.float32(1),
    limit=np.int32(sizes.answer),
    eos=np.int32(-1),
    allowed_V=np.ones(emma.config.llm.vocab_size, bool),
    room=sizes.answer,
  )
  return lambda: jax.block_until_ready(
    text.answer(emma, params, dialogue, **options)
  )


# ---------------------------------------------------------------- pictures


def siglip2(sizes: Sizes, dtype: str) -> Work:
  """The vision tower with its pooling head, on one picture."""
  encoder, side = sizes.vision.encoder, sizes.vision_side
  module = SiglipVision(
    dataclasses.replace(sizes.vision, encoder=_unrolled(encoder, dtype))
  )
  x_PYXC = _noise((1, side, side, 3), dtype)
  params = params_of(module, dtype, x_PYXC)
  run = jax.jit(
    lambda p, x: module.apply({"params": p}, x, hidden_states=False)
  )
  return lambda: jax.block_until_ready(run(params, x_PYXC))


def autoencoder(sizes: Sizes, dtype: str) -> tuple[Autoencoder, dict]:
  """The module and random parameters of it."""
  module = Autoencoder(sizes.dcae)
  small = jnp.zeros((1, sizes.dcae.factor, sizes.dcae.factor, 3), dtype)
  return module, params_of(module, dtype, small)


def dcae_decode(sizes: Sizes, dtype: str) -> Work:
  """Raw latents to a picture."""
  module, params = autoencoder(sizes, dtype)
  grid = sizes.side // sizes.dcae.factor
  z_PhwC = _noise((1, grid, grid, sizes.dcae.latent_channels), dtype)
  run = jax.jit(
    lambda p, z: module.apply({"params": p}, z, method=Autoencoder.decode)
  )
  return lambda: jax.block_until_ready(run(params, z_PhwC))


def dcae_encode(sizes: Sizes, dtype: str) -> Work:
  """A picture to raw latents."""
  module, params = autoencoder(sizes, dtype)
  x_PYXC = _noise((1, sizes.side, sizes.side, 3), dtype)
  run = jax.jit(
    lambda p, x: module.apply({"params": p}, x, method=Autoencoder.encode)
  )
  return lambda: jax.block_until_ready(run(params, x_PYXC))


def _noise(shape: tuple[int, ...], dtype: str) -> jax.Array:
  rng = np.random.default_rng(2)
  return jnp.asarray(rng.uniform(-1, 1, shape), dtype)


ROWS: dict[str, Callable[[Sizes, str], Work]] = {
  "qwen3_prefill": qwen3_prefill,
  "qwen3_decode": qwen3_decode,
  "siglip2": siglip2,
  "dcae_decode": dcae_decode,
  "dcae_encode": dcae_encode,
}
