"""Mistakes that ports of Qwen3 make, one at a time.

Each runs without an error and trains; the parity tests must see it. A mistake
is made in the config, in the parameters, in the inputs, or in a function of
the model that is swapped for a wrong one.
"""

from collections.abc import Callable
import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from emma_jax.models import attention, layers, masks, norm_rope, qwen3

BLOCK = "layers/block/"


@dataclasses.dataclass
class Attempt:
  """What a mistake may change: our side of one comparison."""

  config: qwen3.Qwen3Config
  flat: dict[str, np.ndarray]  # slash path -> parameter
  inputs: Any  # reference_qwen3.Case
  patch: Callable[[Any, str, Any], None]  # module, name, what to put there

  def weight(self, name: str, change: Callable) -> None:
    for path in self.flat:
      if path.endswith(name):
        self.flat[path] = np.asarray(change(self.flat[path]))

  def swap(self, a: str, b: str) -> None:
    a, b = BLOCK + a, BLOCK + b
    self.flat[a], self.flat[b] = self.flat[b], self.flat[a]


@dataclasses.dataclass(frozen=True)
class Mutation:
  """kind, case: the model and inputs on which it must be seen."""

  name: str
  make: Callable[[Attempt], None]
  kind: str = "untied"
  case: str = "plain"


# ------------------------------------------------------- config and inputs


def config(**change) -> Callable[[Attempt], None]:
  def make(a: Attempt) -> None:
    a.config = dataclasses.replace(a.config, **change)

  return make


def inputs(**change) -> Callable[[Attempt], None]:
  def make(a: Attempt) -> None:
    a.inputs = dataclasses.replace(a.inputs, **change)

  return make


# -------------------------------------------------------------- parameters


def weight(name: str, change: Callable) -> Callable[[Attempt], None]:
  return lambda a: a.weight(name, change)


def swap(first: str, second: str) -> Callable[[Attempt], None]:
  return lambda a: a.swap(first, second)


def transposed(w: np.ndarray) -> np.ndarray:
  """(out, in) taken for (in, out), which a square matrix allows."""
  n, d = w.shape[:2]
  return w.reshape(n, d, d).transpose(0, 2, 1).reshape(w.shape)


def interleaved_heads(w: np.ndarray) -> np.ndarray:
  """The output axis of a projection read as (head_dim, heads)."""
  n, d, h, e = w.shape
  return w.reshape(n, d, e, h).transpose(0, 1, 3, 2)


def tiled_heads(a: Attempt) -> None:
  """Query head h on key head h % K, which is h // (H / K) of other heads."""
  heads = range(a.config.num_heads)
  order = sorted(heads, key=lambda h: (h % a.config.num_kv_heads, h))
  a.weight("qk/q", lambda w: w[:, :, order])
  a.weight("o/kernel", lambda w: w[:, order])


def hidden_over_heads(a: Attempt) -> None:
  """1 / sqrt(hidden / heads) for 1 / sqrt(head_dim)."""
  wrong = a.config.width / a.config.num_heads
  a.weight("q_norm", lambda w: w * np.float32(a.config.head_dim / wrong) ** 0.5)


def bf16(w: np.ndarray) -> np.ndarray:
  return w.astype(jnp.bfloat16).astype(np.float32)


# --------------------------------------------------------------- functions


def norm_after_rope(a: Attempt) -> None:
  """q/k norm and RoPE swapped: the norm waits until RoPE is done."""
  norm, rope = layers.rms_norm, attention.rope
  a.patch(norm_rope, "rms_norm", lambda *norm_of: norm_of)

  def late(norm_of, position, theta):
    x, scale, eps = norm_of
    return norm(rope(x, position, theta), scale, eps)

  a.patch(norm_rope, "rope", late)


def norm_over_all_heads(a: Attempt) -> None:
  norm = layers.rms_norm

  def wide(x, scale, eps):
    flat = x.reshape(*x.shape[:2], -1)
    return norm(flat, jnp.tile(scale, x.shape[2]), eps).reshape(x.shape)

  a.patch(norm_rope, "rms_norm", wide)


def centred_norm(a: Attempt) -> None:
  """A LayerNorm without bias in place of RMSNorm."""
  norm = layers.rms_norm
  centred = lambda x, scale, eps: norm(
    x - x.mean(-1, keepdims=True), scale, eps
  )
  a.patch(layers, "rms_norm", centred)


def interleaved_rope(a: Attempt) -> None:
  """Neighbours turned together, not the halves."""
  rope = attention.rope

  def wrong(x, position, theta):
    half = x.shape[-1] // 2
    apart = x.reshape(*x.shape[:-1], half, 2).swapaxes(-1, -2)
    turned = rope(apart.reshape(x.shape), position, theta)
    turned = turned.reshape(*x.shape[:-1], 2, half).swapaxes(-1, -2)
    return turned.reshape(x.shape)

  a.patch(norm_rope, "rope", wrong)


