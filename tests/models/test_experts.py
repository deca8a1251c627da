"""The understanding tower: token counts, experts, router."""

import dataclasses
import functools

from flax.core import meta
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emma_jax.models import dcae, dcae_sizes, experts, siglip2
from tests import neutral

TINY = experts.TowerConfig(
  encoder=neutral.siglip_config(
    width=16,
    mlp_width=24,
    num_layers=3,
    num_heads=2,
    patch_size=4,
    native_grid=3,
  ),
  experts=True,
  extra_experts=(),
  num_expert_layers=1,
  router_width=8,
  router_threshold=0.5,
)
REAL = experts.TowerConfig(
  encoder=siglip2.SO400M_PATCH16_512,
  experts=True,
  extra_experts=(),
  num_expert_layers=3,
  router_width=1152,
  router_threshold=0.5,
)


def make(config: experts.TowerConfig = TINY, pictures: int = 6):
  tower = experts.VisionTower(config)
  pixels = jax.random.normal(jax.random.key(1), (pictures, 16, 24, 3))
  route = "router" if config.experts else "versatile"
  init = jax.jit(tower.init, static_argnums=2)
  return tower, meta.unbox(init(jax.random.key(0), pixels, route)), pixels


@functools.partial(jax.jit, static_argnums=(0, 3, 4))
def run(tower, variables, pixels, route="versatile", method="__call__"):
  args = (route,) if method == "__call__" else ()
  return tower.apply(variables, pixels, *args, method=method)


def count(tree) -> int:
  return sum(x.size for x in jax.tree.leaves(meta.unbox(tree)))


def real_shapes(config: experts.TowerConfig, route: str) -> dict:
  tower = experts.VisionTower(config)
  pixels = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
  return jax.eval_shape(
    lambda k, x: tower.init(k, x, route), jax.random.key(0), pixels
  )["params"]


def test_an_expert_is_45_7_million_weights():
  params = real_shapes(REAL, "router")
  assert count(params["versatile"]) == count(params["stem"]) == 45_718_512
  tower = sum(
    count(params[k]) for k in ("embed", "lower", "versatile", "post_norm")
  )
  assert tower == 413_534_448


def test_without_experts_there_is_no_stem_and_no_router():
  params = real_shapes(dataclasses.replace(REAL, experts=False), "versatile")
  assert set(params) == {"embed", "lower", "versatile", "post_norm"}
  assert count(params) == 413_534_448


@pytest.mark.parametrize("side, tokens", [(512, 256), (1024, 1024)])
def test_tokens_of_a_picture(side, tokens):
  tower = experts.VisionTower(REAL)
  pixels = jax.ShapeDtypeStruct((1, side, side, 3), jnp.bfloat16)
  params = {"params": meta.unbox(real_shapes(REAL, "router"))}
  y, logits = jax.eval_shape(
    lambda p, x: tower.apply(p, x, "versatile"), params, pixels
  )
  assert y.shape == (1, tokens, 4 * 1152)
  assert y.dtype == jnp.bfloat16
  assert logits is None


@pytest.mark.parametrize("size", [(32, 32), (64, 96), (96, 32), (224, 544)])
def test_both_encoders_give_the_same_grid(size):
  """A token is 32 pixels in the tower and in the autoencoder."""
  config = dataclasses.replace(
    TINY, encoder=dataclasses.replace(TINY.encoder, patch_size=16)
  )
  tower = experts.VisionTower(config)
  autoencoder = dcae.Autoencoder(dcae_sizes.IN_F32C32)
  pixels = jax.ShapeDtypeStruct((1, *size, 3), jnp.float32)
  (semantic, _), _ = jax.eval_shape(
    lambda k, x: tower.init_with_output(k, x), jax.random.key(0), pixels
  )
  latent, _ = jax.eval_shape(
    lambda k, x: autoencoder.init_with_output(k, x, method="encode"),
    jax.random.key(0),
    pixels,
  )
  assert semantic.shape[1] == latent.shape[1] * latent.shape[2]
  assert semantic.shape[1] == size[0] * size[1] // 32**2


def test_the_tower_is_siglip_and_a_shuffle():
  tower, variables, pixels = make()
  params = dict(variables["params"])
  params["blocks"] = jax.tree.map(
    lambda *w: jnp.concatenate(w), params.pop("lower"), params.pop("versatile")
  )
  y = jax.jit(siglip2.SiglipEncoder(TINY.encoder).apply)(
    {"params": {k: params[k] for k in ("embed", "blocks", "post_norm")}}, pixels
  )
  y = siglip2.pixel_shuffle(y.reshape(-1, 4, 6, 16)).reshape(-1, 6, 64)
  np.testing.assert_allclose(run(tower, variables, pixels)[0], y, atol=2e-6)


def test_a_copied_expert_gives_the_same_output():
  tower, variables, pixels = make()
  variables["params"]["stem"] = variables["params"]["versatile"]
  outputs = [run(tower, variables, pixels, r)[0] for r in TINY.routes]
  np.testing.assert_array_equal(outputs[0], outputs[1])
  np.testing.assert_array_equal(outputs[0], outputs[2])


