"""How often each instruction of a program runs, and the FLOPs of matmuls.

The compiler's own totals count the body of every scan once. Here each
instruction gets the product of the trip counts of the loops around it.
"""

from collections.abc import Iterator
import dataclasses
import math
import re

import numpy as np

from emma_jax.planner.hlo import Computation, Instruction, Module

# Calls whose computation runs beside the program: gathers on SparseCores, ...
ASYNC_CALLS = ("async-start", "call-start")
_LOOK_THROUGH = (
  "copy",
  "bitcast",
  "convert",
  "copy-done",
  "copy-start",
  "optimization-barrier",
)


@dataclasses.dataclass(frozen=True)
class Run:
  """An instruction and how often a step runs it."""

  instruction: Instruction
  computation: Computation
  count: int
  fused: bool  # part of another instruction: takes no memory of its own


@dataclasses.dataclass(frozen=True)
class Program:
  """All that runs, and the loops whose length the text does not tell."""

  module: Module
  runs: tuple[Run, ...]
  unknown_loops: tuple[str, ...]

  def top(self) -> Iterator[Run]:
    """What the device executes one after the other."""
    return (run for run in self.runs if not run.fused)

  def inside(self, instruction: Instruction) -> Iterator[Instruction]:
    """Instructions of what a fusion or an asynchronous call consists of."""
    for name in instruction.called("calls") or instruction.called("to_apply"):
      for inner in self.module.computations[name]:
        yield inner
        if inner.opcode in ("fusion", "call", *ASYNC_CALLS):
          yield from self.inside(inner)


def trace(module: Module) -> Program:
  """Follows the program from its entry; loops of unknown length run once.

  Of a conditional's branches the one with the most matmul FLOPs is taken.
  """
  runs: list[Run] = []
  unknown: list[str] = []

  def visit(name: str, count: int, fused: bool) -> None:
    computation = module.computations[name]
    for x in computation:
      runs.append(Run(x, computation, count, fused))
      if x.opcode == "while":
        n = trip_count(module, computation, x)
        if n is None:
          unknown.append(x.op_name or x.name)
        for body in x.called("body"):
          visit(body, count * (1 if n is None else n), fused)
      elif x.opcode == "conditional":
        visit(_heaviest(module, _branches(x)), count, fused)
      elif x.opcode in ("fusion", "call", *ASYNC_CALLS):
        for inner in x.called("calls") or x.called("to_apply"):
          visit(inner, count, fused or x.opcode != "call")

  visit(module.entry.name, 1, False)
  return Program(module, tuple(runs), tuple(unknown))


def _branches(x: Instruction) -> tuple[str, ...]:
  return x.called("branch_computations") or x.called(
    "true_computation"
  ) + x.called("false_computation")


def _heaviest(module: Module, names: tuple[str, ...]) -> str:
  def weight(name: str) -> tuple[int, int]:
    part = trace(
      dataclasses.replace(
        module,
        computations={
          k: dataclasses.replace(c, is_entry=k == name)
          for k, c in module.computations.items()
        },
      )
    )
    return matmul_flops(part), len(part.runs)

  return max(names, key=weight)


# ------------------------------------------------------------------- loops


