"""Attention split over devices, and compiled for TPUs that are not there."""

import importlib.util

import pytest

from tests import programs

# Rows over two axes and heads over the third; prints errors and collectives.
MESH = """
import functools, json, jax, numpy as np
from emma_jax.models import attention, flash, flash_tpu_grid, norm_rope
from emma_jax.structs import TokenIds
from tests.models import test_flash as t

t.B, flash_tpu_grid.TILE = 4, 128
mesh = jax.make_mesh((2, 2, 2), ("data", "fsdp", "tensor"),
                     axis_types=(jax.sharding.AxisType.Auto,) * 3)
spec = lambda *x: jax.NamedSharding(mesh, jax.P(*x))
ids = t.packed(3)
inputs = t.arrays(350, 350, 4, 2, 32)
want = t.plain(*inputs, ids, ids)
rows = ("data", "fsdp")
parts = [jax.device_put(x, spec(rows, None, "tensor")) for x in inputs]
split_ids = jax.device_put(ids, spec(rows))
out = {"devices": jax.device_count()}

def greatest(got, want):  # numpy's maximum keeps NaN, Python's drops it
  return float(np.max([float(abs(a - b).max() / abs(b).max())
                       for a, b in zip(got, want)]))

with jax.set_mesh(mesh):
  for name, path in {"chunked": t.PATHS["chunked"], "tpu": t.PATHS["tpu"],
                     "by platform": flash.kernel(inputs[0])}.items():
    run = t.through(path)
    got = run(*parts, split_ids, split_ids)
    text = run.lower(*parts, split_ids, split_ids).compile().as_text()
    out[name] = {
        "error": greatest(got, want),
        "shards": [str(x.sharding.spec) for x in got],
        "collectives": sum(text.count(x + "(") for x in (
            "all-gather", "all-reduce", "all-to-all", "collective-permute"))}
  # Norm and RoPE, and the gradient of the scale, which all devices share.
  x, scale = t.arrays(40, 40, 4, 2, 128)[0], np.linspace(1, 2, 128, dtype="f")
  position = np.arange(160, dtype=np.int32).reshape(4, 40)
  def turned(function):
    def run(x, scale):
      whole = lambda *a: function(*a, position, 1e-6, 1e4)
      out, back = jax.vjp(whole, x, scale)
      return out, *back(out)
    return jax.jit(run)(jax.device_put(x, spec(rows, None, "tensor")), scale)
  out["norm_rope"] = greatest(
      turned(functools.partial(norm_rope.fused, interpret=True)),
      turned(norm_rope.norm_rope))
  # A lone row, as in sampling.
  one = lambda x: jax.tree.map(lambda y: y[:1], x)
  lone = jax.jit(attention.attend, static_argnums=5)(
      *one(inputs[:3]), one(ids), one(ids), "chunked")
  out["lone"] = float(abs(lone - one(want[0])).max())
  try:
    t.through(t.PATHS["chunked"])(*t.arrays(8, 8, 3, 1, 16), *[one(ids)] * 2)
  except ValueError as error:
    out["refused"] = str(error)
print(json.dumps(out))
"""

# The kernels at the head sizes of 4B, on a short row; prints bytes.
TPU = """
import json, jax, jax.numpy as jnp
from jax.experimental import topologies
from emma_jax.models import attention
from emma_jax.structs import TokenIds
device = topologies.get_topology_desc("v5e:2x2", "tpu").devices[0]
def shape(dtype, *x):
  return jax.ShapeDtypeStruct(
      x, dtype, sharding=jax.sharding.SingleDeviceSharding(device))
S, H, K, E = 2048, 8, 2, 128
q, k = (shape(jnp.bfloat16, 1, S, n, E) for n in (H, K))
ids = TokenIds(*[shape(jnp.int32, 1, S)] * 5)
def run(q, k, v, dout, ids):
  out, back = jax.vjp(
      lambda *x: attention.attend(*x, ids, ids, "auto"), q, k, v)
  return out, *back(dout)
compiled = jax.jit(run).lower(q, k, k, q, ids).compile()
text = compiled.as_text()
print(json.dumps({
    "temporary": compiled.memory_analysis().temp_size_in_bytes,
    "scores": H * S * S,
    "squares": text.count(f"{S},{S}]"),
    "kernels": text.count('custom_call_target="tpu_custom_call"'),
}))
"""


@pytest.mark.slow
def test_rows_and_heads_split_over_a_mesh_and_never_meet():
  out = programs.printed(MESH, devices=8)
  assert out["devices"] == 8
  for name in ("chunked", "tpu", "by platform"):
    print(name, out[name])
    assert out[name]["error"] < 1e-5
    assert out[name]["collectives"] == 0
    assert all("tensor" in x and "fsdp" in x for x in out[name]["shards"])
  assert out["lone"] < 1e-5 and out["norm_rope"] < 1e-5
  assert "1 heads do not split over 2 devices" in out["refused"]


@pytest.mark.slow
@pytest.mark.skipif(
  importlib.util.find_spec("libtpu") is None, reason="needs the extra tpu"
)
def test_the_tpu_compiler_takes_the_kernels():
  out = programs.printed(
    TPU, TPU_SKIP_MDS_QUERY="1", ALLOW_MULTIPLE_LIBTPU_LOAD="1"
  )
  print(out)
  assert out["kernels"] == 3  # forward, dq, dk and dv
  assert out["temporary"] < out["scores"] and not out["squares"]