def rope_sign(a: Attempt) -> None:
  rope = attention.rope
  a.patch(
    norm_rope, "rope", lambda x, position, theta: rope(x, -position, theta)
  )


def rope_on_queries(a: Attempt) -> None:
  """Keys stay as they are."""
  rope = attention.rope
  keys = a.config.num_kv_heads
  a.patch(
    norm_rope,
    "rope",
    lambda x, position, theta: (
      x if x.shape[2] == keys else rope(x, position, theta)
    ),
  )


def bf16_angles(a: Attempt) -> None:
  """A cast to the activations' dtype that comes before the product."""
  rope = attention.rope
  rounded = lambda x, position, theta: rope(
    x, position.astype(jnp.bfloat16).astype(jnp.float32), theta
  )
  a.patch(norm_rope, "rope", rounded)


def strictly_causal(a: Attempt) -> None:
  """Off by one: a token does not see itself (the first one still does)."""
  allow = masks.allow
  before = lambda q, k: allow(
    q.replace(last_visible=jnp.maximum(q.last_visible - 1, 0)), k
  )
  a.patch(masks, "allow", before)


def not_causal(a: Attempt) -> None:
  allow = masks.allow
  a.patch(
    masks,
    "allow",
    lambda q, k: allow(q.replace(last_visible=q.last_visible + 999), k),
  )


def gelu(a: Attempt) -> None:
  a.patch(jax.nn, "silu", functools.partial(jax.nn.gelu, approximate=True))


def tf32(a: Attempt) -> None:
  """Products with ten bits of mantissa, as a GPU's default makes them."""
  linear = layers.linear
  cut = lambda x: jax.lax.reduce_precision(x, 8, 10)
  a.patch(qwen3, "linear", lambda x, w: linear(cut(x), cut(w)))


MUTATIONS = (
  Mutation("eps 1e-5 for 1e-6", config(norm_eps=1e-5), "small"),
  Mutation("eps 1e-6 for 1e-5", config(norm_eps=1e-6), "small_eps"),
  Mutation("eps 1e-5 for 1e-6, normal size", config(norm_eps=1e-5), "tied"),
  Mutation("theta 1e4", config(rope_theta=1e4)),
  Mutation("theta 1e6 for 5e6", config(rope_theta=1e6)),
  Mutation("q/k norm after RoPE", norm_after_rope),
  Mutation("q/k norm over all heads", norm_over_all_heads),
  Mutation("q_norm and k_norm without weight", weight("_norm", np.ones_like)),
  Mutation(
    "no q/k norm",
    lambda a: a.patch(norm_rope, "rms_norm", lambda x, scale, eps: x),
  ),
  Mutation("q_norm and k_norm swapped", swap("qk/q_norm", "qk/k_norm")),
  Mutation("1 + w in every norm", weight("scale", lambda w: 1 + w)),
  Mutation("LayerNorm for RMSNorm", centred_norm),
  Mutation(
    "the two norms of a block swapped",
    swap("attn_norm/scale", "mlp_norm/scale"),
  ),
  Mutation("interleaved RoPE", interleaved_rope),
  Mutation("RoPE's sign", rope_sign),
  Mutation("RoPE on queries only", rope_on_queries),
  Mutation("bfloat16 angles", bf16_angles, case="positions"),
  Mutation("positions ignored", inputs(position=None), case="positions"),
  Mutation("scale by hidden / heads", hidden_over_heads),
  Mutation("key heads tiled", tiled_heads),
  Mutation("heads innermost in q", weight("qk/q", interleaved_heads)),
  Mutation("k transposed", weight("qk/k", transposed)),
  Mutation("v transposed", weight("v/kernel", transposed)),
  Mutation("gate and up swapped", swap("mlp/gate", "mlp/up")),
  Mutation("gelu for silu", gelu),
  Mutation(
    "layers in reverse",
    lambda a: a.weight(
      "", lambda w: w[::-1] if w.ndim and len(w) == a.config.num_layers else w
    ),
  ),
  Mutation(
    "head tied to the embeddings",
    lambda a: a.flat.update(lm_head=a.flat["embed"]),
  ),
  Mutation("packing ignored", inputs(segment=None), case="packed"),
  Mutation("left padding not masked", inputs(segment=None), case="left"),
  Mutation(
    "the picture's block causal", inputs(ids=None), case="bidirectional"
  ),
  Mutation("a token does not see itself", strictly_causal),
  Mutation("not causal", not_causal),
  Mutation("weights rounded to bfloat16", weight("", bf16)),
  Mutation("tf32 products", tf32),
)