def trip_count(
  module: Module, computation: Computation, loop: Instruction
) -> int | None:
  """How often a `while` runs; None where the text does not tell.

  Some compilers note it. Others leave a condition `i < n`: then n is a constant
  in the condition, or one that the loop carries, and i starts at a constant and
  grows by one (as in every scan), or by what the body adds (two, where the
  compiler unrolled it once).
  """
  noted = re.search(r'"known_trip_count":\{"n":"(\d+)"\}', loop.attributes)
  if noted:
    return int(noted.group(1))
  condition = module.computations[loop.called("condition")[0]]
  found = _comparison(module, condition)
  if found is None:
    return None
  direction, left, right = found
  initial = computation.operands(loop)[0]

  def value(x: Instruction) -> int | None:
    x = _origin(condition, x)
    if x.opcode == "constant":
      return _constant(x)
    if x.opcode == "get-tuple-element" and initial.opcode == "tuple":
      index = int(x.attribute("index") or 0)
      start = _origin(computation, computation.operands(initial)[index])
      return _constant(start)
    return None

  first, last = value(left), value(right)
  if first is None or last is None:
    return None
  step = _step(module, loop, _origin(condition, left))
  return max(-(-(last - first + (direction == "LE")) // step), 0)


def _step(module: Module, loop: Instruction, counter: Instruction) -> int:
  """What a loop's body adds to the number that its condition compares."""
  body = module.computations[loop.called("body")[0]]
  if body.root.opcode != "tuple":
    return 1
  index = int(counter.attribute("index") or 0)
  x, sides = _unwrapped(
    module, body, _origin(body, body.operands(body.root)[index])
  )
  if x.opcode != "add":
    return 1
  steps = [
    _constant(_origin(body, n) if n.name in body.instructions else n)
    for n in sides
  ]
  return next((n for n in steps if n), 1)


def _comparison(module: Module, condition: Computation):
  """(direction, left, right) in the condition; None: not of this form."""
  x, sides = _unwrapped(module, condition, condition.root)
  direction = x.attribute("direction")
  known = all(
    n.name in condition.instructions or n.opcode == "constant" for n in sides
  )
  if not known or x.opcode != "compare" or direction not in ("LT", "LE"):
    return None
  return direction, *sides


def _unwrapped(module: Module, computation: Computation, x: Instruction):
  """(instruction, operands) of what a fusion may wrap: the fusion's own
  operands stand for its parameters."""
  sides = computation.operands(x)
  if x.opcode != "fusion":
    return x, sides
  inner = module.computations[x.called("calls")[0]]
  return inner.root, [
    sides[int(n.arguments)] if n.opcode == "parameter" else n
    for n in inner.operands(inner.root)
  ]


def _origin(computation: Computation, x: Instruction) -> Instruction:
  while x.opcode in _LOOK_THROUGH:
    x = computation.operands(x)[0]
  return x


def _constant(x: Instruction) -> int | None:
  if x.opcode == "constant" and re.fullmatch(r"-?\d+", x.arguments):
    return int(x.arguments)
  return None


# ------------------------------------------------------------------- FLOPs


def matmul_flops(program: Program) -> int:
  """FLOPs of all matrix products and convolutions of a step on one device.

  A multiplication and an addition are 2. Kernels are not in it.
  """
  return sum(
    flops(r.computation, r.instruction) * r.count for r in program.runs
  )


def is_matmul(x: Instruction) -> bool:
  """Whether it multiplies matrices or convolves, by XLA or by a library."""
  return x.opcode in ("dot", "convolution") or (
    x.opcode == "custom-call"
    and x.target.startswith(("__cublas$", "__cudnn$conv", "__onednn$matmul"))
  )


def flops(computation: Computation, x: Instruction) -> int:
  """Of one instruction itself; 0 unless it is a matmul or a convolution."""
  if not is_matmul(x):
    return 0
  left, right = (i.arrays[0] for i in computation.operands(x)[:2])
  if x.attribute("dim_labels"):
    return _convolution_flops(x, left.sizes, right.sizes)
  axes = x.integers("lhs_contracting_dims")
  if not axes:
    found = re.search(
      r'"lhs_contracting_dimensions":\[([^\]]*)\]', x.attributes
    )
    axes = tuple(map(int, re.findall(r"\d+", found.group(1) if found else "")))
  contracted = math.prod(left.sizes[a] for a in axes)
  return 2 * x.arrays[0].elements * contracted


def _convolution_flops(x: Instruction, left, right) -> int:
  """Only places that meet data count, neither padding nor gaps.

  TPUs write batched matmuls as convolutions whose window slides over the
  batch, dilated or padded so that each output meets one element of it.
  """
  labels = x.attribute("dim_labels") or ""
  inputs, kernel, out = re.split(r"_|->", labels)
  window = dict(
    part.partition("=")[::2]
    for part in (x.attribute("window") or "{}").strip("{}").split()
  )
  out_sizes = x.arrays[0].sizes
  total = 2 * right[kernel.index("i")]
  total *= out_sizes[out.index("b")] * out_sizes[out.index("f")]
  for axis in (c for c in out if c.isdigit()):
    i = int(axis)
    total *= meetings(
      size=left[inputs.index(axis)],
      outputs=out_sizes[out.index(axis)],
      window=right[kernel.index(axis)],
      stride=_of_axis(window, "stride", i, 1),
      pad=_of_axis(window, "pad", i, 0),
      spread=_of_axis(window, "lhs_dilate", i, 1),
      reach=_of_axis(window, "rhs_dilate", i, 1),
    )
  return total


def _of_axis(window: dict, key: str, axis: int, default: int) -> int:
  """The number of an axis; of padding the one before the data."""
  if key not in window:
    return default
  return int(window[key].split("x")[axis].split("_")[0])


def meetings(*, size, outputs, window, stride, pad, spread, reach) -> int:
  """Pairs (output, place in the window) that fall on an element."""
  place = (
    np.arange(outputs)[:, None] * stride - pad + np.arange(window)[None] * reach
  )
  return int(
    ((place % spread == 0) & (place >= 0) & (place // spread < size)).sum()
  )
