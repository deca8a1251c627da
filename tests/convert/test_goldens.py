"""Published folders give the published numbers, with no torch installed.

Folders in the formats of transformers and diffusers, made of fixed noise, come
in by the converters' own door; what the models then compute is what the
reference implementations gave (`tests/goldens`). Out again, they are the same
tensors under the same names.
"""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emma_jax import losses, rules
from emma_jax.convert import assembly, dcae, files, qwen3, siglip, table
from emma_jax.models import masks, naflex
from emma_jax.models.llm import Llm
from emma_jax.models.qwen3 import PARTS, Qwen3
from tests import neutral
from tests.convert import published
from tests.goldens import dcae as dcae_golden
from tests.goldens import qwen3 as qwen3_golden
from tests.goldens import siglip as siglip_golden
from tests.goldens import store
from tests.tiny import QUICK

# Both round, but torch and XLA not always in the same places.
BFLOAT16 = store.Tolerance(of_mean=3e-2)
KINDS = list(qwen3_golden.CONFIGS)

pytestmark = pytest.mark.usefixtures("exact_products")


def run(f, *args):
  """Compiled at once and quickly: each program runs once."""
  return jax.jit(f, compiler_options=QUICK)(*args)


def check(family, case: str, made: dict, tolerance=store.FLOAT32):
  name = family.__name__.rpartition(".")[2]
  made = {k: np.asarray(x, np.float32) for k, x in made.items()}
  store.check(name, case, made, tolerance, family.KEPT)


# ------------------------------------------------------------------- Qwen3


@pytest.fixture(scope="module", params=KINDS)
def decoder(request, tmp_path_factory):
  """(kind, folder, module, parameters)."""
  kind = request.param
  folder = qwen3_golden.write(tmp_path_factory.mktemp("q") / kind, kind)
  return kind, folder, *qwen3.load(folder)


def named(logits, hidden) -> dict:
  return {"logits": logits} | {f"hidden.{i}": x for i, x in enumerate(hidden)}


def test_qwen3_computes_what_transformers_does(decoder):
  """Logits and every hidden state; of one kind the loss and gradients."""
  kind, _, module, params = decoder
  tokens = qwen3_golden.tokens(kind)

  def loss(params):
    logits, hidden = module.apply({"params": params}, tokens)
    ones = jnp.ones(tokens[:, 1:].shape, jnp.float32)
    value = losses.next_token(logits[:, :-1], tokens[:, 1:], ones)[0].value
    return value, (logits, hidden)

  if kind != qwen3_golden.DIFFERENTIATED:
    _, out = run(loss, params)
    check(qwen3_golden, f"{kind} float32", named(*out))
    return
  (value, out), gradients = run(jax.value_and_grad(loss, has_aux=True), params)
  check(qwen3_golden, f"{kind} float32", named(*out))
  written = table.write(gradients, qwen3.entries(module.config))
  kept = {name: x for name, x in written if qwen3_golden.layer_1(name)}
  check(qwen3_golden, f"{kind} gradients", {"loss": value} | kept)


def test_qwen3_in_bfloat16(decoder):
  kind, folder, _, _ = decoder
  module, params = qwen3.load(folder, dtype="bfloat16")
  assert {x.dtype for x in jax.tree.leaves(params)} == {jnp.dtype("bfloat16")}
  out = run(
    lambda p, x: module.apply({"params": p}, x),
    params,
    qwen3_golden.tokens(kind),
  )
  check(qwen3_golden, f"{kind} bfloat16", named(*out), BFLOAT16)


def test_decoding_behind_a_cache(tmp_path: Path):
  """In EMMA's decoder, whose Und branch the import becomes: transformers gave
  token after token, here those after the prompt come in one pass."""
  kind, prompt = qwen3_golden.DECODED, qwen3_golden.PROMPT
  folder = qwen3_golden.write(tmp_path, kind)
  published_config = qwen3.load(folder)[0].config
  config = neutral.llm_config(
    **dataclasses.asdict(published_config),
    num_shallow=1,
    shallow_shared=("qk",),
    deep_shared=PARTS,
    final_norm_shared=False,
  )
  params = rules.unflatten(
    {
      path.removeprefix("llm/"): leaf
      for path, leaf in assembly._llm(config, qwen3.open_folder(folder).leaves)
    }
  )
  llm, tokens = Llm(config), qwen3_golden.tokens(kind)

  def step(m, tokens, start, cache):
    at = jnp.arange(start, start + tokens.shape[1])[None] + 0 * tokens
    ids = masks.causal(jnp.ones_like(tokens), at).replace(
      order=at, last_visible=at
    )
    hidden, _, new = m(m.embed(tokens), None, ids, None, cache, True)
    return m.logits(hidden), new

  def decode(params, tokens):
    call = lambda *a: llm.apply({"params": params}, *a, method=step)
    first, old = call(tokens[:, :prompt], 0, None)
    then, new = call(tokens[:, prompt:], prompt, old)
    logits = jnp.concatenate([first[:, -1:], then], axis=1)
    join = lambda a, b: jnp.concatenate([a, b], axis=2)
    return (
      logits,
      join(old.key_ZBSKE, new.key_ZBSKE),
      join(old.value_ZBSKE, new.value_ZBSKE),
    )

  logits, keys, values = run(decode, params, tokens)
  made = {f"logits.{i}": logits[:, i] for i in range(logits.shape[1])}
  made |= {f"keys.{i}": x for i, x in enumerate(keys)}
  made |= {f"values.{i}": x for i, x in enumerate(values)}
  check(qwen3_golden, f"{kind} decoding", made)


