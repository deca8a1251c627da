"""Qwen3 against `transformers`: everything a port gets wrong without an error.

Skipped without torch. Models and inputs are in `reference_qwen3`.
"""

import dataclasses
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emma_jax import losses, rules
from emma_jax.convert import files, qwen3, table
from emma_jax.models import masks
from emma_jax.models.attention import rope
from emma_jax.models.layers import rms_norm
from emma_jax.models.llm import Llm
from emma_jax.models.qwen3 import PARTS
from emma_jax.structs import KvCache, TokenIds

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("exact_products")]

from tests import neutral
from tests.convert import reference_qwen3 as ref


def check(kind: str, name: str):
  c = ref.case(name)
  found = ref.errors(ref.ours(*ref.imported(kind), c), ref.theirs(kind, c), c)
  print(f"{kind} {name}: worst error {max(found):.1e}")
  assert len(found) == 2 + ref.SIZES["num_hidden_layers"]
  assert max(found) < c.tolerance, found


@pytest.mark.parametrize("kind", list(ref.KINDS))
def test_logits_and_every_hidden_state(kind: str):
  check(kind, "plain")


@pytest.mark.parametrize("kind", ["tied", "untied"])
@pytest.mark.parametrize("name", list(ref.CASES)[1:])
def test_padding_positions_packing_and_masks(kind: str, name: str):
  check(kind, name)


def test_packing_means_each_alone():
  """The reference's packed rows are its own separate sequences."""
  c = ref.case("packed")
  both = ref.ours(*ref.imported("tied"), c)[0]
  alone = ref.theirs("tied", ref.Case(c.tokens[:1, 4:], {}))[0]
  assert ref.error(both[:1, 4:], alone) < ref.TOLERANCE


# ------------------------------------------------------------- precision


def test_bfloat16_is_within_four_percent(tmp_path: Path):
  ref.reference("tied").save_pretrained(tmp_path)
  module, params = qwen3.load(tmp_path, dtype="bfloat16")
  assert all(x.dtype == jnp.bfloat16 for x in jax.tree.leaves(params))
  for name in ("plain", "left", "packed", "bidirectional"):
    c = ref.case(name)
    got = ref.ours(module.config, params, c)
    found = ref.errors(got, ref.theirs("tied", c), c)
    print(f"bfloat16 {name}: worst error {max(found):.1e}")
    assert max(found) < 0.04, (name, found)


def test_rms_norm_rounds_where_the_reference_does():
  """Scaling before the cast would differ in a quarter of the values."""
  rng = np.random.default_rng(0)
  x, w = rng.normal(size=(64, 96)), rng.normal(1, 0.3, 96)
  norm = transformers.models.qwen3.modeling_qwen3.Qwen3RMSNorm(96).bfloat16()
  with torch.no_grad():
    norm.weight.copy_(torch.from_numpy(w))
    want = norm(torch.from_numpy(x).bfloat16()).float().numpy()
  bf16 = lambda v: jnp.asarray(v, jnp.float32).astype(jnp.bfloat16)
  got = np.asarray(rms_norm(bf16(x), bf16(w), 1e-6), np.float32)
  assert np.mean(got != want) < 0.01


@pytest.mark.parametrize("theta", [1e4, 1e6, 5e6])
def test_far_angles_are_those_of_the_reference(theta: float):
  """One bit in a frequency would be 2e-3 at these positions."""
  config = transformers.Qwen3Config(
    head_dim=128, rope_parameters=dict(rope_type="default", rope_theta=theta)
  )
  rotary = transformers.models.qwen3.modeling_qwen3.Qwen3RotaryEmbedding(config)
  position = np.arange(0, 40960, 119)[None]
  cos, sin = rotary(torch.zeros(1), torch.from_numpy(position))
  unit = jnp.zeros((1, position.size, 1, 128)).at[..., :64].set(1)
  turned = jax.jit(rope, static_argnums=2)(unit, jnp.asarray(position), theta)
  got = np.split(np.asarray(turned)[:, :, 0], 2, axis=-1)
  for ours, theirs in zip(got, (cos, sin)):
    np.testing.assert_allclose(ours, theirs[..., :64].numpy(), atol=1e-4)


# ------------------------------------------------------------- gradients


