"""Modules on fixed weights and inputs, and what a golden holds of them.

Programs are compiled without optimisations, which takes a third of the time,
and round to bfloat16 wherever the code says so: left to itself XLA's CPU
backend drops a rounding between two steps that it fuses.
"""

from collections.abc import Callable, Mapping
import functools
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from emma_jax import rules
from tests.goldens.store import Tolerance, noise

STRICT = {
  "xla_backend_optimization_level": 0,
  "xla_allow_excess_precision": False,
}

# Beside the tolerances of `store`, which are of one product or sum. A model of
# many layers adds up their errors; one rounding to bfloat16 of float32 sums
# falls elsewhere in hardly any value, whoever sums.
DEEP = Tolerance(of_largest=1e-4)
ROUNDED = Tolerance(of_mean=4e-4)
# Gradients through a chain of roundings to bfloat16: jax 0.10 and 0.12 differ
# by 9e-3 where they take products in another order.
CHAINED = Tolerance(of_mean=2e-2)


def weights(shapes: Any) -> dict:
  """Float32 weights by path: around 1 where a norm scales, else around 0 and
  of a size that keeps activations near 1; nothing is symmetric or zero."""
  out = {}
  for path, leaf in rules.flatten(nn.unbox(shapes)).items():
    x, name = noise(path, leaf.shape), path.split("/")[-1]
    if name in ("scale", "var") or name.endswith("_norm"):
      out[path] = 1 + 0.5 * x
    elif leaf.ndim < 2 or name == "bias":
      out[path] = 0.4 * x
    else:
      # All axes but the last and those of stacked layers, as good as any.
      out[path] = x * np.float32((3 / max(leaf.shape[-2], 4)) ** 0.5)
  return rules.unflatten(out)


def bound(
  module: nn.Module, *inputs: Any, method: Any = "__call__"
) -> tuple[Callable, dict]:
  """(apply, weights) of a module: `apply(weights, *inputs)`."""
  # Some modules have a field `init`, which hides the method.
  init = functools.partial(nn.Module.init, module, method=method)
  shapes = jax.eval_shape(init, jax.random.key(0), *inputs)
  apply = lambda p, *x: module.apply({"params": p}, *x, method=method)
  return apply, weights(shapes["params"])


def measured(f: Callable, params: Any, *inputs: Any) -> dict[str, Any]:
  """f's output, and of the gradient by each weight and input two numbers.

  The gradient is of the output's product with fixed noise. `sizes` are the
  decimal logarithms of its norms, `along` its products with other noise over
  its norm: both are about 1 for every leaf, so all are held at one tolerance
  (and 0 where a leaf has no gradient).
  """

  @functools.partial(jax.jit, compiler_options=STRICT)
  def run(params, inputs):
    out, back = jax.vjp(f, params, *inputs)
    behind = jax.tree_util.tree_map_with_path(
      lambda keys, x: jnp.asarray(
        noise(f"behind {rules.path_of(keys)}", x.shape), x.dtype
      ),
      out,
    )
    return out, back(behind)

  out, gradients = run(params, inputs)
  return {"out": out, **directions(gradients)}


def made(f: Callable, params: Any, *inputs: Any) -> dict[str, Any]:
  """f's output alone."""
  return {"out": jax.jit(f, compiler_options=STRICT)(params, *inputs)}


def directions(gradients: Any) -> dict[str, np.ndarray]:
  """`sizes` and `along` of `measured`."""
  sizes, along = [], []
  for path, x in sorted(rules.flatten(gradients).items()):
    x = np.asarray(x, np.float64)
    norm = math.sqrt((x**2).sum())
    other = noise(f"along {path}", x.shape)
    sizes.append(math.log10(norm) if norm else 0.0)
    along.append((x * other).sum() / norm if norm else 0.0)
  return {"sizes": np.array(sizes), "along": np.array(along)}


def float32(cases: Mapping[str, Callable[[Any], dict]]) -> dict:
  """Cases of a dtype, in float32."""
  return {
    f"{name}/float32": functools.partial(case, jnp.float32)
    for name, case in cases.items()
  }


def both(cases: Mapping[str, Callable[[Any], dict]]) -> dict:
  """Cases of a dtype, in float32 and in bfloat16."""
  low = {
    f"{name}/bfloat16": functools.partial(case, jnp.bfloat16)
    for name, case in cases.items()
  }
  return float32(cases) | low


def values(name: str, shape: tuple[int, ...], dtype: Any = np.float32):
  """`noise` as a numpy array of that dtype."""
  return noise(name, shape).astype(dtype)
