"""The two-branch decoder: what it shares, and that it is Qwen3 underneath."""

import dataclasses
import functools
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emma_jax import rules
from emma_jax.models import masks
from emma_jax.models.llm import Block, Llm, LlmConfig
from emma_jax.models.qwen3 import PARTS, Qwen3, Qwen3Config
from emma_jax.structs import TokenIds
from tests import neutral, tiny

CONFIG = neutral.llm_config(
  vocab_size=20,
  width=16,
  mlp_width=24,
  num_layers=4,
  num_heads=4,
  num_kv_heads=2,
  head_dim=8,
  rope_theta=1e4,
  norm_eps=1e-6,
  tie_embeddings=False,
  num_shallow=2,
)
SHARED = dataclasses.replace(
  CONFIG, shallow_shared=PARTS, deep_shared=PARTS, final_norm_shared=True
)
DECOUPLED = dataclasses.replace(CONFIG, shallow_shared=())
RNG = np.random.default_rng(0)
TOKENS = RNG.permutation(20)[None, :8]
IDS = masks.causal(np.ones((1, 8), np.int32), np.arange(8)[None])
COPIES = (
  (r"shallow/gen/(.*)", r"shallow/und/\1"),
  (r"deep/gen/(.*)", r"deep/und/\1"),
  (r"norm_gen/(.*)", r"norm_und/\1"),
)


def part(ids: TokenIds, where) -> TokenIds:
  return jax.tree.map(lambda x: np.asarray(x)[:, where], ids)


def everything(m: Llm, tokens, ids):
  """Reaches every weight: the same words through both branches."""
  x = m.embed(tokens)
  und, gen, _ = m(x, x, ids, ids)
  return m.logits(und), gen


@functools.cache
def params(config: LlmConfig = CONFIG) -> dict:
  made = jax.eval_shape(
    lambda: Llm(config).init(jax.random.key(0), TOKENS, IDS, method=everything)
  )
  rng = np.random.default_rng(1)
  out = {}
  for path, leaf in rules.flatten(nn.unbox(made)["params"]).items():
    center = 1.0 if path.endswith(("scale", "q_norm", "k_norm")) else 0.0
    out[path] = np.float32(rng.normal(center, 0.2, leaf.shape))
  return rules.unflatten(out)


def branches_alike(tree: dict) -> dict:
  flat = rules.flatten(tree)
  for path in flat:
    for pattern, origin in COPIES:
      match = re.fullmatch(pattern, path)
      if match:
        flat[path] = flat[match.expand(origin)]
  return rules.unflatten(flat)


@functools.partial(
  jax.jit, static_argnames=("config", "return_kv"), compiler_options=tiny.QUICK
)
def run(
  config, params, und, gen, und_ids, gen_ids, cache=None, return_kv=False
):
  """Words (B, L) of each buffer, or None -> (und, gen, cache)."""
  llm = Llm(config).bind({"params": params})
  embed = lambda t: None if t is None else llm.embed(t)
  return llm(embed(und), embed(gen), und_ids, gen_ids, cache, return_kv)


def halves(config=CONFIG, tree=None, run=run):
  """Odd words in the Und buffer, even ones in the Gen buffer: (und, gen)."""
  tree = params(config) if tree is None else tree
  odd, even = slice(1, None, 2), slice(0, None, 2)
  und, gen, _ = run(
    config,
    tree,
    TOKENS[:, odd],
    TOKENS[:, even],
    part(IDS, odd),
    part(IDS, even),
  )
  return und, gen


@functools.cache
def qwen3() -> tuple[np.ndarray, np.ndarray]:
  """Plain Qwen3 with the Und branch's weights: (logits, hidden)."""
  fields = {
    f.name: getattr(CONFIG, f.name) for f in dataclasses.fields(Qwen3Config)
  }
  flat, layers = rules.flatten(params()), {}
  for depth in ("shallow", "deep"):
    for path, w in flat.items():
      where, _, name = path.partition("/")
      owner, _, name = name.partition("/")
      if where == depth and owner in ("und", "shared"):
        layers.setdefault(f"layers/block/{name}", []).append(w)
  tree = {k: np.concatenate(v) for k, v in layers.items()}
  tree |= {
    "embed": flat["embed"],
    "lm_head": flat["lm_head"],
    "norm/scale": flat["norm_und/scale"],
  }
  logits, hidden = jax.jit(Qwen3(neutral.qwen3_config(**fields)).apply)(
    {"params": rules.unflatten(tree)}, TOKENS
  )
  return logits, hidden[-1]


