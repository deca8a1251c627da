"""Constraints that cannot be dropped in silence, and what remat keeps."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh
import numpy as np
import pytest

from emma_jax import sharding
from emma_jax.models import layers, partition, siglip2
from emma_jax.sharding import AXES
from tests import neutral, programs

MESH = AbstractMesh((1, 2, 2, 2), AXES)
CONFIG = dict(
  width=8, mlp_width=16, num_layers=3, num_heads=2, patch_size=4, native_grid=2
)


def test_outside_of_a_program_nothing_is_constrained():
  x = jnp.ones((2, 3))
  assert partition.constrain(x, "rows", None) is x
  assert partition.mesh_axes("rows") is None and partition.is_unsharded()


def test_inside_names_become_mesh_axes():
  x = jnp.ones((2, 3))  # JAX 0.12 makes none under a mesh without devices
  with sharding.program(MESH):
    assert partition.mesh_axes("rows") == ("slice", "data", "fsdp")
    assert partition.mesh_axes("mlp") == ("tensor",)
    assert partition.mesh_axes("layers") == ()
    assert partition.split_axes((8, 6), ("embed", "mlp")) == [
      ("fsdp",),
      ("tensor",),
    ]
    with pytest.raises(ValueError, match="'row'.*sharding.TABLE"):
      partition.constrain(x, "row", None)
    with pytest.raises(ValueError, match="names=.*shape"):
      partition.constrain(x, "rows")


def test_the_rows_of_a_second_weight_are_split_if_they_can_be():
  choose = lambda rows, **sizes: partition.choose_axes(
    (rows, 8),
    ("mlp_rows", "embed"),
    sharding.TABLE,
    dict.fromkeys(sharding.AXES, 1) | sizes,
  )
  assert choose(16, fsdp=4) == [("tensor", "fsdp"), None]
  assert choose(16, fsdp=4, tensor=2) == [("tensor", "fsdp"), None]
  assert choose(6, fsdp=4, tensor=2) == [("tensor",), ("fsdp",)]
  assert choose(6, fsdp=4) == [None, ("fsdp",)]


def test_a_table_without_a_mesh_is_refused():
  with nn.logical_axis_rules(sharding.TABLE):
    with pytest.raises(RuntimeError, match="sharding.program"):
      partition.constrain(jnp.ones((2, 3)), "rows", None)


def test_only_known_tensors_are_kept():
  with pytest.raises(ValueError, match="'attn'.*attn_out"):
    partition.save_residual(jnp.ones(2), "attn")
  for wrong in ("some", "names:", "names:attn_out,x"):
    with pytest.raises(ValueError, match="choose none, full or dots"):
      partition.check_remat(wrong)


def products(remat: str) -> int:
  """Products of matrices in a block's forward and backward pass."""
  stack = siglip2.stack(neutral.siglip_config(**CONFIG, remat=remat), 3)
  x = jnp.ones((1, 4, 8))
  params = jax.eval_shape(stack.init, jax.random.key(0), x, None)
  loss = lambda p, x: jnp.sum(stack.apply(p, x, None)[0] ** 2)
  return str(jax.make_jaxpr(jax.grad(loss, (0, 1)))(nn.unbox(params), x)).count(
    "dot_general"
  )


def test_what_is_kept_is_not_made_again():
  """Eight products a block: q, k, v, scores, mix, out, up, down."""
  count = {
    p: products(p)
    for p in (
      "none",
      "full",
      "dots",
      "names:attn_out",
      "names:query,key,value,attn_out,attn_proj,mlp_up",
    )
  }
  again = {p: n - count["none"] for p, n in count.items()}
  assert count["none"] == 8 * 3
  assert again["full"] == 7  # the last, down, is behind the gradient
  assert again["names:attn_out"] == 6
  assert again["names:query,key,value,attn_out,attn_proj,mlp_up"] == 1


def test_stacks_of_two_scans_have_shapes_of_their_own():
  """Or XLA takes their zeros for one array, and copies it."""
  keep_query = jax.checkpoint_policies.save_only_these_names("query")

  def gradient():
    body = lambda x, _: (
      partition.save_residual(jnp.sin(x), "query") ** 2,
      None,
    )
    body = jax.checkpoint(body, policy=keep_query)
    return jax.grad(lambda x: jax.lax.scan(body, x, length=4)[0].sum())

  x = jnp.arange(3.0)
  want, usual = gradient()(x), str(jax.make_jaxpr(gradient())(x))
  with partition.distinct_scan_carry():
    got, apart = gradient()(x), str(jax.make_jaxpr(gradient())(x))
  np.testing.assert_array_equal(got, want)
  assert "f32[4,1,3]" in apart and "f32[4,1,3]" not in usual


def test_what_suits_one_platform_is_not_made_for_another():
  """A program for a TPU that is compiled on a CPU has none of the CPU's own
  ways with bfloat16."""
  x = jnp.ones((2, 2), jnp.bfloat16)

  def wide(platform: str) -> bool:
    with partition.compiled_for(platform):
      # A new function, or the earlier trace would be taken.
      jaxpr = jax.make_jaxpr(lambda x: layers.linear(x, x))(x)
    return "preferred_element_type=float32" in str(jaxpr)

  assert wide("cpu") and not wide("tpu") and not wide("gpu")
  assert partition.platform() == jax.default_backend()


def test_on_tpus_a_gradient_is_made_whole_where_it_is_said():
  def gradient(x):
    return jax.grad(lambda x: jnp.sum(partition.materialize_gradient(x) ** 2))(
      x
    )

  x = jnp.arange(3.0)
  for platform, barriers in (("cpu", 0), ("gpu", 0), ("tpu", 1)):
    with partition.compiled_for(platform):
      jaxpr = str(jax.make_jaxpr(lambda x: gradient(x))(x))
      np.testing.assert_array_equal(gradient(x), 2 * x)
    assert jaxpr.count("optimization_barrier") == barriers


# A product whose rows are split over four devices and whose sum over two, with
# its layout said and without: the results, and what is gathered.
SCRIPT = """
import json, jax, jax.numpy as jnp, numpy as np
from emma_jax import sharding
from emma_jax.models import partition

mesh = sharding.make_mesh(sharding.MeshConfig(
    slice=1, data=2, fsdp=2, tensor=2))
x = np.random.default_rng(0).normal(size=(8, 16, 4)).astype(np.float32)
w = np.random.default_rng(1).normal(size=(4, 4)).astype(np.float32)


def measure(said):
  def loss(x, w):
    x = partition.constrain(x, "rows", None, "mlp")
    y = said(jnp.sin(x @ w))
    return jnp.sum(y * jnp.cos(y))

  def run(x, w):
    with sharding.program(mesh), partition.compiled_for("tpu"):
      return jax.value_and_grad(loss, (0, 1))(x, w)

  compiled = jax.jit(run).lower(sharding.place_rows(x, mesh), w).compile()
  gathers = [l for l in compiled.as_text().splitlines() if " all-gather(" in l]
  out = compiled(sharding.place_rows(x, mesh), w)
  return [np.asarray(y).tolist() for y in out[1]], [
      "8,16,4" in l for l in gathers]


print(json.dumps([measure(lambda x: x), measure(partition.row_major)]))
"""


@pytest.mark.slow
def test_rows_whose_layout_is_said_stay_split():
  """The partitioner gathers an array that has a layout, unless told how."""
  (want, _), (got, gathered) = programs.printed(SCRIPT, devices=8)
  assert not any(gathered)
  for g, w in zip(got, want, strict=True):
    np.testing.assert_allclose(g, w, rtol=1e-5, atol=1e-5)
