"""Answers token by token over a static KV cache, several turns long.

A dialogue's cache has room for the context and all turns to come. Every row
writes into the same columns; the ids tell which of them a row really used, so
rows of different lengths and rows that stopped early share the arrays:

  row 0   context ......| answer <pad> | question . | answer ... |
  row 1   context ..    | answer ..... | question   | (has no second turn)
"""

import dataclasses

from flax import struct
import jax
import jax.numpy as jnp

from emma_jax import programs
from emma_jax.models.emma import Emma
from emma_jax.sampling.context import by_rows, prefill, used
from emma_jax.structs import Batch, KvCache, TokenIds


@struct.dataclass
class Dialogue:
  """Conversations up to where the next answer begins (or went on)."""

  cache: KvCache
  column: jax.Array  # () int32, the first column that nobody uses
  length_B: jax.Array  # int32, order and position of the next token
  logits_BV: jax.Array  # float32, of the next token


@programs.kept("emma", "route", "room")
def start(
  emma: Emma, params: dict, batch: Batch, route: str, room: int
) -> Dialogue:
  """Reads a batch of one understanding prefix per row.

  Args:
    batch: rows whose text ends right before the answer.
    route: the expert the pictures take.
    room: further columns of the cache, for all that is to be said.
  """
  hidden_BUD, cache = prefill(emma, params, batch, route)
  length_B = used(cache)
  columns = cache.ids.segment.shape[1]
  pad = lambda x, axis: jnp.pad(
    x, [(0, room if a == axis else 0) for a in range(x.ndim)]
  )
  cache = KvCache(
    key_ZBSKE=pad(cache.key_ZBSKE, 2),
    value_ZBSKE=pad(cache.value_ZBSKE, 2),
    ids=jax.tree.map(lambda x: pad(x, 1), cache.ids),
  )
  return Dialogue(
    cache=by_rows(cache),
    column=jnp.int32(columns),
    length_B=length_B,
    logits_BV=_logits_at(emma, params, hidden_BUD, length_B),
  )


@programs.kept("emma")
def say(
  emma: Emma,
  params: dict,
  dialogue: Dialogue,
  tokens_BL: jax.Array,
  count_B: jax.Array,
) -> Dialogue:
  """Appends the first `count_B` of each row's tokens, which may be none."""
  dialogue, hidden_BLD = _append(emma, params, dialogue, tokens_BL, count_B)
  logits_BV = _logits_at(emma, params, hidden_BLD, count_B)
  return dataclasses.replace(dialogue, logits_BV=logits_BV)


@programs.kept("emma", "room")
def answer(
  emma: Emma,
  params: dict,
  dialogue: Dialogue,
  active_B: jax.Array,
  keys_B: jax.Array,
  temperature: jax.Array,
  top_p: jax.Array,
  limit: jax.Array,
  eos: jax.Array,
  allowed_V: jax.Array,
  room: int,
) -> tuple[jax.Array, jax.Array, Dialogue]:
  """Decodes until every active row has said `eos` or `limit` tokens.

  `allowed_V`: tokens that can be said, see `Tokenizer.answer_ids`.

  Returns answers (B, room), `eos` from where a row stopped; whether all logits
  of an active row were finite (B,); and the dialogue with the answers in it,
  but without their `eos`: the next turn begins with it, also where the limit
  cut an answer short.
  """
  answers_BL = jnp.full((active_B.shape[0], room), eos, jnp.int32)

  def going_on(carry) -> jax.Array:
    i, active_B, *_ = carry
    return (i < limit) & active_B.any()

  def body(carry):
    i, active_B, answers_BL, finite_B, d = carry
    finite_B &= jnp.isfinite(d.logits_BV).all(-1) | ~active_B
    # By position, so that no other row and no padding plays a part.
    step_keys_B = jax.vmap(jax.random.fold_in)(keys_B, d.length_B)
    logits_BV = jnp.where(allowed_V[None], d.logits_BV, -jnp.inf)
    token_B = pick(logits_BV, step_keys_B, temperature, top_p)
    token_B = jnp.where(active_B, token_B, eos)
    active_B = active_B & (token_B != eos)
    answers_BL = jax.lax.dynamic_update_slice(
      answers_BL, token_B[:, None], (0, i)
    )
    d, hidden_B1D = _append(
      emma, params, d, token_B[:, None], active_B.astype(jnp.int32)
    )
    logits_BV = _logits(emma, params, hidden_B1D[:, 0])
    d = dataclasses.replace(d, logits_BV=logits_BV)
    return i + 1, active_B, answers_BL, finite_B, d

  finite_B = jnp.ones(active_B.shape, bool)
  first = (jnp.int32(0), active_B, answers_BL, finite_B, dialogue)
  last = jax.lax.while_loop(going_on, body, first)
  _, _, answers_BL, finite_B, dialogue = last
  return answers_BL, finite_B, dialogue


