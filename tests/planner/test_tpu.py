"""Laws of a TPU program's memory, which libtpu knows on any machine."""

import importlib.util
import os
import subprocess
import sys

import pytest

from emma_jax.planner import chips, sweep
from tests.planner.test_plan import STAGE, config

pytestmark = pytest.mark.skipif(
  importlib.util.find_spec("libtpu") is None, reason="libtpu is missing"
)

# A gradient through large layers, most of a chip's memory. In a process of its
# own, which ends before the compiler does.
PLANS = """
import math, os
import jax, jax.numpy as jnp
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec as P
import numpy as np
from emma_jax.planner import chips, counts, jobs, plan

WIDTH, GIB = 16384, 2**30
wanted = chips.topology("v5e:2x2")
mesh = Mesh(np.array(chips.describe(wanted)), ("fsdp",),
            axis_types=(AxisType.Auto,))

def loss(ws, x):
  layer = lambda x, w: (jnp.tanh(x @ w), None)
  return jnp.sum(jax.lax.scan(layer, x, ws)[0].astype(jnp.float32) ** 2)

def make(layers, quick=False):
  array = lambda spec, *shape: jax.ShapeDtypeStruct(
      shape, jnp.bfloat16, sharding=NamedSharding(mesh, P(*spec)))
  ws = array((None, "fsdp"), layers, WIDTH, WIDTH)
  x = array(("fsdp",), 4 * WIDTH, WIDTH)
  job = jobs.Job(
      name="train layers", traced=jax.jit(jax.grad(loss)).trace(ws, x),
      mesh=mesh, arguments=dict(parameters=ws.size // 2, batch=x.size // 2),
      parameters=ws.size, tokens=1, lengths=(), model=counts.Counts(),
      asked=counts.Counts(), whole_weights=(), remat="none")
  return plan.make(job, wanted, {}, quick=quick)

"""


def run(code: str) -> None:
  subprocess.run(
    [sys.executable, "-c", PLANS + code],
    check=True,
    env=os.environ | {"JAX_PLATFORMS": "cpu"},
  )


def test_what_libtpu_accepts_fits_and_what_it_refuses_does_not():
  """And the sums on both sides of the border are those of one program."""
  run("""
last, first = make(6), make(7)
assert last.fits and not last.causes and last.hbm_bytes > 0.9 * 15.75 * GIB
assert not first.fits and first.causes and first.matmul_flops == 0
# A layer more: its share of the weights, a gradient, and three activations.
layer = WIDTH**2 * 2
more = first.hbm_bytes - (last.hbm_bytes - last.hbm["code"])
assert abs(more - layer * (1 / 4 + 1 + 3)) <= 0.01 * GIB, more / layer
""")


def test_memory_is_known_before_there_is_code():
  run("""
whole, quick = make(6), make(6, quick=True)
for kind, size in whole.hbm.items():
  assert kind == "code" or quick.hbm[kind] == size, kind
assert "code" not in quick.hbm and quick.fits
os._exit(0)
""")


def test_a_quick_sweep_stops_the_compiler_after_each_plan():
  wanted = chips.topology("v5e:2x2")
  small = config()
  small["stages"][STAGE]["rows"] = 4
  mesh = dict(slice=1, data=1, fsdp=4, tensor=1)
  tried = [sweep.Candidate(mesh, remat) for remat in ("nonsense", "full")]
  heard = []
  first, second = sweep.run(
    small, STAGE, wanted, (), {}, tried, heard.append, quick=True
  )
  assert [o.candidate.remat for o in heard] == ["nonsense", "full"]
  assert second.plan is None and "nonsense" in second.error
  assert first.plan.fits and first.plan.method == "roofline"
  assert first.plan.devices == 4 and first.plan.tokens_per_second > 0
  assert "code" not in first.plan.hbm
