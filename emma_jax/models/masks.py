"""EMMA's attention mask, made from small id vectors.

A row holds several samples. Reading order (`slot`) and buffer order differ, so
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

from emma_jax.structs import Ids

# What `tiles` says of a query tile and a key tile.
NOTHING, SOME, ALL = 0, 1, 2


class RuleIds(NamedTuple):
  """Those of `structs.Ids` that `rule` compares, of any library's arrays."""

  segment: Any
  slot: Any
  end: Any
  noisy: Any


def allow(query: Ids, key: Ids) -> jax.Array:
  """True where a query may see a key: bool (B, Lq, Lk).

  `segment equal and slot_k <= end_q and (k clean or k in q's own picture)`;
  padding (segment 0) sees nothing and is seen by nothing.
  """
  return rule(
    jax.tree.map(lambda x: x[:, :, None], query),
    jax.tree.map(lambda x: x[:, None, :], key),
  )


def rule(q: Ids | RuleIds, k: Ids | RuleIds) -> Any:
  """`allow` of ids that broadcast against each other, as kernels hold them."""
  same_sample = (q.segment == k.segment) & (k.segment > 0)
  reached = k.slot <= q.end
  visible = (k.noisy == 0) | (k.noisy == q.noisy)
  return same_sample & reached & visible


def tiles(query: Ids, key: Ids, rows: int, columns: int) -> jax.Array:
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
    & (k.low.slot <= q.high.end)
    & (
      k.any_clean
      | ((q.low.noisy <= k.high.noisy) & (k.low.noisy <= q.high.noisy))
    )
  )
  one_segment = (
    (q.low.segment == q.high.segment)
    & (k.low.segment == k.high.segment)
    & (q.low.segment == k.low.segment)
    & ~q.any_padding
    & ~k.any_padding
  )
  all_clean = (k.low.noisy == 0) & (k.high.noisy == 0)
  one_picture = (
    (q.low.noisy == q.high.noisy)
    & (k.low.noisy == k.high.noisy)
    & (q.low.noisy == k.low.noisy)
  )
  every = (
    some & one_segment & (k.high.slot <= q.low.end) & (all_clean | one_picture)
  )
  return jnp.where(every, ALL, jnp.where(some, SOME, NOTHING)).astype(jnp.int32)


@struct.dataclass
class _Bounds:
  """Least and greatest ids of each tile's tokens, padding left out."""

  low: Ids
  high: Ids
  any_padding: jax.Array
  any_clean: jax.Array


def _bounds(ids: Ids, size: int) -> _Bounds:
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
    any_clean=(real & (tiled.noisy == 0)).any(axis=-1),
  )


def pad(ids: Ids, length: int) -> Ids:
  """The ids with padding appended up to `length` tokens."""
  more = length - ids.segment.shape[1]
  return jax.tree.map(lambda x: jnp.pad(x, ((0, 0), (0, more))), ids)


def join(*ids: Ids | None) -> Ids:
  """Concatenates ids along the token axis; None parts are left out."""
  parts = [i for i in ids if i is not None]
  return jax.tree.map(lambda *x: jnp.concatenate(x, axis=1), *parts)


def together(segment_BL: jax.Array) -> Ids:
  """Ids of tokens that see all of their segment, in both directions."""
  segment_BL = segment_BL.astype(jnp.int32)
  zero = jnp.zeros_like(segment_BL)
  return Ids(segment=segment_BL, slot=zero, end=zero, noisy=zero, position=zero)


def causal(segment_BL: jax.Array, position_BL: jax.Array) -> Ids:
  """Ids of plain causal text: slot = position within the row's buffer."""
  slot = jnp.broadcast_to(
    jnp.arange(segment_BL.shape[1], dtype=jnp.int32), segment_BL.shape
  )
  return Ids(
    segment=segment_BL,
    slot=slot,
    end=slot,
    noisy=jnp.zeros_like(slot),
    position=position_BL,
  )