def test_loss_and_the_gradient_of_every_weight():
  for kind in ("tied", "untied"):
    model, (config, params) = ref.reference(kind), ref.imported(kind)
    c = ref.case("plain")
    labels = c.tokens.copy()
    labels[0, :5], labels[2, 7:] = -100, -100
    model.zero_grad()
    loss = model(
      torch.from_numpy(c.tokens), labels=torch.from_numpy(labels)
    ).loss
    loss.backward()
    want = {k: x.grad.numpy() for k, x in model.named_parameters()}
    model.zero_grad()

    def ours(params, config=config, labels=labels, tokens=c.tokens):
      logits = ref.apply(config, params, tokens, None, None, None)[0]
      targets = jnp.asarray(labels[:, 1:])
      kept = (targets != -100).astype(jnp.float32)
      return losses.next_token(logits[:, :-1], jnp.maximum(targets, 0), kept)[
        0
      ].value

    value, grads = jax.jit(jax.value_and_grad(ours))(params)
    assert abs(float(value) / loss.item() - 1) < ref.TOLERANCE
    got = dict(table.write(grads, qwen3.entries(config)))
    assert set(got) == set(want)
    found = {k: ref.error(got[k], want[k]) for k in want}
    worst = max(found, key=found.get)
    print(f"gradients, {kind}: worst error {found[worst]:.1e} ({worst})")
    assert found[worst] < ref.TOLERANCE, found


# -------------------------------------------------------------- decoding


def as_llm(config, params) -> tuple[Llm, dict]:
  """The decoder with a cache: EMMA's, with everything shared."""
  own = dataclasses.asdict(config) | dict(num_shallow=config.num_layers)
  llm = Llm(
    neutral.llm_config(
      **own, shallow_shared=PARTS, deep_shared=PARTS, final_norm_shared=True
    )
  )
  tree = {
    "embed": params["embed"],
    "norm_shared": params["norm"],
    "shallow": {"shared": params["layers"]["block"]},
  }
  return llm, tree | {k: v for k, v in params.items() if k == "lm_head"}


def forward(m: Llm, tokens, ids, cache):
  """Logits of the last column, and the cache of these tokens."""
  hidden, _, new = m(m.embed(tokens), None, ids, None, cache, True)
  return m.logits(hidden[:, -1]), new


def put(cache: KvCache, new: KvCache, column: int) -> KvCache:
  at = lambda axis: (
    lambda old, x: jax.lax.dynamic_update_slice_in_dim(old, x, column, axis)
  )
  return KvCache(
    key_ZBSKE=at(2)(cache.key_ZBSKE, new.key_ZBSKE),
    value_ZBSKE=at(2)(cache.value_ZBSKE, new.value_ZBSKE),
    ids=jax.tree.map(at(1), cache.ids, new.ids),
  )


def greedy(config, params, c, room: int) -> tuple[np.ndarray, KvCache]:
  """Likeliest continuation of left-padded prompts, and the prompts' cache."""
  llm, tree = as_llm(config, params)

  @jax.jit
  def step(tree, tokens, ids, cache):
    return llm.apply({"params": tree}, tokens, ids, cache, method=forward)

  int32 = lambda x: jnp.asarray(x, jnp.int32)
  ids = masks.causal(int32(c.segment), int32(c.position))
  logits, prompt = step(tree, int32(c.tokens), ids, None)
  grow = lambda axis: (
    lambda x: jnp.pad(x, [(0, room * (a == axis)) for a in range(x.ndim)])
  )
  cache = KvCache(
    key_ZBSKE=grow(2)(prompt.key_ZBSKE),
    value_ZBSKE=grow(2)(prompt.value_ZBSKE),
    ids=jax.tree.map(grow(1), prompt.ids),
  )
  length, out = c.tokens.shape[1], []
  ones = jnp.ones((len(c.tokens), 1), jnp.int32)
  for i in range(room):
    out.append(jnp.argmax(logits, axis=-1)[:, None])
    slot = ones * (length + i)
    ids = TokenIds(
      segment=ones,
      order=slot,
      last_visible=slot,
      noise_group=ones * 0,
      position=int32(c.position[:, -1:]) + i + 1,
    )
    logits, new = step(tree, int32(out[-1]), ids, cache)
    cache = put(cache, new, length + i)
  return np.concatenate(out, axis=1), prompt