def test_qwen3_goes_out_as_it_came(decoder, tmp_path: Path):
  """By name, not by way of our own import; the config's values too."""
  kind, _, module, params = decoder
  qwen3.save(tmp_path, module.config, params)
  published.assert_equal(published.read(tmp_path), qwen3_golden.tensors(kind))
  config = files.Folder.open(tmp_path).config
  wanted = dict(qwen3_golden.CONFIGS[kind])
  for key in ("max_position_embeddings", "max_window_layers", "torch_dtype"):
    wanted.pop(key, None)  # change no output
  assert {key: config[key] for key in wanted} == wanted
  # Transformers 4 reads the base in one place, 5 in another.
  theta = wanted.get("rope_theta") or wanted["rope_parameters"]["rope_theta"]
  assert config["rope_theta"] == theta
  assert config["rope_parameters"] == {
    "rope_theta": theta,
    "rope_type": "default",
  }


def test_the_und_branch_goes_out_as_the_published_decoder(
  decoder, tmp_path: Path
):
  kind, folder, module, _ = decoder
  config = neutral.llm_config(
    **dataclasses.asdict(module.config),
    num_shallow=1,
    shallow_shared=(),
    deep_shared=("qk", "o"),
    final_norm_shared=False,
  )
  params = dict(assembly._llm(config, qwen3.open_folder(folder).leaves))
  # A Gen branch that training has changed must not be what comes out.
  params = {path: x + 1 if "gen" in path else x for path, x in params.items()}
  tree = rules.unflatten(params)["llm"]
  sizes, und = assembly.und_branch(config, tree)
  assert sizes == module.config and Qwen3(sizes) == module
  qwen3.save(tmp_path, sizes, und)
  published.assert_equal(published.read(tmp_path), qwen3_golden.tensors(kind))


# ------------------------------------------------------------------ SigLIP


def outputs(out, picture=slice(None)) -> dict:
  return {
    "patches": out.patches_PTD[picture],
    "pooled": out.pooled_PD[picture],
  } | {f"state.{i}": x[picture] for i, x in enumerate(out.states_ZPTD)}


@pytest.mark.parametrize(
  "kind, name",
  [
    (kind, name)
    for kind, sizes in siglip_golden.PICTURES.items()
    for name in sizes
  ],
)
def test_siglip_computes_what_transformers_does(
  tmp_path: Path, kind: str, name: str
):
  module, params = siglip.load(siglip_golden.write(tmp_path, kind))
  x = siglip_golden.pixels(f"{kind} {name}", siglip_golden.PICTURES[kind][name])
  out = run(lambda p, x: module.apply({"params": p}, x), params, x)
  check(siglip_golden, f"{kind} {name}", outputs(out))


def test_naflex_computes_what_transformers_does(tmp_path: Path):
  """Two aspect ratios in one row: alone they are what they are together."""
  module, params = siglip.load(siglip_golden.write(tmp_path, "naflex"))
  grids = siglip_golden.GRIDS
  count = sum(h * w for h, w in grids)
  row, sizes = naflex.pack(
    siglip_golden.flexible_pixels(), 4, count + 3, len(grids)
  )
  packed = naflex.PackedVision(module.config)
  out = run(
    lambda p, *x: packed.apply({"params": p}, *x),
    params,
    row[None],
    sizes[None],
  )
  start = 0
  for i, (h, w) in enumerate(grids):
    part = slice(start, start + h * w)
    made = {
      "patches": out.patches_PTD[:, part],
      "pooled": out.pooled_PD[:, i],
    } | {f"state.{n}": x[:, part] for n, x in enumerate(out.states_ZPTD)}
    check(siglip_golden, f"naflex {h}x{w}", made)
    start += h * w


@pytest.mark.parametrize("kind", siglip_golden.CONFIGS)
def test_siglip_goes_out_as_it_came(tmp_path: Path, kind: str):
  """By name, not by way of our own import; the config's values too."""
  module, params = siglip.load(siglip_golden.write(tmp_path / "in", kind))
  siglip.save(
    tmp_path / "out", module.config, params, siglip_golden.PREFIX[kind]
  )
  published.assert_equal(
    published.read(tmp_path / "out"), siglip_golden.tensors(kind)
  )
  config = files.Folder.open(tmp_path / "out").config
  wanted = siglip_golden.vision(kind)
  assert {key: config[key] for key in wanted} == wanted


# -------------------------------------------------------------------- DC-AE


@pytest.mark.parametrize("kind", dcae_golden.CONFIGS)
def test_dcae_computes_what_diffusers_does(tmp_path: Path, kind: str):
  """Latents times the factor, and pictures of such latents.

  And goes out as it came: by name, not by way of our own import.
  """
  module, params = dcae.load(dcae_golden.write(tmp_path / "in", kind))

  def both(params, picture, latents):
    call = lambda x, method: module.apply({"params": params}, x, method=method)
    return {
      "latents": call(picture, "encode_normalised"),
      "picture": call(latents, "decode_normalised"),
    }

  check(
    dcae_golden,
    kind,
    run(both, params, dcae_golden.picture(kind), dcae_golden.latents(kind)),
  )

  dcae.save(tmp_path / "out", module.config, params)
  published.assert_equal(
    published.read(tmp_path / "out"), dcae_golden.tensors(kind)
  )
  config = files.Folder.open(tmp_path / "out").config
  for key, value in dcae_golden.CONFIGS[kind].items():
    if isinstance(value, str) and isinstance(config[key], list):
      value = [value] * 3
    if key == "downsample_block_type" and value == "Conv":
      value = "conv"  # any word but pixel_unshuffle means it
    assert key == "_diffusers_version" or config[key] == value, key
  assert {p.name for p in (tmp_path / "out").iterdir()} == {
    "config.json",
    f"{dcae_golden.STEM}.safetensors",
  }
