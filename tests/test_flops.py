"""FLOPs by formula are those that XLA counts, and the paper's arithmetic."""

import dataclasses

import jax
import ml_collections
import numpy as np
import pytest

from configs import models
from emma_jax import flops, flow, optimizer, rules
from emma_jax.build import model as build_model
from emma_jax.data.batching.packing import pack
from emma_jax.training import state
from emma_jax.training.step import make_step
from tests import neutral, tiny
from tests.goldens import machines, store

LAYOUT = neutral.layout(
  rows=2,
  und_tokens=64,
  und_pictures=2,
  references=1,
  targets=2,
  height=64,
  width=64,
)
# Understanding pictures of native sizes, latents made beforehand.
NATIVE = dataclasses.replace(LAYOUT, und_patches=256, latent_channels=8)
POLICIES = {
  "all": (("(autoencoder|vision/(stem|router))/.*", "frozen"), (".*", "train")),
  "adapter": (("adapters/und/.*", "train"), (".*", "frozen")),
}


def wide() -> ml_collections.ConfigDict:
  """Wide enough for products of matrices to be nearly all; unrolled."""
  m = tiny.model()
  m.llm.update(
    width=256,
    mlp_width=512,
    num_layers=2,
    num_shallow=1,
    num_heads=4,
    num_kv_heads=2,
    head_dim=64,
    vocab_size=2048,
  )
  m.vision.encoder.update(width=192, mlp_width=512, num_heads=4)
  m.autoencoder.update(
    encoder_block_out_channels=(32,) * 6,
    attention_head_dim=32,
    decoder_block_out_channels=(32,) * 6,
  )
  return m


@pytest.mark.parametrize(
  "layout, policy", [(LAYOUT, "all"), (LAYOUT, "adapter"), (NATIVE, "all")]
)
def test_the_formula_is_what_xla_counts(layout, policy):
  """Within 5%: the rest is arithmetic between the products.

  Of what more rows take: the update of weights is no product, and of a tiny
  step a good part.
  """
  model = build_model.model(wide())
  objective = neutral.objective(
    model=model.module,
    route="versatile",
    text_weight=0.25,
    velocity_weight=1.0,
    time_bins=2,
    flow=flow.FlowConfig(time_mean=0.0, time_std=1.0, shift=1.0),
  )
  adam = optimizer.build(
    neutral.optimizer_config(learning_rate=1e-3, total_steps=2), ((".*", 1.0),)
  )
  begin = lambda p: state.begin(p, POLICIES[policy], adam, {})
  step = make_step(
    objective,
    adam,
    ema_decay=0.9,
    seed=0,
    name="s",
    accumulation=1,
    max_skipped_steps=0,
  )
  state_shapes = jax.eval_shape(begin, model.shapes)
  decided = rules.resolve(POLICIES[policy], rules.flatten(model.shapes))
  trained = [p for p, value in decided.items() if value == "train"]

  def both(rows: int) -> np.ndarray:
    """FLOPs that XLA counts, and those of the formula."""
    of = dataclasses.replace(layout, rows=rows)
    lowered = step.lower(state_shapes, pack([], of)[0])
    parts = flops.step(
      model.module.config, of, trained, draws=1, route="versatile"
    )
    return np.array([lowered.cost_analysis()["flops"], flops.total(parts)])

  counted, wanted = both(4) - both(2)
  assert counted == pytest.approx(wanted, rel=0.05)


def test_every_part_of_a_step_has_its_flops():
  """Of each stage of the 4B, native pictures and token fusion, to the unit."""
  store.check("machines", "flops", machines.costs(), store.EXACT)


def multiplied(shapes: list[tuple[int, int, int]]) -> float:
  """Two operations for every (output, inner) of a matrix product, one by one
  as the equations write them."""
  return float(sum(2 * m * k * n for m, k, n in shapes))


