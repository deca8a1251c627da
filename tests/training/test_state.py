"""How stages begin: loading tables and policies over parameters."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import stages as stage_configs
from configs import tiny as tiny_config
from emma_jax import rules
from emma_jax.build import model as build_model
from emma_jax.models.initial import init_params
from emma_jax.training import state
from emma_jax.training.state import LoadError
from tests import tiny

SHAPES = {
  "und": {"w": jax.ShapeDtypeStruct((2,), jnp.float32)},
  "gen": {"w": jax.ShapeDtypeStruct((2,), jnp.float32)},
  "head": jax.ShapeDtypeStruct((3,), jnp.float32),
}
COPY = (r"gen/(.*)", r"copy:und/\1")
PREVIOUS = {
  "und": {"w": np.full(2, 1.0)},
  "gen": {"w": np.full(2, 2.0)},
  "head": np.full(3, 3.0),
}
MADE = jax.tree.map(lambda x: x + 10, PREVIOUS)
STORED = {"und/w": np.full(2, 5.0, np.float16), "head": np.full(4, 5.0)}


def load(*table, previous=PREVIOUS):
  calls = []

  def read(name):
    calls.append(name)
    return STORED

  def init():
    calls.append("random")
    return MADE

  out = state.load(table, SHAPES, previous, read, init)
  return {k: float(v[0]) for k, v in rules.flatten(out).items()}, calls


@pytest.mark.smoke
def test_each_source_gives_its_weights():
  out, calls = load(COPY, ("und/.*", "weights:file"), ("head", "keep"))
  assert out == {"und/w": 5.0, "gen/w": 5.0, "head": 3.0}
  assert calls == ["file"]
  out, calls = load((".*", "random"), previous=None)
  assert out == {"und/w": 11.0, "gen/w": 12.0, "head": 13.0}
  assert calls == ["random"]
  assert load((".*", "keep")) == ({"und/w": 1.0, "gen/w": 2.0, "head": 3.0}, [])


def test_a_copy_is_an_array_of_its_own_in_the_models_dtype():
  """Two donated buffers must not be one."""
  out = state.load(
    (COPY, ("und/.*", "weights:file"), ("head", "keep")),
    SHAPES,
    PREVIOUS,
    lambda _: STORED,
    None,
  )
  assert out["und"]["w"].dtype == jnp.float32
  a, b = out["und"]["w"], out["gen"]["w"]
  assert a.unsafe_buffer_pointer() != b.unsafe_buffer_pointer()


@pytest.mark.parametrize(
  "table, words",
  [
    (
      [("und/.*", "keep"), (".*", "weights:f")],
      [r"gen/w: not in weights:f", r"head: \(4,\) in weights:f, .* \(3,\)"],
    ),
    (
      [(r"gen/(.*)", r"copy:und/x/\1"), (".*", "keep")],
      [r"gen/w: nothing to copy at und/x/w"],
    ),
    ([(".*", "magic")], ["Unknown source 'magic': choose keep"]),
  ],
)
def test_what_cannot_be_loaded_is_listed(table, words):
  with pytest.raises(LoadError) as error:
    load(*table)
  for pattern in words:
    assert error.match(f"(?s).*{pattern}")


def test_the_first_stage_has_nothing_to_keep():
  with pytest.raises(LoadError, match="nothing to .keep."):
    load((".*", "keep"), previous=None)


def test_a_table_that_is_not_total_or_not_live_is_refused():
  with pytest.raises(rules.RuleError, match="no rule covers 'head'"):
    load(("(und|gen)/.*", "keep"))
  with pytest.raises(rules.RuleError, match="decided no path"):
    load((".*", "keep"), COPY)


def test_a_stage_begins_with_its_trained_part_apart():
  policy = (("gen/.*", "frozen"), (".*", "train"))
  params = jax.tree.map(jnp.float32, PREVIOUS)
  s = state.begin(params, policy, optax.adam(1e-3), {})
  assert set(rules.flatten(s.trained)) == {"und/w", "head"}
  assert set(rules.flatten(s.frozen)) == {"gen/w"}
  assert s.step == 0
  chex.assert_trees_all_equal(s.ema, s.trained)
  chex.assert_trees_all_equal(s.params(), params)
  moments = {p for p in rules.flatten(s.opt_state) if "mu" in p}
  assert len(moments) == 2
  averaged = s.replace(ema=jax.tree.map(lambda x: x + 1, s.ema))
  assert averaged.params(averaged=True)["head"][0] == 4.0
  assert averaged.params()["head"][0] == 3.0
  with pytest.raises(ValueError, match="not {'melt'}"):
    state.begin(params, ((".*", "melt"),), optax.adam(1e-3), {})


def test_frozen_weights_may_be_kept_in_bfloat16():
  """Those that are named, and nothing that trains is rounded."""
  params = {
    "a": {"kernel": jnp.full((2, 2), 1.01)},
    "b": {"kernel": jnp.full((2, 2), 1.01), "scale": jnp.ones(2)},
  }
  named = {"a/kernel": "bfloat16", "b/kernel": "bfloat16"}
  policy = (("b/.*", "frozen"), (".*", "train"))
  s = state.begin(params, policy, optax.adam(1e-3), named)
  kinds = {p: str(x.dtype) for p, x in rules.flatten(s).items() if x.ndim}
  assert kinds.pop("frozen/b/kernel") == "bfloat16"
  assert set(kinds.values()) == {"float32"}
  assert not any("b/" in p for p in kinds if not p.startswith("frozen"))
  chex.assert_trees_all_equal(
    s.frozen["b"]["kernel"], params["b"]["kernel"].astype(jnp.bfloat16)
  )


# ------------------------------------------------------- the real tables


def stages_of(variant: str):
  return tiny_config.tiny_stages(tiny.model(variant))


@pytest.mark.parametrize("variant", tiny.VARIANTS)
def test_tables_are_total_and_live(variant):
  """For the paper's model and every variant it is compared with."""
  paths = rules.flatten(tiny.shapes(variant))
  stages = stages_of(variant)
  assert len(stages) == (4 if variant == "no_experts" else 6)
  for section in stages.values():
    rules.resolve(section.policy, paths)
    rules.resolve(section.load, paths)


