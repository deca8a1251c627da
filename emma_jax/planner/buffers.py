"""Arrays that a program keeps in the device's memory, and where they are made.

The compiler lets buffers share memory over time, and does not write down which
ones: sums over these would exceed what a step needs at once.
"""

from collections.abc import Collection, Iterable, Iterator
import dataclasses

from emma_jax.planner.hlo import Array, Computation, Instruction
from emma_jax.planner.program import Program
from emma_jax.training.accumulation import SCOPE

_NO_BUFFER = (
  "tuple",
  "get-tuple-element",
  "bitcast",
  "while",
  "conditional",
  "parameter",
  "optimization-barrier",
  "opt-barrier",
  "copy-done",
  "after-all",
  "call",
  "constant",
)
_PASS = (
  "get-tuple-element",
  "copy",
  "bitcast",
  "optimization-barrier",
  "opt-barrier",
  "copy-start",
  "copy-done",
)


@dataclasses.dataclass(frozen=True)
class Buffer:
  """`bytes` on one device, padding included."""

  array: str
  bytes: int
  times: int  # instructions that make one of the same shape at that place
  op: str
  source: str


def largest(program: Program, count: int) -> list[Buffer]:
  """The largest arrays that instructions make, one of each shape and place."""
  found: dict[tuple, list[Instruction]] = {}
  arrays: dict[tuple, Array] = {}
  for x, array in _made(program):
    key = (str(array), program.module.source(x, "emma_jax"))
    found.setdefault(key, []).append(x)
    arrays[key] = array
  order = sorted(found, key=lambda k: -arrays[k].padded_bytes)
  return [
    Buffer(
      key[0],
      arrays[key].padded_bytes,
      len(found[key]),
      _short(found[key][0].op_name),
      key[1],
    )
    for key in order[:count]
  ]


def square(program: Program, lengths: Collection[int]) -> list[Buffer]:
  """Arrays of row x row, of several heads or rows, or a mask of one.

  Attention that makes them needs memory that grows with the square of the row.
  (A plain row x width matrix may have equal sizes by chance.)
  """
  out: dict[tuple, Buffer] = {}
  for x, array in _made(program):
    sizes = array.sizes
    twice = any(sizes.count(n) >= 2 for n in lengths)
    if twice and (array.dtype == "pred" or sum(n > 1 for n in sizes) > 2):
      source = program.module.source(x, "emma_jax")
      out.setdefault(
        (str(array), source),
        Buffer(str(array), array.padded_bytes, 1, _short(x.op_name), source),
      )
  return sorted(out.values(), key=lambda b: -b.bytes)


def kept(program: Program, backward: bool) -> int:
  """Bytes of what the loops over layers stack up: one piece for each round.

  Forward loops stack up what the backward pass needs of every layer
  (activations), backward loops the gradients of every layer's weights. They
  are the entry's, or those of the loop over micro-batches.
  """
  total = 0
  for loop in _loops(program, program.module.entry):
    if ("transpose(" in loop.op_name) != backward:
      continue
    body = program.module.computations[loop.called("body")[0]]
    carried = body.root.operands if body.root.opcode == "tuple" else ()
    for index, (name, array) in enumerate(zip(carried, loop.arrays)):
      if array.space == 0 and _is_updated(program, body, name, index):
        total += array.padded_bytes
  return total


def _loops(program: Program, computation: Computation) -> Iterator[Instruction]:
  """Loops over layers; those inside of the loop over micro-batches in its
  place."""
  for x in computation:
    if x.opcode != "while":
      continue
    if x.op_name.endswith(f"{SCOPE}/while"):
      yield from _loops(
        program, program.module.computations[x.called("body")[0]]
      )
    else:
      yield x


def _made(program: Program) -> Iterable[tuple[Instruction, Array]]:
  """(instruction, array) of everything written to the device's memory."""
  seen = set()
  for run in program.top():
    x = run.instruction
    if x.opcode in _NO_BUFFER or (run.computation.name, x.name) in seen:
      continue
    seen.add((run.computation.name, x.name))
    for array in x.arrays:
      if array.space == 0 and array.elements > 1:
        yield x, array


def _is_updated(
  program: Program, body: Computation, name: str, index: int
) -> bool:
  """Whether a round writes a slice into what the loop carries there."""
  x = body.instructions[name]
  while x.opcode in _PASS:
    if x.opcode == "get-tuple-element":
      source = body.operands(x)[0]
      if source.opcode == "parameter":
        return False  # passed on as it came
      if source.opcode != "fusion":
        x = source
        break
      inner = program.module.computations[source.called("calls")[0]]
      root = inner.operands(inner.root)[int(x.attribute("index") or 0)]
      return _updates(inner, root)
    x = body.operands(x)[0]
  if x.opcode == "fusion":
    inner = program.module.computations[x.called("calls")[0]]
    return _updates(inner, inner.root)
  return x.opcode == "dynamic-update-slice"


def _updates(inner: Computation, x: Instruction) -> bool:
  while x.opcode in ("bitcast", "copy", "convert"):
    x = inner.operands(x)[0]
  return x.opcode == "dynamic-update-slice"


def _short(op_name: str) -> str:
  """JAX's path without the parts that are the same everywhere.

  >>> _short("jit(step)/transpose(jvp(Llm))/shallow/while/body/mlp/dot_general")
  'transpose(jvp(Llm))/shallow/mlp/dot_general'
  """
  drop = {"while", "body", "closed_call", "checkpoint", "rematted_computation"}
  parts = [p for p in op_name.split("/")[1:] if p not in drop]
  return "/".join(parts[-5:])
