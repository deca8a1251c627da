"""SigLIP folders: sizes, sparse configs, accounting of tensors, experts."""

import dataclasses

from flax.core import meta
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emma_jax import rules
from emma_jax.convert import files, siglip, table
from emma_jax.models import experts, siglip2
from emma_jax.models.siglip2_vision import SiglipVision, SiglipVisionConfig
from tests import neutral

TINY = SiglipVisionConfig(
  encoder=neutral.siglip_config(
    width=8,
    mlp_width=12,
    num_layers=3,
    num_heads=2,
    patch_size=4,
    native_grid=3,
  ),
  margin=2,
)
NAFLEX = SiglipVisionConfig(
  encoder=dataclasses.replace(
    TINY.encoder, position_resize="bilinear_antialias"
  )
)
SO400M = dict(
  hidden_size=1152,
  intermediate_size=4304,
  num_hidden_layers=27,
  num_attention_heads=16,
)


def random(config: SiglipVisionConfig, dtype="float32") -> dict:
  rng = np.random.default_rng(0)
  return rules.unflatten(
    {
      path: rng.normal(size=x.shape).astype(jnp.dtype(dtype))
      for path, x in siglip.shapes(config).items()
    }
  )


def equal(a: dict, b: dict) -> None:
  a, b = rules.flatten(a), rules.flatten(b)
  assert a.keys() == b.keys()
  for path in a:
    assert a[path].dtype == b[path].dtype
    np.testing.assert_array_equal(a[path], b[path], err_msg=path)


@pytest.mark.parametrize(
  "config, ours, count",
  [
    # As sparse as published: only what differs from the defaults.
    (
      dict(
        model_type="siglip",
        text_config={"vocab_size": 256000},
        vision_config=dict(
          SO400M, model_type="siglip_vision_model", image_size=512
        ),
      ),
      SiglipVisionConfig(encoder=siglip2.SO400M_PATCH16_512),
      428_772_800,
    ),
    (
      dict(
        model_type="siglip_vision_model",
        **SO400M,
        image_size=384,
        patch_size=14,
      ),
      SiglipVisionConfig(encoder=siglip2.SO400M_PATCH14_384, margin=6),
      428_225_600,
    ),
    (
      dict(model_type="siglip2", vision_config=SO400M),
      SiglipVisionConfig(encoder=siglip2.SO400M_PATCH16_NAFLEX),
      427_888_064,
    ),
    (
      dict(model_type="siglip2"),
      SiglipVisionConfig(encoder=siglip2.BASE_PATCH16_NAFLEX),
      92_930_304,
    ),
  ],
  ids=["patch16-512", "patch14-384", "so400m-naflex", "base-naflex"],
)
def test_published_models_from_sparse_configs(config, ours, count):
  found = siglip.config_from_hf(config)
  assert found == ours
  assert sum(x.size for x in siglip.shapes(found).values()) == count
  assert siglip.config_from_hf(siglip.config_to_hf(found)) == found


def test_an_empty_siglip_config_is_base_patch16_224():
  c = siglip.config_from_hf({"model_type": "siglip", "vision_config": {}})
  assert (c.encoder.width, c.encoder.num_layers) == (768, 12)
  assert (c.encoder.native_grid, c.margin, c.pool_head) == (14, 0, True)


@pytest.mark.parametrize(
  "change, message",
  [
    (dict(model_type="clip"), "model_type says 'clip'"),
    (dict(model_type=None), "does not say which family"),
    (dict(hidden_act="gelu"), "hidden_act='gelu'"),
    (dict(attention_dropout=0.1), "attention_dropout=0.1"),
    (dict(patch_size=[16, 8]), "oblong"),
    (dict(model_type="siglip2_vision_model", num_patches=200), "no square"),
  ],
)
def test_what_is_not_implemented_is_refused(change, message):
  config = dict(model_type="siglip_vision_model") | change
  with pytest.raises(siglip.ConfigError, match=message):
    siglip.config_from_hf(config)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("prefix", [siglip.PREFIX, ""])
