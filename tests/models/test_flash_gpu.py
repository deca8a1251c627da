"""The choice among ways of attention on NVIDIA GPUs, and its kernels.

No GPU is here: kernels are lowered for the H100 on any machine, compiled for it
where the extra "cuda" is installed, and run by Pallas' interpreter.
"""

import functools
import importlib.util

import jax
from jax.experimental.pallas import mosaic_gpu as plgpu
from jax.extend.core import jaxprs_in_params
import jax.numpy as jnp
import numpy as np
import pytest

from emma_jax.models import attention, flash, flash_gpu, masks, partition
from emma_jax.structs import TokenIds
from tests import programs
from tests.models import test_flash as t

AMPERE, HOPPER, BLACKWELL = (8, 0), (9, 0), (10, 0)
KERNELS = ("forward_kernel", "query_gradient_kernel", "key_gradient_kernel")

# capability, dtype, width, masked -> how. SigLIP2's heads have 72, Qwen3's 128.
CHOICES = [
  (HOPPER, "bfloat16", 128, True, "kernel"),
  (HOPPER, "bfloat16", 72, True, "kernel"),
  (HOPPER, "float16", 64, True, "kernel"),
  (HOPPER, "bfloat16", 129, True, "chunked"),
  (HOPPER, "bfloat16", 256, True, "chunked"),
  (HOPPER, "float32", 128, True, "chunked"),
  (HOPPER, "bfloat16", 72, False, "cudnn"),
  (HOPPER, "bfloat16", 128, False, "cudnn"),
  (HOPPER, "float16", 8, False, "cudnn"),
  (HOPPER, "bfloat16", 76, False, "kernel"),  # no multiple of 8
  (HOPPER, "bfloat16", 136, False, "chunked"),
  (HOPPER, "float32", 72, False, "chunked"),
  (AMPERE, "bfloat16", 128, True, "chunked"),
  (AMPERE, "bfloat16", 72, False, "cudnn"),
  (AMPERE, "bfloat16", 76, False, "chunked"),
  (AMPERE, "float32", 72, False, "chunked"),
  ((7, 5), "float16", 64, False, "chunked"),
  (BLACKWELL, "bfloat16", 128, True, "chunked"),
  (BLACKWELL, "bfloat16", 128, False, "cudnn"),
  (None, "bfloat16", 128, True, "chunked"),
  (None, "bfloat16", 128, False, "chunked"),
]


@pytest.mark.parametrize("capability, dtype, width, masked, path", CHOICES)
def test_each_case_has_its_path(capability, dtype, width, masked, path):
  assert flash.gpu_path(capability, dtype, width, masked) == path


def shapes(S: int, E: int, dtype: str, sharding=None):
  """Queries, keys and ids as `t.arrays` and `t.packed` make them."""
  make = functools.partial(jax.ShapeDtypeStruct, sharding=sharding)
  q, k = (make((1, S, n, E), jnp.dtype(dtype)) for n in (2, 1))
  return q, k, k, q, TokenIds(*[make((1, S), jnp.int32)] * 5)


def program(platform, capability, masked: bool = True, path: str = "auto"):
  """Output and gradients of attention for that platform."""

  def run(q, k, v, dout, ids):
    ids = ids if masked else None
    with partition.compiled_for(platform, capability):
      out, back = jax.vjp(
        lambda *x: attention.attend(*x, ids, ids, path), q, k, v
      )
      return out, *back(dout)

  return run


def kernels(jaxpr) -> list[str]:
  """Names of the kernels for GPUs in a program."""
  found = []
  for eqn in jaxpr.eqns:
    if eqn.primitive.name == "mpmd_map":
      found.append(eqn.params["name"])
    else:
      for inner in jaxprs_in_params(eqn.params):
        found += kernels(inner)
  return found


@pytest.mark.parametrize(
  "platform, capability, dtype, path, found",
  [
    ("gpu", HOPPER, "bfloat16", "auto", True),
    ("gpu", HOPPER, "bfloat16", "kernel", True),
    ("gpu", HOPPER, "bfloat16", "chunked", False),
    ("gpu", HOPPER, "float32", "kernel", False),
    ("gpu", AMPERE, "bfloat16", "kernel", False),
    ("gpu", None, "bfloat16", "kernel", False),
    ("cpu", None, "bfloat16", "kernel", False),
  ],
)
def test_what_is_traced_for_a_gpu_is_what_was_chosen(
  platform, capability, dtype, path, found
):
  q, k, v, _, ids = shapes(1024, 72, dtype)

  def run(q, k, v, ids):
    with partition.compiled_for(platform, capability):
      together = attention.attend(q, k, v, ids, ids, path)
      (apart,) = attention.attend_each([q], k, v, [ids], ids, path)
      return together, apart

  traced = kernels(jax.make_jaxpr(run)(q, k, v, ids).jaxpr)
  assert traced == ["forward_kernel"] * 2 * found