def test_without_gen_tokens_it_is_qwen3_exactly():
  @jax.jit
  def ours(params):
    llm = Llm(CONFIG).bind({"params": params})
    und, gen, _ = llm(llm.embed(TOKENS), None, IDS, None)
    assert gen is None
    return llm.logits(und), und

  for got, want in zip(ours(params()), qwen3()):
    np.testing.assert_array_equal(got, want)


def test_text_through_the_gen_weights_is_the_same_at_the_start():
  """The branches start as copies, so the buffer of a word does not matter."""
  tree = branches_alike(params())
  und, _, _ = run(CONFIG, tree, TOKENS, None, IDS, None)
  _, gen, _ = run(CONFIG, tree, None, TOKENS, None, IDS)
  np.testing.assert_array_equal(und, gen)
  odd, even = halves(tree=tree)
  np.testing.assert_allclose(odd, und[:, 1::2], atol=1e-5)
  np.testing.assert_allclose(even, und[:, ::2], atol=1e-5)
  # And does matter once they differ.
  assert np.abs(halves()[1] - gen[:, ::2]).max() > 1e-2


def test_only_the_shallow_queries_and_keys_are_shared():
  shared = {p for p in rules.flatten(params()) if "shared" in p}
  assert shared == {
    f"shallow/shared/qk/{n}" for n in ("q", "k", "q_norm", "k_norm")
  }
  flat = rules.flatten(params())
  own = lambda branch: {p.replace(branch, "*") for p in flat if branch in p}
  assert own("/und/") == own("/gen/")
  deep = {p.split("/")[2] for p in flat if p.startswith("deep/und/")}
  assert deep == set(PARTS)
  assert not any("shared" in p for p in rules.flatten(params(DECOUPLED)))
  assert not any(
    "und" in p or "gen" in p for p in rules.flatten(params(SHARED))
  )


def test_all_shared_does_not_know_the_buffers():
  whole, _, _ = run(SHARED, params(SHARED), TOKENS, None, IDS, None)
  und, gen = halves(SHARED)
  np.testing.assert_allclose(und, whole[:, 1::2], atol=1e-5)
  np.testing.assert_allclose(gen, whole[:, ::2], atol=1e-5)


def test_each_weight_multiplies_only_its_own_tokens():
  """Spoiled Gen weights leave a text as it was, and the other way round."""
  spoil = lambda branch: rules.unflatten(
    {
      p: w * np.nan if f"/{branch}/" in p or p == f"norm_{branch}/scale" else w
      for p, w in rules.flatten(params()).items()
    }
  )
  for branch, buffers in (
    ("gen", (TOKENS, None, IDS, None)),
    ("und", (None, TOKENS, None, IDS)),
  ):
    clean = run(CONFIG, params(), *buffers)
    for a, b in zip(clean, run(CONFIG, spoil(branch), *buffers)):
      if a is not None:
        np.testing.assert_array_equal(a, b)
        assert np.isfinite(b).all()


@functools.cache
def loss_and_gradients(config):
  def loss(params):
    und, gen = halves(config, params, run.__wrapped__)
    return (und * jnp.sin(jnp.arange(16.0))[None, None]).sum() + (gen**2).sum()

  return jax.jit(jax.value_and_grad(loss), compiler_options=tiny.QUICK)(
    params()
  )


@pytest.mark.parametrize(
  "change",
  [
    dict(scan_unroll=4),
    dict(remat="full"),
    dict(remat="dots"),
    dict(remat="names:attn_out,mlp_gate,mlp_up"),
    dict(remat="full", attention="chunked"),
    dict(remat="names:attn_out", attention="chunked"),
    dict(remat="names:attn_out", attention="kernel"),
  ],
)
def test_unrolling_and_rematerialising_change_nothing(change):
  want, want_grads = loss_and_gradients(CONFIG)
  got, got_grads = loss_and_gradients(dataclasses.replace(CONFIG, **change))
  np.testing.assert_allclose(got, want, rtol=1e-5)
  size = max(np.abs(g).max() for g in jax.tree.leaves(want_grads))
  for a, b in zip(jax.tree.leaves(got_grads), jax.tree.leaves(want_grads)):
    np.testing.assert_allclose(a, b, atol=1e-5 * size)


