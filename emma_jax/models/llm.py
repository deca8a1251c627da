"""The shared-and-decoupled decoder (paper figure 2).

    shallow (N):  shared Q, K | Und V, Gen V | joint attention | Und, Gen FFN
    deep    (M):  Und and Gen Q, K, V        | joint attention | Und, Gen FFN

Tokens lie in two static buffers, so each weight multiplies only its own.
"""

from collections.abc import Sequence
import contextlib
import dataclasses
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from emma_jax.models import masks, partition
from emma_jax.models.attention import attend_each
from emma_jax.models.layers import RmsNorm, normal, weight
from emma_jax.models.qwen3 import PARTS, Parts, Qwen3Config
from emma_jax.structs import Array, KvCache, TokenIds


@dataclasses.dataclass(frozen=True, kw_only=True)
class LlmConfig(Qwen3Config):
  """A Qwen3 decoder of which two branches share some parts.

  `num_shallow` is the paper's N, `num_layers - num_shallow` its M.
  `shallow_shared` / `deep_shared` name the shared parts of those blocks (see
  `qwen3.PARTS`): the paper shares ("qk",) and (); all-shared is all six parts
  in both with `final_norm_shared`, all-decoupled is () in both.
  """

  num_shallow: int
  shallow_shared: tuple[str, ...]
  deep_shared: tuple[str, ...]
  final_norm_shared: bool

  def __post_init__(self):
    super().__post_init__()
    if not 0 <= self.num_shallow <= self.num_layers:
      raise ValueError(f"{self.num_shallow=} is not in 0..{self.num_layers=}.")
    for name in (*self.shallow_shared, *self.deep_shared):
      if name not in PARTS:
        raise ValueError(f"Unknown part {name!r} to share; parts are {PARTS}.")


class Block(nn.Module):
  """One block over both buffers; either of them may be None."""

  config: LlmConfig
  shared_parts: tuple[str, ...]
  return_kv: bool

  @nn.compact
  def __call__(self, xs, cached, ids, cache_ids):
    """((Und, Gen) (B, L, D), (keys, values) if `return_kv`): a scan's body.

    Args:
      xs, ids: both buffers' tokens, their ids; None: not there.
      cached: (keys, values) (B, S, K, E) of what came before, or None.
      cache_ids: their ids.
    """
    own = tuple(n for n in PARTS if n not in self.shared_parts)
    shared = Parts(self.config, self.shared_parts, name="shared")
    branches = [shared] * 2
    if own:
      branches = [Parts(self.config, own, name=n) for n in ("und", "gen")]

    def part(i: int, name: str) -> nn.Module:
      return getattr(shared if name in self.shared_parts else branches[i], name)

    live = [i for i in range(2) if xs[i] is not None]
    xs = [
      x
      if x is None
      else partition.constrain(partition.drop_unit_axis(x), "rows", None, None)
      for x in xs
    ]
    queries, keys, values = [], [], []
    for i in live:
      h_BLD = partition.save_residual(part(i, "attn_norm")(xs[i]), "attn_in")
      q_BLHE, k_BLKE = part(i, "qk")(h_BLD, ids[i].position)
      queries.append(_by_head(q_BLHE, "heads"))
      keys.append(k_BLKE)
      values.append(part(i, "v")(h_BLD))
    new = tuple(_join(x) for x in (keys, values))
    before: list[tuple[jax.Array, ...]]
    before = [(x,) for x in cached or ()] or [(), ()]
    k_BSKE, v_BSKE = (
      _by_head(_join([*b, n]), "kv_heads") for b, n in zip(before, new)
    )
    outs_BLHE = attend_each(
      queries,
      k_BSKE,
      v_BSKE,
      [ids[i] for i in live],
      masks.join(cache_ids, *ids),
      self.config.attention,
    )
    outs: list[jax.Array | None] = [None, None]
    for i, out_BLHE in zip(live, outs_BLHE):
      x_BLD = xs[i] + part(i, "o")(_by_head(out_BLHE, "heads"))
      h_BLD = partition.save_residual(part(i, "mlp_norm")(x_BLD), "mlp_in")
      outs[i] = partition.add_unit_axis(x_BLD + part(i, "mlp")(h_BLD))
    return tuple(outs), new if self.return_kv else None


def _join(xs: Sequence[jax.Array]) -> jax.Array:
  """One (B, L, K, E) after the other; flat, as their neighbours have them."""
  # Sizes are said, as a cache may be empty: -1 stands for nothing then.
  width = math.prod(xs[0].shape[2:])
  flat = [x.reshape(*x.shape[:2], width) for x in xs]
  x_BLF = jnp.concatenate(flat, axis=1)
  return x_BLF.reshape(*x_BLF.shape[:2], *xs[0].shape[2:])