def test_the_router_chooses_per_picture():
  tower, variables, pixels = make()
  # A bias half-way between the pictures' logits divides them into two groups.
  logits = run(tower, variables, pixels, method="router_logits")
  middle = jnp.median(logits[:, 1] - logits[:, 0])
  variables["params"]["router"]["fc2"]["bias"] += jnp.stack([middle, 0.0])
  y, logits = run(tower, variables, pixels, "router")
  stem = np.asarray(logits[:, 1] > logits[:, 0])
  assert stem.sum() == 3
  both = [run(tower, variables, pixels, r)[0] for r in ("versatile", "stem")]
  for i, science in enumerate(stem):
    np.testing.assert_array_equal(y[i], both[int(science)][i])
    assert np.abs(y[i] - both[1 - int(science)][i]).max() > 1e-3


def test_an_unsure_router_stays_versatile():
  """The threshold itself is not enough, and 1 is never passed."""
  tower, variables, pixels = make()
  fc2 = variables["params"]["router"]["fc2"]
  fc2.update(kernel=jnp.zeros((8, 2)), bias=jnp.zeros(2))
  versatile = run(tower, variables, pixels)[0]
  np.testing.assert_array_equal(
    run(tower, variables, pixels, "router")[0], versatile
  )
  fc2.update(bias=jnp.array([0.0, 100.0]))
  never = experts.VisionTower(dataclasses.replace(TINY, router_threshold=1.0))
  np.testing.assert_array_equal(
    run(never, variables, pixels, "router")[0], versatile
  )


@pytest.mark.parametrize(
  "route, reached",
  [
    ("versatile", {"embed", "lower", "versatile", "post_norm"}),
    ("stem", {"embed", "lower", "stem", "post_norm"}),
  ],
)
def test_a_route_touches_its_own_weights_only(route, reached):
  """NaN in all other weights leaves the output as it was, bit for bit."""
  tower, variables, pixels = make()
  spoiled = {
    k: v if k in reached else jax.tree.map(lambda w: w * np.nan, v)
    for k, v in variables["params"].items()
  }
  np.testing.assert_array_equal(
    run(tower, variables, pixels, route)[0],
    run(tower, {"params": spoiled}, pixels, route)[0],
  )


def test_router_logits_need_the_lower_blocks_only():
  tower, variables, pixels = make()
  _, expected = run(tower, variables, pixels, "router")
  lean = {k: variables["params"][k] for k in ("embed", "lower", "router")}
  logits = run(tower, {"params": lean}, pixels, method="router_logits")
  np.testing.assert_allclose(logits, expected, atol=1e-6)
  assert logits.dtype == jnp.float32


def test_the_most_probable_of_the_others_is_taken_above_the_threshold():
  share = [[0.6, 0.3, 0.1], [0.4, 0.1, 0.5], [0.3, 0.4, 0.3], [0.2, 0.4, 0.4]]
  chosen = experts.choose(jnp.log(jnp.array(share)), 0.35)
  assert chosen.tolist() == [0, 2, 1, 1]
  assert experts.choose(jnp.log(jnp.array(share)), 0.45).tolist() == [
    0,
    2,
    0,
    0,
  ]
  two = jax.random.normal(jax.random.key(0), (64, 2))
  old = jax.nn.softmax(two)[..., 1] > 0.4
  np.testing.assert_array_equal(experts.choose(two, 0.4), old)


def test_further_experts_have_weights_routes_and_logits_of_their_own():
  more = dataclasses.replace(REAL, extra_experts=("maps", "tables"))
  assert more.routes == ("versatile", "stem", "maps", "tables", "router")
  params = real_shapes(more, "router")
  assert count(params["maps"]) == count(params["tables"]) == 45_718_512
  assert params["router"]["fc2"]["bias"].value.shape == (4,)
  for extra in (("lower",), ("packed",), ("config",), ("a b",), ("a", "a")):
    with pytest.raises(ValueError, match="extra_experts"):
      dataclasses.replace(TINY, extra_experts=extra)
  with pytest.raises(ValueError, match="need experts=True"):
    dataclasses.replace(TINY, extra_experts=("maps",), experts=False)


def test_errors_say_what_to_do():
  with pytest.raises(ValueError, match="own at least one"):
    dataclasses.replace(TINY, num_expert_layers=3)
  with pytest.raises(ValueError, match="not a probability"):
    dataclasses.replace(TINY, router_threshold=1.5)
  tower, variables, pixels = make()
  with pytest.raises(ValueError, match="choose one of"):
    tower.apply(variables, pixels, "both")
  with pytest.raises(ValueError, match="multiples of 8"):
    tower.apply(variables, pixels[:, :12])
  plain, variables, pixels = make(dataclasses.replace(TINY, experts=False))
  with pytest.raises(ValueError, match="experts=True"):
    plain.apply(variables, pixels, "stem")