@pytest.mark.parametrize("kind", ["tied", "untied"])
def test_greedy_decoding_of_padded_prompts_equals_generate(kind: str):
  """Three left-padded prompts over a cache; the cached keys too."""
  model, room, c = ref.reference(kind), 16, ref.case("left")
  got, prompt = greedy(*ref.imported(kind), c, room)
  mask = c.theirs["attention_mask"]
  with torch.no_grad():
    want = model.generate(
      torch.from_numpy(c.tokens),
      attention_mask=mask,
      do_sample=False,
      max_new_tokens=room,
      min_new_tokens=room,
      pad_token_id=0,
    )
    cached = model(
      torch.from_numpy(c.tokens), use_cache=True, **c.theirs
    ).past_key_values
    ignored = model(
      torch.from_numpy(c.tokens), attention_mask=mask, use_cache=True
    ).past_key_values
  np.testing.assert_array_equal(got, want[:, c.tokens.shape[1] :].numpy())
  assert len(np.unique(got)) >= 5, "a model that repeats itself shows little"
  for i in range(ref.SIZES["num_hidden_layers"]):
    valid = lambda x: x.numpy().transpose(0, 2, 1, 3)[c.valid]
    keys = np.asarray(prompt.key_ZBSKE[i])[c.valid]
    values = np.asarray(prompt.value_ZBSKE[i])[c.valid]
    assert ref.error(keys, valid(cached.layers[i].keys)) < ref.TOLERANCE
    assert ref.error(values, valid(cached.layers[i].values)) < ref.TOLERANCE
    # Positions that count the padding leave the logits alone, not the keys.
    assert ref.error(keys, valid(ignored.layers[i].keys)) > 0.1


# ----------------------------------------------------------------- files


def same(a: dict, b: dict):
  a, b = rules.flatten(a), rules.flatten(b)
  assert set(a) == set(b)
  for path, x in a.items():
    np.testing.assert_array_equal(x, b[path], err_msg=path)


@pytest.mark.parametrize("kind", ["tied", "untied"])
def test_shards_and_both_dialects_give_the_same(tmp_path: Path, kind: str):
  config, params = ref.imported(kind)
  ref.reference(kind).save_pretrained(tmp_path, max_shard_size="10KB")
  assert len(list(tmp_path.glob("*.safetensors"))) > 2
  module, got = qwen3.load(tmp_path)
  assert module.config == config
  same(got, params)
  new = json.loads((tmp_path / "config.json").read_text())
  assert "rope_parameters" in new, "not the dialect of transformers 5"
  old = {k: v for k, v in new.items() if k not in ("rope_parameters", "dtype")}
  old |= dict(
    rope_theta=config.rope_theta, rope_scaling=None, torch_dtype="float32"
  )
  (tmp_path / "config.json").write_text(json.dumps(old))
  module, got = qwen3.load(tmp_path)
  assert module.config == config
  same(got, params)


def test_bfloat16_files(tmp_path: Path):
  model = ref.reference("untied")
  half = transformers.Qwen3ForCausalLM(model.config)
  half.load_state_dict(model.state_dict())
  half.bfloat16().save_pretrained(tmp_path)
  stored = files.Folder.open(tmp_path)
  assert {stored.dtype(name) for name in stored.names()} == {
    jnp.dtype("bfloat16")
  }
  _, got = qwen3.load(tmp_path, dtype=None)
  _config, params = ref.imported("untied")
  same(got, jax.tree.map(lambda x: x.astype(jnp.bfloat16), params))


@pytest.mark.parametrize("kind", ["tied", "untied"])
@pytest.mark.parametrize("limit", [5e9, 10_000], ids=["single", "shards"])
def test_an_export_is_the_model_again(tmp_path: Path, kind: str, limit: float):
  model = ref.reference(kind)
  qwen3.save(tmp_path, *ref.imported(kind), max_shard_bytes=limit)
  again, info = transformers.Qwen3ForCausalLM.from_pretrained(
    tmp_path, attn_implementation="eager", output_loading_info=True
  )
  assert not any(info.values()), info
  want = model.state_dict()
  assert set(again.state_dict()) == set(want)
  for name, x in again.state_dict().items():
    assert torch.equal(x, want[name]), name
  a, b = again.config.to_dict(), model.config.to_dict()
  for key in (
    *ref.SIZES,
    "rope_parameters",
    "rms_norm_eps",
    "layer_types",
    "tie_word_embeddings",
    "sliding_window",
    "attention_bias",
  ):
    assert a[key] == b[key], key
  tokens = torch.from_numpy(ref.case("plain").tokens)
  with torch.no_grad():
    assert torch.equal(again.eval()(tokens).logits, model(tokens).logits)
