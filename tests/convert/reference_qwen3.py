"""Tiny `Qwen3ForCausalLM`s with every weight at random, and ours beside them.

Imported by tests that have already made sure of torch.
"""

import dataclasses
import functools
from pathlib import Path
import tempfile

import jax
import jax.numpy as jnp
import numpy as np
import torch
import transformers

from emma_jax.convert import qwen3
from emma_jax.models import masks
from emma_jax.models.qwen3 import Qwen3, Qwen3Config
from emma_jax.structs import TokenIds
from tests.tiny import QUICK

TOLERANCE = 5e-6  # of the reference's maximum
FAR = 1e-4  # at positions up to 40959
BATCH, LENGTH = 3, 12
SEED = 10  # a draw whose gradients lose few digits to cancellation

# head_dim is not hidden / heads, q is wider than the model, k and v are square
# (so that a transposed one goes unnoticed by every shape).
SIZES = dict(
  vocab_size=64,
  hidden_size=24,
  intermediate_size=40,
  num_hidden_layers=3,
  num_attention_heads=4,
  num_key_value_heads=2,
  head_dim=12,
  max_position_embeddings=40960,
)
KINDS = {
  "tied": dict(tie_word_embeddings=True, rope_theta=1e6, rms_norm_eps=1e-6),
  "untied": dict(tie_word_embeddings=False, rope_theta=5e6, rms_norm_eps=1e-5),
  # Embeddings near 1e-3, where the first norm's eps is as large as the mean
  # square.
  "small": dict(tie_word_embeddings=False, rope_theta=1e6, rms_norm_eps=1e-6),
  "small_eps": dict(
    tie_word_embeddings=False, rope_theta=1e6, rms_norm_eps=1e-5
  ),
  "one_kv_head": dict(
    tie_word_embeddings=True,
    rope_theta=1e6,
    rms_norm_eps=1e-6,
    num_key_value_heads=1,
  ),
  "all_kv_heads": dict(
    tie_word_embeddings=True,
    rope_theta=1e6,
    rms_norm_eps=1e-6,
    num_key_value_heads=4,
  ),
}


@functools.cache
def reference(kind: str) -> transformers.Qwen3ForCausalLM:
  sizes = SIZES | KINDS[kind]
  rope = {"rope_type": "default", "rope_theta": sizes.pop("rope_theta")}
  model = transformers.Qwen3ForCausalLM(
    transformers.Qwen3Config(
      **sizes, rope_parameters=rope, attn_implementation="eager"
    )
  ).eval()
  generator = torch.Generator().manual_seed(SEED + len(kind))
  with torch.no_grad():
    for name, x in model.named_parameters():
      noise = torch.randn(x.shape, generator=generator)
      if x.ndim == 1:
        x.copy_(1 + 0.3 * noise)
      elif "embed" in name:
        # Below 1 the layers outweigh the word itself, which a tied model
        # would otherwise repeat for ever.
        x.copy_(noise * (1e-3 if kind.startswith("small") else 0.3))
      else:
        x.copy_(noise * x.shape[1] ** -0.5)
  return model


@functools.cache
def imported(kind: str) -> tuple[Qwen3Config, dict]:
  """Through a folder, as a user would."""
  with tempfile.TemporaryDirectory() as folder:
    reference(kind).save_pretrained(folder)
    module, params = qwen3.load(Path(folder))
  return module.config, params


@dataclasses.dataclass
class Case:
  """One batch, as each side wants it; `valid` rows are compared."""

  tokens: np.ndarray
  theirs: dict
  position: np.ndarray | None = None
  segment: np.ndarray | None = None
  ids: TokenIds | None = None
  valid: np.ndarray | None = None
  tolerance: float = TOLERANCE


def case(name: str) -> Case:
  rng = np.random.default_rng(0)
  tokens = rng.integers(0, SIZES["vocab_size"], (BATCH, LENGTH))
  return CASES[name](tokens, rng)


def plain(tokens, rng) -> Case:
  return Case(tokens, {})


