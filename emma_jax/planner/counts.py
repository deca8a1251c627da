"""FLOPs of matmuls as the model's equations ask for them, before any compiler.

Counted on JAX's program of the whole computation over all devices. Without
recomputation (remat "none") that is what the model needs, forward and, for what
is trained, backward: the numerator of MFU. With it, it is what a step has to
compute: the compiler's own count times the devices should be hardly above (see
`partition.for_tpu`).
"""

from collections.abc import Mapping
import dataclasses
import math
from typing import Any

from jax.extend import core
from jax.interpreters import partial_eval

from emma_jax.planner.program import meetings

# cuDNN's attention, as JAX calls it, and its products of matrices.
_CUDNN = {"dot_product_attention_fwd": 2, "dot_product_attention_bwd": 5}


@dataclasses.dataclass(frozen=True)
class Counts:
  """Matmul FLOPs in plain JAX, and at most those in kernels (Pallas, cuDNN) by
  name.

  A kernel is counted as if no tile were skipped; how many are depends on the
  batch.
  """

  matmul: int = 0
  kernels: Mapping[str, int] = dataclasses.field(default_factory=dict)

  @property
  def kernel(self) -> int:
    """Of all kernels."""
    return sum(self.kernels.values())

  def __add__(self, other: "Counts") -> "Counts":
    kernels = dict(self.kernels)
    for name, n in other.kernels.items():
      kernels[name] = kernels.get(name, 0) + n
    return Counts(self.matmul + other.matmul, kernels)

  def __mul__(self, n: int) -> "Counts":
    return Counts(self.matmul * n, {k: v * n for k, v in self.kernels.items()})


def count(jaxpr: core.ClosedJaxpr, platform: str) -> Counts:
  """Of one evaluation; "tpu" or "cuda" chooses between a platform's branches.

  Loops of unknown length count once, of branches the heaviest.
  """
  # Autodiff leaves products that nobody asks for; compilers drop them.
  live, _ = partial_eval.dce_jaxpr(
    jaxpr.jaxpr, [True] * len(jaxpr.jaxpr.outvars)
  )
  return _count(live, platform, inside_kernel=False)


def _count(jaxpr: core.Jaxpr, platform: str, inside_kernel: bool) -> Counts:
  total, exclusive = Counts(), Counts()
  for eqn in jaxpr.eqns:
    name, p = eqn.primitive.name, eqn.params
    inner = lambda x: _count(_open(x), platform, inside_kernel)
    if name == "dot_general":
      total += Counts(_dot_flops(eqn))
    elif name == "conv_general_dilated":
      total += Counts(_conv_flops(eqn))
    elif name == "scan":
      total += inner(p["jaxpr"]) * p["length"]
    elif name == "while":
      total += inner(p["body_jaxpr"])
    elif name == "cond":
      choice = p.get("branches_platforms")
      if choice is not None:
        total += inner(p["branches"][_branch(choice, platform)])
      elif inside_kernel:
        # Tiles with and without a mask are two conditions in a row, of which
        # at most one holds.
        heaviest = max(map(inner, p["branches"]), key=_all)
        exclusive = max(exclusive, heaviest, key=_all)
      else:
        total += max(map(inner, p["branches"]), key=_all)
    elif name == "mpmd_map":  # a Mosaic GPU kernel, whose loops end by data
      total += Counts(0, {p["name"]: p["cost_estimate"].flops})
    elif name.removesuffix("_wrapper") in _CUDNN:
      name, (q, k) = name.removesuffix("_wrapper"), map(_shape, eqn.invars[:2])
      total += Counts(0, {name: 2 * _CUDNN[name] * math.prod(q) * k[1]})
    elif name == "pallas_call":
      steps = math.prod(n for n in p["grid_mapping"].grid if isinstance(n, int))
      body = _count(_open(p["jaxpr"]), platform, inside_kernel=True)
      name = _open(p["jaxpr"]).debug_info.func_name
      total += Counts(0, {name: body.matmul * steps})
    elif name == "shard_map":
      # Its shapes are those of one device.
      total += inner(p["jaxpr"]) * math.prod(
        p["mesh"].shape[a] for a in p["newly_manual_axes"]
      )
    else:
      for value in p.values():
        if isinstance(value, (core.Jaxpr, core.ClosedJaxpr)):
          total += inner(value)
          break  # custom_vjp carries its backward pass beside the forward one
  return total + exclusive


def _all(x: Counts) -> int:
  return x.matmul + x.kernel


def _open(x: Any) -> core.Jaxpr:
  return x.jaxpr if isinstance(x, core.ClosedJaxpr) else x


def _shape(x: Any) -> tuple[int, ...]:
  """Of an array that a program reads or makes (a Var or a Literal)."""
  return x.aval.shape


def _branch(platforms: Any, platform: str) -> int:
  """Which branch of `platform_dependent`: the last tuple is the default's."""
  for i, names in enumerate(platforms):
    if names is None or platform in names:
      return i
  raise ValueError(f"No branch for {platform!r} in {platforms}.")


def _dot_flops(eqn: core.JaxprEqn) -> int:
  (left, _), _ = eqn.params["dimension_numbers"]
  sizes = _shape(eqn.invars[0])
  contracted = math.prod(sizes[a] for a in left)
  return 2 * math.prod(_shape(eqn.outvars[0])) * contracted


def _conv_flops(eqn: core.JaxprEqn) -> int:
  """Only places that meet data: padding and gaps are no work."""
  p, numbers = eqn.params, eqn.params["dimension_numbers"]
  left, right = map(_shape, eqn.invars[:2])
  out = _shape(eqn.outvars[0])
  o, r, x = numbers.out_spec, numbers.rhs_spec, numbers.lhs_spec
  total = 2 * out[o[0]] * out[o[1]] * right[r[1]]
  for i in range(len(out) - 2):
    total *= meetings(
      size=left[x[i + 2]],
      outputs=out[o[i + 2]],
      window=right[r[i + 2]],
      stride=p["window_strides"][i],
      pad=p["padding"][i][0],
      spread=p["lhs_dilation"][i],
      reach=p["rhs_dilation"][i],
    )
  return total