def test_the_kernels_lower_for_an_h100_and_hold_no_S_x_S():
  """Without XLA's part for GPUs; heads of 4B."""
  S = 8192
  traced = jax.jit(program("gpu", HOPPER)).trace(*shapes(S, 128, "bfloat16"))
  jaxpr = traced.jaxpr.jaxpr
  assert sorted(kernels(jaxpr)) == sorted(KERNELS)
  assert t.largest(jaxpr) < S * S / 4
  text = traced.lower(lowering_platforms=("cuda",)).as_text()
  assert text.count("@mosaic_gpu_v2") == len(KERNELS)


def test_what_kernels_do_not_take_is_refused():
  q, k, v, _ = t.arrays(8, 8, 2, 1, 16)
  ids = t.anything(0, 8)
  with pytest.raises(ValueError, match="float32 heads of 16.*'chunked'"):
    flash_gpu.forward(q, k, v, ids, ids)
  wide = jnp.zeros((1, 8, 1, 192), jnp.bfloat16)
  with pytest.raises(ValueError, match="bfloat16 heads of 192"):
    flash_gpu.forward(wide, wide, wide, ids, ids)


# ---------------------------------------------------------------- numbers


def interpreter(**how):
  """Pallas' interpreter of GPU kernels, which checks their barriers too."""
  if not hasattr(plgpu, "InterpretGPUParams"):  # not public before JAX 0.11
    from jax._src.pallas.mosaic_gpu.interpret import params

    return params.InterpretGPUParams(**how)
  return plgpu.InterpretGPUParams(**how)


def test_kernels_equal_plain_whatever_the_ids():
  """Several tiles of either side and heads a key head, one of them padded."""
  path = flash.Path(
    *(
      functools.partial(f, interpret=interpreter())
      for f in (flash_gpu.forward, flash_gpu.backward)
    )
  )
  L, S = 128, 200
  one = lambda tree: jax.tree.map(lambda x: x[:1], tree)
  inputs = one(t.arrays(L, S, 2, 1, 24, jnp.bfloat16))
  rest = jax.tree.map(lambda x: x[:, 100 : 100 + S - 128], one(t.packed(1)))
  key = masks.join(masks.together(jnp.ones((1, 128))), rest)
  query = jax.tree.map(lambda x: x[:, :L], key)
  kinds = masks.tiles(
    masks.pad(query, 256), masks.pad(key, 256), *flash_gpu.QUERY_TILE
  )
  assert len(np.unique(kinds)) == 3  # tiles without, with a mask, and of no use
  ours = t.through(path)(*inputs, query, key)
  exact = t.plain(*(x.astype(np.float32) for x in inputs), query, key)
  t.close(ours, exact, 2e-2)
  assert {x.dtype for x in ours} == {jnp.dtype(jnp.bfloat16)}


# ---------------------------------------------------------------- compiled

COMPILED = """
import json, re, jax, jax.numpy as jnp
from emma_jax.models import flash, partition
from emma_jax.planner import chips
from tests.models import test_flash_gpu as t

out = []
for chip in ("h100", "a100"):
  device, = chips.describe(chips.topology(chip + ":1"))
  capability = partition.capability_of(device)
  for case in t.CHOICES:
    if case[0] != capability:
      continue
    _, dtype, width, masked, path = case
    shapes = t.shapes(
        1024, width, dtype, jax.sharding.SingleDeviceSharding(device))
    compiled = jax.jit(t.program("gpu", capability, masked)).lower(
        *shapes).compile(compiler_options={"xla_gpu_enable_triton_gemm": False})
    text = compiled.as_text()
    out.append({
        "case": str(case), "path": path, "squares": text.count("1024,1024]"),
        "kernel": text.count('custom_call_target="mosaic_gpu'),
        "cudnn": len(re.findall(
            'custom_call_target="__cudnn.fmha', text))})
print(json.dumps(out))
"""


@pytest.mark.slow
@pytest.mark.skipif(
  importlib.util.find_spec("jax_plugins") is None
  or importlib.util.find_spec("jax_plugins.xla_cuda13") is None,
  reason="needs the extra cuda",
)
def test_xla_takes_every_choice_for_its_gpu():
  found = programs.printed(COMPILED, JAX_PLATFORMS="cpu")
  assert len(found) == sum(x[0] in (HOPPER, AMPERE) for x in CHOICES)
  for case in found:
    print(case)
    want = {"kernel": 3, "cudnn": 2}  # forward and backward
    # A chunk of so few tokens is all of them.
    assert not case["squares"] or case["path"] == "chunked"
    for path, calls in want.items():
      assert case[path] == (calls if path == case["path"] else 0)