def pick(
  logits_BV: jax.Array,
  keys_B: jax.Array,
  temperature: jax.Array | float,
  top_p: jax.Array | float,
) -> jax.Array:
  """Next tokens (B,): the likeliest at temperature 0, else drawn.

  Drawn among the fewest likeliest tokens whose probabilities, after the
  temperature, sum to `top_p` or more.
  """

  def drawn() -> jax.Array:
    order_BV = jnp.argsort(logits_BV, axis=-1, descending=True)
    sorted_BV = jnp.take_along_axis(logits_BV, order_BV, axis=-1) / temperature
    probs_BV = jax.nn.softmax(sorted_BV)
    before_BV = jnp.cumsum(probs_BV, axis=-1) - probs_BV
    # 1 keeps all: a rounded sum may reach it before the last token.
    kept_BV = (before_BV < top_p) | (jnp.asarray(top_p) >= 1)
    kept_BV = kept_BV.at[:, 0].set(True)
    choice_B = jax.vmap(jax.random.categorical)(
      keys_B, jnp.where(kept_BV, sorted_BV, -jnp.inf)
    )
    return jnp.take_along_axis(order_BV, choice_B[:, None], axis=-1)[:, 0]

  return jax.lax.cond(
    jnp.asarray(temperature) > 0,
    lambda: drawn().astype(jnp.int32),
    lambda: jnp.argmax(logits_BV, axis=-1).astype(jnp.int32),
  )


def _append(emma, params, d: Dialogue, tokens_BL, count_B):
  """Runs causal text and stores its keys and values; (dialogue, hidden)."""
  place_1L = jnp.arange(tokens_BL.shape[1], dtype=jnp.int32)[None]
  order_BL = d.length_B[:, None] + place_1L
  ids = TokenIds(
    segment=(place_1L < count_B[:, None]).astype(jnp.int32),
    order=order_BL,
    last_visible=order_BL,
    noise_group=jnp.zeros_like(order_BL),
    position=order_BL,
  )
  hidden_BLD, new = emma.apply(
    {"params": params}, tokens_BL, ids, d.cache, method=Emma.extend
  )
  put = lambda old, x, axis: jax.lax.dynamic_update_slice_in_dim(
    old, x, d.column, axis
  )
  cache = KvCache(
    key_ZBSKE=put(d.cache.key_ZBSKE, new.key_ZBSKE, 2),
    value_ZBSKE=put(d.cache.value_ZBSKE, new.value_ZBSKE, 2),
    ids=jax.tree.map(lambda old, x: put(old, x, 1), d.cache.ids, new.ids),
  )
  d = dataclasses.replace(
    d,
    cache=by_rows(cache),
    column=d.column + tokens_BL.shape[1],
    length_B=d.length_B + count_B,
  )
  return d, hidden_BLD


def _logits(emma, params, hidden_BD):
  return emma.apply({"params": params}, hidden_BD, method=Emma.logits)


def _logits_at(emma, params, hidden_BLD, count_B):
  """Logits behind each row's last of `count_B` tokens."""
  last_B = jnp.maximum(count_B - 1, 0)
  hidden_BD = jnp.take_along_axis(hidden_BLD, last_B[:, None, None], axis=1)
  return _logits(emma, params, hidden_BD[:, 0])