def test_parts_of_the_model_are_their_products_one_by_one():
  """A block of the decoder, of the vision tower, a ResBlock; by hand."""
  config = build_model.emma_config(tiny.model())
  c, e = config.llm, config.vision.encoder
  D, E, H, K, F = c.width, c.head_dim, c.num_heads, c.num_kv_heads, c.mlp_width
  token = [
    (1, D, H * E),
    (1, D, K * E),
    (1, D, K * E),
    (1, H * E, D),
    (1, D, F),
    (1, D, F),
    (1, F, D),
  ]
  assert flops.projections(c) == multiplied(token)
  n, W, M = 6, e.width, e.mlp_width
  block = [(n, W, W)] * 4 + [(n, W, M), (n, M, W)]
  block += [(n, W // e.num_heads, n), (n, n, W // e.num_heads)] * e.num_heads
  assert flops.encoder_block(e, n) == multiplied(block)
  # Of 64 x 32 pixels: five halvings of ResBlocks, then the last stage.
  sizes = [(64 * 32) // 4**i for i in range(6)]
  a = config.autoencoder
  assert [s.layers for s in a.encoder] == [0, 1, 1, 1, 1, 1]
  conv = lambda n, i, o: (n, 9 * i, o)
  wanted = [conv(sizes[0], 3, 8 // 4)]  # a fourth of the channels, unshuffled
  for i in range(1, 5):
    wanted += [conv(sizes[i], 8, 8)] * 2 + [conv(sizes[i], 8, 2)]
  n = sizes[5]
  # Linear attention of one head of 8, then the gated convolution of 4 x 8.
  wanted += [(n, 8, 24), (n, 8, 8), (n, 8, 8), (n, 8, 8)]
  wanted += [(n, 8, 64), (n, 9, 64), (n, 32, 8)]
  wanted += [conv(n, 8, a.latent_channels)]
  assert flops.encoder(a, 64, 32) == multiplied(wanted)


@pytest.mark.smoke
def test_the_4b_is_the_papers_arithmetic():
  """Of design figures: 27 blocks of SigLIP2 on 1024 pixels are 5.5 TFLOPs,
  and a token of a branch passes 3.633 G weights."""
  config = build_model.emma_config(models.emma_4b())
  vision = 27 * flops.encoder_block(config.vision.encoder, 64 * 64)
  assert vision == pytest.approx(5.5e12, rel=0.02)
  assert 36 * flops.projections(config.llm) == pytest.approx(
    2 * 3.633e9, rel=1e-3
  )


def test_only_what_gradients_need_is_counted_again():
  config = build_model.emma_config(tiny.model())
  usual = dict(draws=1, route="versatile")
  of = lambda *trained, **k: flops.step(config, LAYOUT, trained, **usual | k)
  expert = of("vision/stem/mlp", route="stem")
  assert (expert["vision_lower"].inputs, expert["vision_lower"].weights) == (
    False,
    False,
  )
  assert expert["vision_stem"].weights and expert["projections"].inputs
  assert not expert["projections"].weights
  assert expert["autoencoder"].total == expert["autoencoder"].forward
  half = of("llm/deep/und/v", live=0.5)["attention"]
  assert half.total == of("llm/deep/und/v")["attention"].total / 2
  router = flops.router_step(config, LAYOUT)
  assert router["vision"].total == router["vision"].forward
  assert flops.total(router) < flops.total(of("vision/stem/mlp"))
  twice = of("heads/velocity/kernel", draws=2)["velocity"]
  assert twice.total == 2 * of("heads/velocity/kernel")["velocity"].total


def test_native_pictures_cost_what_they_show():
  """Patches and their pairs; no encoder where latents were made beforehand."""
  config = build_model.emma_config(tiny.model())
  usual = dict(draws=1, route="versatile")
  of = lambda layout, **k: flops.step(
    config, layout, ["vision/lower"], **usual | k
  )
  static, native = of(LAYOUT), of(NATIVE, live_patches=0.5)
  assert static["autoencoder"].forward > 0 == native["autoencoder"].forward
  # A row of 256 patches that see half of all pairs, and a reference.
  c = config.vision.encoder
  tower = config.vision
  ref = 2 * flops.encoder_block(c, 16)
  want = 2 * flops.encoder_block(c, 256, 0.5) + ref
  assert native["vision_lower"].forward == tower.num_lower_layers * want
  # A row of the same pictures side by side costs as they do apart.
  same = dataclasses.replace(NATIVE, und_patches=32)
  lower = of(same, live_patches=0.5)["vision_lower"]
  assert lower.forward == static["vision_lower"].forward
  assert flops.total(flops.router_step(config, same, live_patches=0.5)) > (
    flops.total(flops.router_step(config, LAYOUT))
  )  # positions