def test_each_stage_trains_what_the_paper_says():
  paths = rules.flatten(tiny.shapes())
  trained = {
    name: {p for p, v in rules.resolve(s.policy, paths).items() if v == "train"}
    for name, s in stages_of("paper").items()
  }
  below = lambda prefix: {p for p in paths if p.startswith(prefix)}
  whole = (
    set(paths)
    - below("autoencoder/")
    - below("vision/stem/")
    - below("vision/router/")
  )
  assert trained == {
    "0_alignment": below("adapters/und/"),
    "1_pretraining": whole,
    "2_finetuning": whole,
    "3_quality": whole,
    "4a_expert": below("vision/stem/"),
    "4b_router": below("vision/router/"),
  }


def test_training_starts_with_copied_branches_and_experts():
  """The Gen branch is the Und branch, STEM the versatile expert, and the
  velocity head is zero: training starts at the velocity's mean."""
  model = build_model.model(tiny.model())
  stored = {
    p: np.full(x.shape, 0.5, np.float32)
    for p, x in rules.flatten(model.shapes).items()
    if p.startswith("autoencoder/")
  }
  key = jax.random.key(0)
  init = jax.jit(
    lambda key: init_params(model.module.config, key),
    compiler_options=tiny.QUICK,
  )
  table = stage_configs.first_load(tiny.model(), "world_autoencoder")
  out = state.load(
    table,
    model.shapes,
    None,
    {"world_autoencoder": stored}.get,
    lambda: init(key),
  )
  for depth in ("shallow", "deep"):
    chex.assert_trees_all_equal(
      out["llm"][depth]["gen"], out["llm"][depth]["und"]
    )
  chex.assert_trees_all_equal(out["llm"]["norm_gen"], out["llm"]["norm_und"])
  chex.assert_trees_all_equal(out["vision"]["stem"], out["vision"]["versatile"])
  assert not any(x.any() for x in jax.tree.leaves(out["heads"]))
  assert all((x == 0.5).all() for x in jax.tree.leaves(out["autoencoder"]))
  assert np.std(out["llm"]["deep"]["und"]["mlp"]["gate"]) > 0.05


def test_the_expert_starts_as_what_the_versatile_one_has_become():
  params = tiny.params()
  out = state.load(
    stages_of("paper")["4a_expert"].load, tiny.shapes(), params, None, None
  )
  chex.assert_trees_all_equal(
    out["vision"]["stem"], params["vision"]["versatile"]
  )
  out["vision"]["stem"] = params["vision"]["stem"]
  chex.assert_trees_all_equal(out, params)
