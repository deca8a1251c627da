"""EMMA's attention mask, made from small id vectors.

A row holds several samples. Reading order (`order`) and buffer order differ, so
nothing here may depend on where in a buffer a token lies. Paper section 3:
text and understanding pictures are causal, references and targets see
everything before them and themselves in both directions. A noisy target is
visible to nobody outside its own picture.

One row with an edit (reference r r, instruction i i, target n n) and a
question about a picture (p p q a); 1 = may attend:

              r r i i n n p p q a
        r     1 1                      the reference sees itself whole
        r     1 1                      but neither instruction nor target
        i     1 1 1                    text is causal
        i     1 1 1 1
        n     1 1 1 1 1 1              the target: all before it and itself
        n     1 1 1 1 1 1
        p                 1            another sample; its picture is causal
        p                 1 1
        q                 1 1 1        were q part of the edit's sample, its
        a                 1 1 1 1      columns n n would still be empty
"""

from typing import Any, NamedTuple

from flax import struct
import jax
import jax.numpy as jnp
import numpy as np

from emma_jax.structs import TokenIds

# What `tiles` says of a query tile and a key tile.
NOTHING, SOME, ALL = 0, 1, 2


class RuleIds(NamedTuple):
  """What `rule` compares of `structs.TokenIds`, in any library's arrays."""

  segment: Any
  order: Any
  last_visible: Any
  noise_group: Any


def allow(query: TokenIds, key: TokenIds) -> jax.Array:
  """True where a query may see a key: bool (B, Lq, Lk).

  `segment equal, order_k <= last_visible_q, and k clean or of q's noise group`;
  padding (segment 0) sees nothing and is seen by nothing.
  """
  return rule(
    jax.tree.map(lambda x: x[:, :, None], query),
    jax.tree.map(lambda x: x[:, None, :], key),
  )


def rule(q: TokenIds | RuleIds, k: TokenIds | RuleIds) -> Any:
  """`allow` of ids that broadcast against each other, as kernels hold them."""
  same_sample = (q.segment == k.segment) & (k.segment > 0)
  reached = k.order <= q.last_visible
  visible = (k.noise_group == 0) | (k.noise_group == q.noise_group)
  return same_sample & reached & visible


def tiles(query: TokenIds, key: TokenIds, rows: int, columns: int) -> jax.Array:
  """What a flash kernel may skip: int32 (B, Lq / rows, Lk / columns).

  Per tile of the mask: NOTHING is allowed in it, ALL is, or SOME (perhaps) is.
  From bounds of the ids of a tile's tokens, so nothing of size Lq x Lk is made;
  NOTHING and ALL are certain, SOME may turn out to be any of them. The lengths
  must be multiples of `rows` and `columns`.
  """
  q = jax.tree.map(lambda x: x[:, :, None], _bounds(query, rows))
  k = jax.tree.map(lambda x: x[:, None, :], _bounds(key, columns))
  some = (
    (q.low.segment <= k.high.segment)
    & (k.low.segment <= q.high.segment)
    & (k.low.order <= q.high.last_visible)
    & (
      k.any_clean
      | (
        (q.low.noise_group <= k.high.noise_group)
        & (k.low.noise_group <= q.high.noise_group)
      )
    )
  )
  one_segment = (
    (q.low.segment == q.high.segment)
    & (k.low.segment == k.high.segment)
    & (q.low.segment == k.low.segment)
    & ~q.any_padding
    & ~k.any_padding
  )
  all_clean = (k.low.noise_group == 0) & (k.high.noise_group == 0)
  one_picture = (
    (q.low.noise_group == q.high.noise_group)
    & (k.low.noise_group == k.high.noise_group)
    & (q.low.noise_group == k.low.noise_group)
  )
  every = (
    some
    & one_segment
    & (k.high.order <= q.low.last_visible)
    & (all_clean | one_picture)
  )
  return jnp.where(every, ALL, jnp.where(some, SOME, NOTHING)).astype(jnp.int32)


@struct.dataclass
class _Bounds:
  """Least and greatest ids of each tile's tokens, padding left out."""

  low: TokenIds
  high: TokenIds
  any_padding: jax.Array
  any_clean: jax.Array


def _bounds(ids: TokenIds, size: int) -> _Bounds:
  tiled = jax.tree.map(lambda x: x.reshape(x.shape[0], -1, size), ids)
  real = tiled.segment > 0
  limits = np.iinfo(np.int32)
  return _Bounds(
    low=jax.tree.map(
      lambda x: jnp.where(real, x, limits.max).min(axis=-1), tiled
    ),
    high=jax.tree.map(
      lambda x: jnp.where(real, x, limits.min).max(axis=-1), tiled
    ),
    any_padding=(~real).any(axis=-1),
    any_clean=(real & (tiled.noise_group == 0)).any(axis=-1),
  )


def pad(ids: TokenIds, length: int) -> TokenIds:
  """The ids with padding appended up to `length` tokens."""
  more = length - ids.segment.shape[1]
  return jax.tree.map(lambda x: jnp.pad(x, ((0, 0), (0, more))), ids)


def join(*ids: TokenIds | None) -> TokenIds:
  """Concatenates ids along the token axis; None parts are left out."""
  parts = [i for i in ids if i is not None]
  return jax.tree.map(lambda *x: jnp.concatenate(x, axis=1), *parts)


def together(segment_BL: jax.Array) -> TokenIds:
  """Ids of tokens that see all of their segment, in both directions."""
  segment_BL = segment_BL.astype(jnp.int32)
  zero = jnp.zeros_like(segment_BL)
  return TokenIds(
    segment=segment_BL,
    order=zero,
    last_visible=zero,
    noise_group=zero,
    position=zero,
  )


def causal(segment_BL: jax.Array, position_BL: jax.Array) -> TokenIds:
  """Ids of plain causal text: order = place in the row's buffer."""
  order = jnp.broadcast_to(
    jnp.arange(segment_BL.shape[1], dtype=jnp.int32), segment_BL.shape
  )
  return TokenIds(
    segment=segment_BL,
    order=order,
    last_visible=order,
    noise_group=jnp.zeros_like(order),
    position=position_BL,
  )
