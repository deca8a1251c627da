"""Sections to models: errors name the key, and the 4B has the right size."""

import dataclasses
import json

import jax
import ml_collections
import numpy as np
import pytest

from configs import models
from emma_jax import rules
from emma_jax.build import data as build_data
from emma_jax.build import model as build_model
from emma_jax.build import run as build_run
from emma_jax.build import sections
from emma_jax.build import session as build_session
from emma_jax.models import dcae_sizes
from emma_jax.models.adapters import FusionConfig
from emma_jax.models.emma import Emma, Latents
from emma_jax.structs import Batch, TokenIds
from tests import tiny

# Millions in paper.md, exact here; per layer of Qwen3-4B.
Q, K, V, OUT = 2560 * 4096, 2560 * 1024, 2560 * 1024, 4096 * 2560
FFN, HEAD_NORMS, NORMS = 3 * 2560 * 9728, 2 * 128, 2 * 2560


def emma_4b(num_shallow: int = 18) -> ml_collections.ConfigDict:
  """Qwen3-4B twice, SigLIP2-so400m/16 at 512 with experts, DC-AE of SANA."""
  m = models.tiny()
  m.dtype = "bfloat16"
  m.llm.update(
    vocab_size=151936,
    width=2560,
    mlp_width=9728,
    num_layers=36,
    num_shallow=num_shallow,
    num_heads=32,
    num_kv_heads=8,
    head_dim=128,
    rope_theta=1e6,
    tie_embeddings=True,
    scan_unroll=1,
  )
  m.vision.encoder.update(
    width=1152,
    mlp_width=4304,
    num_layers=27,
    num_heads=16,
    native_grid=32,
    scan_unroll=1,
  )
  m.vision.update(num_expert_layers=3, router_width=1152)
  m.autoencoder = ml_collections.ConfigDict(
    {"kind": "dcae"} | dataclasses.asdict(dcae_sizes.SANA_F32C32)
  )
  return m


@pytest.fixture(scope="module")
def full() -> build_model.Model:
  before = sum(x.nbytes for x in jax.live_arrays())
  model = build_model.model(emma_4b())
  # Shapes alone: not one weight has been allocated.
  assert sum(x.nbytes for x in jax.live_arrays()) - before < 1e6
  leaves = jax.tree.leaves(model.shapes)
  assert all(isinstance(x, jax.ShapeDtypeStruct) for x in leaves)
  return model


def sizes(model: build_model.Model) -> dict[str, int]:
  return {
    p: int(np.prod(x.shape)) for p, x in rules.flatten(model.shapes).items()
  }


def test_the_und_branch_of_the_4b_is_qwen3_4b(full):
  llm = {p: n for p, n in sizes(full).items() if p.startswith("llm/")}
  assert not any("lm_head" in p for p in llm)  # tied
  gen = sum(n for p, n in llm.items() if "gen" in p)
  assert sum(llm.values()) - gen == 4_022_468_096


def test_the_gen_branch_stores_all_but_shallow_queries_and_keys(full):
  gen = sum(
    n for p, n in sizes(full).items() if p.startswith("llm/") and "gen" in p
  )
  layer = Q + K + V + OUT + FFN + HEAD_NORMS + NORMS
  assert gen == 36 * layer + 2560 - 18 * (Q + K + HEAD_NORMS)
  assert gen == 3_397_577_728


@pytest.mark.parametrize("num_shallow, millions", [(0, 3634), (36, 3162)])
def test_the_gen_branch_at_the_ends_of_the_sweep(num_shallow, millions):
  llm = emma_4b(num_shallow).llm
  m = tiny.model()
  m.llm = llm
  model = build_model.model(m)
  gen = sum(
    n for p, n in sizes(model).items() if p.startswith("llm/") and "gen" in p
  )
  assert round(gen / 1e6) == millions


def test_encoders_and_adapters_of_the_4b(full):
  of = lambda name: sum(n for p, n in sizes(full).items() if p.startswith(name))
  assert of("vision/stem/") == of("vision/versatile/") == 45_718_512
  shapes = rules.flatten(full.shapes)
  fc1 = shapes["adapters/gen/fuse/fc1/kernel"]
  assert fc1.shape == (4608 + 32, 2560)
  assert shapes["heads/velocity/kernel"].shape == (2560, 32)


