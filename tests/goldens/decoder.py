"""The shared-and-decoupled decoder of Qwen3's blocks on fixed weights.

Models of many layers have no gradients here: to compile them takes ten seconds
each, and differentiation of what layers compose is JAX's.
"""

import dataclasses

import jax
import jax.numpy as jnp

from emma_jax.models.llm import Llm, LlmConfig
from emma_jax.models.qwen3 import Mlp
from emma_jax.structs import KvCache
from tests import fixed, neutral
from tests.goldens import layers

KEPT = 6
CONFIG = neutral.llm_config(
  vocab_size=24,
  width=16,
  mlp_width=20,
  num_layers=2,
  num_shallow=1,
  num_heads=4,
  num_kv_heads=2,
  head_dim=8,
  rope_theta=100.0,
  norm_eps=0.03,
  tie_embeddings=True,
)
MIXED = dataclasses.replace(
  CONFIG,
  shallow_shared=("attn_norm", "v", "mlp"),
  deep_shared=("o", "mlp_norm"),
  final_norm_shared=True,
  tie_embeddings=False,
)
# Of the ids of `layers`: the edit's pictures, and what is text or understood.
GEN, UND = (0, 1, 4, 5), (2, 3, 6, 7, 8, 9)


def _ids(at: tuple[int, ...]):
  return jax.tree.map(lambda x: x[:, jnp.array(at)], layers.ids())


def _swiglu(dtype):
  x = fixed.values("x", (2, 5, 16), dtype)
  return fixed.measured(*fixed.bound(Mlp(CONFIG), x), x)


def _llm(config: LlmConfig):
  """Hidden states of both buffers, keys, values and logits."""
  module = Llm(config)

  def whole(llm, gen_BGD):
    und_BUD = llm.embed(jnp.array([[3, 1, 4, 1, 5, 9], [2, 6, 5, 3, 5, 8]]))
    und, gen, kv = llm(
      und_BUD.astype(gen_BGD.dtype),
      gen_BGD,
      _ids(UND),
      _ids(GEN),
      return_kv=True,
    )
    return {
      "und": und,
      "gen": gen,
      "keys": kv.key_ZBSKE,
      "values": kv.value_ZBSKE,
      "logits": llm.logits(und),
    }

  def case(dtype):
    gen_BGD = fixed.values("gen", (2, 4, 16), dtype)
    apply, weights = fixed.bound(module, gen_BGD, method=whole)
    return fixed.made(apply, weights, gen_BGD)

  return case


def _behind_a_cache(dtype):
  """Noisy tokens behind keys and values of what came before."""
  module = Llm(CONFIG)
  kv = [fixed.values(n, (2, 2, 6, 2, 8), dtype) for n in "kv"]

  def denoise(llm, gen_BGD, key, value):
    cache = KvCache(key_ZBSKE=key, value_ZBSKE=value, ids=_ids(UND))
    return llm(None, gen_BGD, None, _ids(GEN), cache=cache)[1]

  gen_BGD = fixed.values("gen", (2, 4, 16), dtype)
  apply, weights = fixed.bound(module, gen_BGD, *kv, method=denoise)
  return fixed.made(apply, weights, gen_BGD, *kv)


CASES = fixed.both({"swiglu": _swiglu, "llm": _llm(CONFIG)}) | fixed.float32(
  {"llm_mixed": _llm(MIXED), "llm_behind_a_cache": _behind_a_cache}
)


def cases():
  return {name: case() for name, case in CASES.items()}