def _by_head(x_BLHE: jax.Array, heads: str) -> jax.Array:
  return partition.constrain(x_BLHE, "rows", None, heads, None)


def stack(
  c: LlmConfig, shared: tuple[str, ...], length: int, return_kv: bool, name: str
) -> nn.Module:
  """`length` blocks run by scan; their weights have a leading layer axis."""
  return nn.scan(
    partition.remat(Block, c.remat),
    variable_axes={"params": 0},
    split_rngs={"params": True},
    in_axes=(0, nn.broadcast, nn.broadcast),
    length=length,
    unroll=min(c.scan_unroll, length),
    metadata_params={nn.PARTITION_NAME: "layers"},
  )(c, shared, return_kv, name=name)


class Llm(nn.Module):
  """Embedding, N shallow and M deep blocks, final norms, next-token logits.

  `rounded_to`: what its owner rounds embeddings and the next-token head to
  before anything else, see `layers.Weight`.
  """

  config: LlmConfig
  rounded_to: DTypeLike | None = None

  def setup(self):
    """Declares the embedding and, unless tied, the next-token head."""
    c = self.config
    self.embedding = weight(
      self,
      "embed",
      (c.vocab_size, c.width),
      ("vocab", "embed"),
      normal(c.embed_std),
      self.rounded_to,
    )
    if not c.tie_embeddings:
      self.lm_head = weight(
        self,
        "lm_head",
        (c.vocab_size, c.width),
        ("vocab", "embed"),
        normal(0.02),
        self.rounded_to,
      )

  def embed(self, tokens_BL: Array) -> jax.Array:
    """Token ids (B, L) -> float32 embeddings (B, L, D)."""
    # Each device looks up its own channels for all that share its weights;
    # then they exchange. The table itself, far larger, stays where it is.
    x_BLD = partition.constrain(
      self.embedding[tokens_BL], "row_groups", None, "embed"
    )
    return partition.constrain(x_BLD, "rows", None, None)

  def head(self) -> jax.Array:
    """The next-token head (V, D): the embedding's, if tied."""
    return self.embedding if self.config.tie_embeddings else self.lm_head

  def logits(self, hidden: jax.Array) -> jax.Array:
    """Float32 logits (..., V) of final hidden states (..., D)."""
    head_VD = self.head()
    return jnp.einsum(
      "...D,VD->...V",
      hidden,
      head_VD.astype(hidden.dtype),
      preferred_element_type=jnp.float32,
    )

  @nn.compact
  def __call__(
    self,
    und_BUD: jax.Array | None,
    gen_BGD: jax.Array | None,
    und_ids: TokenIds | None,
    gen_ids: TokenIds | None,
    cache: KvCache | None = None,
    return_kv: bool = False,
  ):
    """Returns (und (B, U, D), gen (B, G, D)) after the final norms, and the
    new tokens' keys and values as a KvCache in buffer order (Und, then Gen) if
    `return_kv`. `cache` holds what came before them.
    """
    c = self.config
    xs = (und_BUD, gen_BGD)
    ids = (
      None if und_BUD is None else und_ids,
      None if gen_BGD is None else gen_ids,
    )
    cache_ids = None if cache is None else cache.ids
    new, done = [], 0
    for name, shared_parts, length in (
      ("shallow", c.shallow_shared, c.num_shallow),
      ("deep", c.deep_shared, c.num_layers - c.num_shallow),
    ):
      if not length:
        continue
      cached = None
      if cache is not None:
        cached = (
          cache.key_ZBSKE[done : done + length],
          cache.value_ZBSKE[done : done + length],
        )
      blocks = stack(c, shared_parts, length, return_kv, name)
      with (
        partition.distinct_scan_carry() if done else contextlib.nullcontext()
      ):
        xs = jax.tree.map(partition.add_unit_axis, xs)
        xs, kv = blocks(xs, cached, ids, cache_ids)
        xs = jax.tree.map(partition.drop_unit_axis, xs)
      new.append(kv)
      done += length
    names = ("norm_und", "norm_gen")
    if c.final_norm_shared:
      names = ("norm_shared",) * 2
    norms = {n: RmsNorm(c.norm_eps, name=n) for n in dict.fromkeys(names)}
    und_BUD, gen_BGD = (
      None if x is None else norms[n](x) for x, n in zip(xs, names)
    )
    made = None
    if return_kv:
      keys, values = (jnp.concatenate(x, axis=0) for x in zip(*new))
      made = KvCache(key_ZBSKE=keys, value_ZBSKE=values, ids=masks.join(*ids))
    return und_BUD, gen_BGD, made