def test_a_picture_of_512_costs_the_4b_256_tokens(full):
  """One pass over a drawing and a question, in shapes alone."""
  S = lambda *shape, dtype="int32": jax.ShapeDtypeStruct(shape, dtype)
  ids = lambda n: TokenIds(*(S(1, n) for _ in range(5)))
  pictures = S(1, 1, 512, 512, 3, dtype="uint8")
  batch = Batch(
    tokens_BU=S(1, 300),
    visual_BU=S(1, 300),
    targets_BU=S(1, 300),
    weights_BU=S(1, 300, dtype="float32"),
    und_ids=ids(300),
    gen_ids=ids(512),
    und_pixels_BNYXC=pictures,
    und_valid_BN=S(1, 1),
    stem_BN=S(1, 1),
    ref_pixels_BRYXC=pictures,
    ref_valid_BR=S(1, 1),
    gen_pixels_BMYXC=pictures,
    gen_task_BM=S(1, 1),
  )
  emma = full.module
  latents = jax.eval_shape(
    lambda p, b: emma.apply({"params": p}, b, method=Emma.latents),
    full.shapes,
    batch,
  )
  assert isinstance(latents, Latents)
  assert latents.gen_BMTC.shape == (1, 1, 256, 32)
  out = jax.eval_shape(
    lambda p, b, z, t: emma.apply({"params": p}, b, z, z.gen_BMTC, t),
    full.shapes,
    batch,
    latents,
    S(1, 1, dtype="float32"),
  )
  assert out.hidden_BUD.shape == (1, 300, 2560)
  assert out.velocity_BMTC.shape == (1, 1, 256, 32)
  assert str(out.hidden_BUD.dtype) == "bfloat16"
  assert str(out.velocity_BMTC.dtype) == "float32"


@pytest.mark.parametrize("variant", tiny.VARIANTS)
def test_weights_are_float32_and_named_by_their_owner(variant):
  flat = rules.flatten(tiny.shapes(variant))
  assert {p.split("/")[0] for p in flat} == {
    "adapters",
    "autoencoder",
    "heads",
    "llm",
    "vision",
  }
  assert {str(x.dtype) for x in flat.values()} == {"float32"}
  assert any("stem" in p for p in flat) == (variant != "no_experts")


@pytest.mark.smoke
def test_an_unknown_key_is_named():
  section = tiny.model().fusion.to_dict() | {"shfit": 3}
  with pytest.raises(
    sections.ConfigError,
    match=r"config.model.fusion has unknown keys \['shfit'\]",
  ):
    sections.make(FusionConfig, section, "model.fusion")


def test_a_kind_of_autoencoder_that_is_none_is_named():
  model = tiny.model()
  model.autoencoder.kind = "vq"
  with pytest.raises(sections.ConfigError, match="'vq': choose one of .'dcae'"):
    build_model.emma_config(model)


def test_an_autoencoder_of_another_factor_than_a_tokens_is_refused():
  sizes = build_model.emma_config(tiny.model())
  halved = {
    f"{side}_{what}": getattr(sizes.autoencoder, f"{side}_{what}")[1:]
    for side in ("encoder", "decoder")
    for what in (
      *("block_types", "block_out_channels", "layers_per_block"),
      "qkv_multiscales",
    )
  }
  for what in ("norm_types", "act_fns"):
    key = f"decoder_{what}"
    halved[key] = getattr(sizes.autoencoder, key)[1:]
  small = dataclasses.replace(sizes.autoencoder, **halved)
  with pytest.raises(ValueError, match="have 16 pixels a side"):
    dataclasses.replace(sizes, autoencoder=small)


def test_a_missing_key_is_named():
  section = tiny.model().fusion.to_dict()
  del section["mode"]
  with pytest.raises(
    sections.ConfigError, match="config.model.fusion: .*'mode'"
  ):
    sections.make(FusionConfig, section, "model.fusion")


def test_a_value_out_of_range_is_named():
  m = tiny.model(num_shallow=9)
  with pytest.raises(
    sections.ConfigError, match="config.model.llm: .*num_shall"
  ):
    build_model.emma_config(m)
  with pytest.raises(sections.ConfigError, match="config.model.kind='gan'"):
    build_model.model({"kind": "gan"})
  with pytest.raises(sections.ConfigError, match="choose tiny"):
    build_data.tokenizer({"tokenizer": "qwen"})


def test_a_vocabulary_without_room_is_found_at_once():
  """Before a source opens in training, and before a session samples."""
  c = tiny.config()
  c.model.llm.vocab_size = 1000
  c.data.sources.drawing = "jsonl:/no/such/file"
  c.stages = {}
  with pytest.raises(
    sections.ConfigError, match="vocab_size=1000 .* 1024 tokens"
  ):
    build_run.run(c)
  with pytest.raises(
    sections.ConfigError, match="vocab_size=1000 .* 1024 tokens"
  ):
    build_session.session(c, {}, "none", 0)


def test_sections_that_are_missing_are_named():
  c = tiny.config()
  for name in ("mesh", "optimizer"):
    del c[name]
  words = "config.mesh is missing, and optimizer, stages; begin with configs/"
  with pytest.raises(sections.ConfigError, match=words):
    build_run.run(c)


def test_plain_is_what_json_gives_back():
  config = sections.plain(tiny.config())
  assert json.loads(json.dumps(config)) == config
  # And builds the same model: a checkpoint keeps its config as JSON.
  assert build_model.emma_config(config["model"]) == build_model.emma_config(
    tiny.model()
  )
