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

import jax
import jax.numpy as jnp

from emma_jax.structs import Ids


def allow(query: Ids, key: Ids) -> jax.Array:
  """True where a query may see a key: bool (B, Lq, Lk).

  `segment equal and slot_k <= end_q and (k clean or k in q's own picture)`;
  padding (segment 0) sees nothing and is seen by nothing.
  """
  q = jax.tree.map(lambda x: x[:, :, None], query)
  k = jax.tree.map(lambda x: x[:, None, :], key)
  same_sample = (q.segment == k.segment) & (k.segment > 0)
  reached = k.slot <= q.end
  visible = (k.noisy == 0) | (k.noisy == q.noisy)
  return same_sample & reached & visible


def join(*ids: Ids | None) -> Ids:
  """Concatenates ids along the token axis; None parts are left out."""
  parts = [i for i in ids if i is not None]
  return jax.tree.map(lambda *x: jnp.concatenate(x, axis=1), *parts)


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