@pytest.mark.parametrize(
  "config",
  [
    TINY,
    NAFLEX,
    dataclasses.replace(TINY, pool_head=False),
    dataclasses.replace(
      TINY, encoder=dataclasses.replace(TINY.encoder, num_layers=1)
    ),
  ],
  ids=["fixed", "naflex", "no head", "one block"],
)
def test_import_of_an_export_is_the_same(tmp_path, config, prefix, dtype):
  params = random(config, dtype)
  siglip.save(tmp_path, config, params, prefix)
  module, back = siglip.load(tmp_path, dtype=None)
  assert module == SiglipVision(config)
  equal(back, params)


def write(path, change) -> None:
  """TINY with a change to its dict of tensors."""
  tensors = dict(
    table.write(random(TINY), siglip.entries(TINY), prefix=siglip.PREFIX)
  )
  change(tensors)
  files.write_folder(path, siglip.config_to_hf(TINY), tensors.items())


def test_the_text_tower_is_left_out_on_purpose(tmp_path):
  def change(tensors):
    for name in (
      "text_model.head.weight",
      "logit_scale",
      "logit_bias",
      "vision_model.embeddings.position_ids",
    ):
      tensors[name] = np.zeros(1, np.float32)

  write(tmp_path, change)
  equal(siglip.load(tmp_path)[1], random(TINY))


def test_every_tensor_is_accounted_for(tmp_path):
  def change(tensors):
    tensors["vision_model.extra"] = np.zeros(1, np.float32)
    del tensors["vision_model.encoder.layers.1.mlp.fc1.bias"]
    tensors["vision_model.post_layernorm.bias"] = np.zeros(7, np.float32)

  write(tmp_path, change)
  with pytest.raises(table.ConversionError) as error:
    siglip.load(tmp_path)
  assert error.value.unknown == ("vision_model.extra",)
  assert error.value.missing == ("vision_model.encoder.layers.1.mlp.fc1.bias",)
  assert "post_layernorm.bias (7,)" in error.value.misshaped[0]


# ---------------------------------------------------------------- experts

TOWER = experts.TowerConfig(
  encoder=TINY.encoder,
  experts=True,
  extra_experts=(),
  num_expert_layers=1,
  router_width=4,
  router_threshold=0.5,
)


def test_a_tower_has_the_plain_models_weights():
  params = random(TINY)
  tower = siglip.to_tower(params, TOWER)
  assert tower.keys() == {"embed", "lower", "versatile", "stem", "post_norm"}
  pixels = jax.ShapeDtypeStruct((1, 16, 16, 3), jnp.float32)
  expected = rules.flatten(
    meta.unbox(
      jax.eval_shape(
        lambda x: experts.VisionTower(TOWER).init(
          jax.random.key(0), x, route="router"
        ),
        pixels,
      )
    )["params"]
  )
  assert {k: x.shape for k, x in rules.flatten(tower).items()} == {
    k: x.shape for k, x in expected.items() if not k.startswith("router")
  }
  equal(tower["stem"], tower["versatile"])
  plain = {k: params[k] for k in ("embed", "blocks", "post_norm")}
  for expert in ("versatile", "stem"):
    equal(siglip.from_tower(tower, TOWER, expert), plain)
  assert (
    siglip.shapes(siglip.expert_config(TOWER)).keys()
    == rules.flatten(plain).keys()
  )


def test_the_stem_expert_is_a_copy():
  tower = siglip.to_tower(random(TINY), TOWER)
  tower["stem"]["mlp"]["up"]["bias"][:] = 7
  assert not np.any(tower["versatile"]["mlp"]["up"]["bias"] == 7)
  ours = siglip.from_tower(tower, TOWER, "stem")["blocks"]["mlp"]["up"]["bias"]
  assert np.all(ours[2:] == 7) and not np.any(ours[:2] == 7)


def test_experts_that_do_not_fit_are_refused():
  params = random(TINY)
  plain = dataclasses.replace(TOWER, experts=False)
  assert "stem" not in siglip.to_tower(params, plain)
  with pytest.raises(ValueError, match="choose one of"):
    siglip.from_tower(siglip.to_tower(params, plain), plain, "stem")
  deeper = dataclasses.replace(
    TOWER, encoder=dataclasses.replace(TINY.encoder, num_layers=4)
  )
  with pytest.raises(ValueError, match="3.*layers deep"):
    siglip.to_tower(params, deeper)