def padded(tokens, rng, left: bool) -> Case:
  place = np.arange(LENGTH)[None]
  count = np.array([[5], [LENGTH], [9]])
  mask = (place >= LENGTH - count) if left else (place < count)
  position = np.maximum(np.cumsum(mask, axis=1) - 1, 0)
  return Case(
    tokens,
    dict(
      attention_mask=torch.from_numpy(mask.astype(np.int64)),
      position_ids=torch.from_numpy(position),
    ),
    position=position,
    segment=mask.astype(np.int32),
    valid=mask,
  )


def positions(tokens, rng) -> Case:
  """Gaps; the mask of ones keeps transformers from seeing packed sequences."""
  position = np.sort(rng.choice(40960, (BATCH, LENGTH), replace=False))
  position[:, -1] = 40959
  ones = torch.ones((BATCH, LENGTH), dtype=torch.int64)
  return Case(
    tokens,
    dict(attention_mask=ones, position_ids=torch.from_numpy(position)),
    position=position,
    tolerance=FAR,
  )


def packed(tokens, rng) -> Case:
  """Without mask and cache, transformers 5 tells sequences by positions."""
  lengths = [[4, 8], [12], [1, 6, 5]]
  position = np.stack(
    [np.concatenate([np.arange(n) for n in row]) for row in lengths]
  )
  segment = np.cumsum(position == 0, axis=1).astype(np.int32)
  return Case(
    tokens,
    dict(position_ids=torch.from_numpy(position), use_cache=False),
    position=position,
    segment=segment,
  )


def bidirectional(tokens, rng) -> Case:
  """Tokens 3 to 7 see each other in both directions, like a picture's."""
  place = np.arange(LENGTH)
  inside = (place >= 3) & (place < 8)
  end = np.where(inside, 7, place)
  allowed = place[None, :] <= end[:, None]
  additive = np.where(allowed, 0, np.finfo(np.float32).min)
  additive = np.broadcast_to(additive, (BATCH, 1, LENGTH, LENGTH))
  whole = lambda x: np.broadcast_to(x, (BATCH, LENGTH)).astype(np.int32)
  ids = masks.causal(whole(1), whole(place)).replace(last_visible=whole(end))
  mask = torch.from_numpy(additive.astype(np.float32))
  return Case(tokens, dict(attention_mask=mask), ids=ids)


CASES = {
  "plain": plain,
  "left": functools.partial(padded, left=True),
  "right": functools.partial(padded, left=False),
  "positions": positions,
  "packed": packed,
  "bidirectional": bidirectional,
}


def theirs(kind: str, c: Case) -> list[np.ndarray]:
  """Logits and every hidden state of the reference."""
  with torch.no_grad():
    out = reference(kind)(
      torch.from_numpy(c.tokens), output_hidden_states=True, **c.theirs
    )
  return [x.float().numpy() for x in (out.logits, *out.hidden_states)]


def apply(config, params, tokens, position, segment, ids):
  logits, hidden = Qwen3(config).apply(
    {"params": params}, tokens, position, segment, ids
  )
  return [logits, *hidden]


run = jax.jit(apply, static_argnums=0, compiler_options=QUICK)


def ours(config: Qwen3Config, params: dict, c: Case, run=run) -> list:
  tokens, position = (
    None if x is None else jnp.asarray(x, jnp.int32)
    for x in (c.tokens, c.position)
  )
  out = run(config, params, tokens, position, c.segment, c.ids)
  return [np.asarray(x, np.float32) for x in out]


def error(got: np.ndarray, want: np.ndarray, valid=None) -> float:
  """The largest difference, of the largest magnitude."""
  assert got.shape == want.shape
  if valid is not None:
    got, want = got[valid], want[valid]
  difference = np.abs(got - want).max() / np.abs(want).max()
  return float(difference) if np.isfinite(difference) else np.inf


def errors(got: list, want: list, c: Case) -> list[float]:
  assert len(got) == len(want)
  return [error(g, w, c.valid) for g, w in zip(got, want)]