def test_scan_equals_a_loop_over_sliced_weights():
  odd, even = slice(1, None, 2), slice(0, None, 2)
  embed = params()["embed"]
  xs = embed[TOKENS[:, odd]], embed[TOKENS[:, even]]
  ids = part(IDS, odd), part(IDS, even)
  for name, shared in (("shallow", ("qk",)), ("deep", ())):
    block = jax.jit(Block(CONFIG, shared, False).apply)
    for i in range(2):
      weights = jax.tree.map(lambda w, i=i: w[i], params()[name])
      xs, _ = block({"params": weights}, xs, None, ids, None)
  for x, name, want in zip(xs, ("und", "gen"), halves()):
    x = x / np.sqrt((np.asarray(x) ** 2).mean(-1, keepdims=True) + 1e-6)
    scale = params()[f"norm_{name}"]["scale"][None, None]
    np.testing.assert_allclose(x * scale, want, atol=1e-5)


def test_the_order_in_the_buffers_does_not_matter():
  und, gen = halves()
  p, q = RNG.permutation(4), RNG.permutation(4)
  odd, even = np.arange(1, 8, 2)[p], np.arange(0, 8, 2)[q]
  moved_und, moved_gen, _ = run(
    CONFIG,
    params(),
    TOKENS[:, odd],
    TOKENS[:, even],
    part(IDS, odd),
    part(IDS, even),
  )
  np.testing.assert_allclose(moved_und, und[:, p], atol=1e-5)
  np.testing.assert_allclose(moved_gen, gen[:, q], atol=1e-5)


@pytest.mark.parametrize("attention", ["plain", "chunked"])
def test_cached_equals_uncached(attention):
  """Word by word behind a cache, the last half through the Gen branch."""
  config = dataclasses.replace(CONFIG, attention=attention)
  und, gen, _ = run(
    config,
    params(),
    TOKENS[:, :4],
    TOKENS[:, 4:],
    part(IDS, slice(4)),
    part(IDS, slice(4, 8)),
  )
  first, _, cache = run(
    config,
    params(),
    TOKENS[:, :2],
    None,
    part(IDS, slice(2)),
    None,
    return_kv=True,
  )
  np.testing.assert_allclose(first, und[:, :2], atol=1e-5)
  join = lambda a, b: dataclasses.replace(
    a,
    key_ZBSKE=np.concatenate([a.key_ZBSKE, b.key_ZBSKE], 2),
    value_ZBSKE=np.concatenate([a.value_ZBSKE, b.value_ZBSKE], 2),
    ids=masks.join(a.ids, b.ids),
  )
  second, _, new = run(
    config,
    params(),
    TOKENS[:, 2:4],
    None,
    part(IDS, slice(2, 4)),
    None,
    cache,
    return_kv=True,
  )
  np.testing.assert_allclose(second, und[:, 2:], atol=1e-5)
  assert new.key_ZBSKE.shape == (4, 1, 2, 2, 8)  # only what is new
  _, last, _ = run(
    config,
    params(),
    None,
    TOKENS[:, 4:],
    None,
    part(IDS, slice(4, 8)),
    join(cache, new),
  )
  np.testing.assert_allclose(last, gen, atol=1e-5)


def test_an_empty_place_of_the_cache_is_never_seen():
  _, _, cache = run(
    CONFIG,
    params(),
    TOKENS[:, :4],
    None,
    part(IDS, slice(4)),
    None,
    return_kv=True,
  )
  want, _, _ = run(
    CONFIG, params(), TOKENS[:, 4:], None, part(IDS, slice(4, 8)), None, cache
  )
  pad = lambda x, axis: np.concatenate(
    [x, np.full_like(np.take(x, [0, 1], axis), 7)], axis
  )
  ids = jax.tree.map(lambda x: pad(x, 1), cache.ids)
  ids.segment[:, 4:] = 0
  wide = dataclasses.replace(
    cache,
    key_ZBSKE=pad(cache.key_ZBSKE, 2),
    value_ZBSKE=pad(cache.value_ZBSKE, 2),
    ids=ids,
  )
  got, _, _ = run(
    CONFIG, params(), TOKENS[:, 4:], None, part(IDS, slice(4, 8)), None, wide
  )
  np.testing.assert_allclose(got, want, atol=1e-5)


def test_errors_say_what_is_wrong():
  with pytest.raises(ValueError, match="Unknown part 'ffn'"):
    dataclasses.replace(CONFIG, deep_shared=("ffn",))
  with pytest.raises(ValueError, match="not in 0..self.num_layers=4"):
    dataclasses.replace(CONFIG, num_shallow=5)
  assert tiny.emma().config.llm.num_shallow == 1
