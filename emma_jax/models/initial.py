"""EMMA's parameters at random, every one of them created in one pass."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from emma_jax.models.emma import PIXELS_PER_TOKEN, Emma, EmmaConfig
from emma_jax.structs import Batch, TokenIds


def _smallest_batch(config: EmmaConfig) -> Batch:
  """A batch of one row, one token per picture, that reaches every weight."""
  cost = 2 if config.fusion.mode == "token" else 1
  gen = 1 + (cost if config.fusion.reference_branch == "gen" else 0)

  def ids(n: int) -> TokenIds:
    x = jnp.ones((1, n), jnp.int32)
    return TokenIds(
      segment=x, order=x, last_visible=x, noise_group=x, position=x
    )

  pixels = jnp.zeros((1, 1, PIXELS_PER_TOKEN, PIXELS_PER_TOKEN, 3), jnp.uint8)
  one = jnp.zeros((1, 1), jnp.int32)
  return Batch(
    tokens_BU=one,
    visual_BU=one,
    targets_BU=one,
    weights_BU=one,
    und_ids=ids(1),
    gen_ids=ids(gen),
    und_pixels_BNYXC=pixels,
    und_valid_BN=one,
    stem_BN=one,
    ref_pixels_BRYXC=pixels,
    ref_valid_BR=one,
    gen_pixels_BMYXC=pixels,
    gen_task_BM=one,
  )


def boxed_params(config: EmmaConfig, key: jax.Array) -> dict:
  """All parameters at random, float32, boxed with their logical axes."""
  batch = _smallest_batch(config)
  init = Emma(config).init
  return init(key, batch, method=Emma.init_all)["params"]


def init_params(config: EmmaConfig, key: jax.Array) -> dict:
  """All parameters at random, as nested dicts of plain float32 arrays."""
  return nn.unbox(boxed_params(config, key))
