"""Where the time of a step goes, by the compiler's own model or a roofline.

The method, for TPUs. Their compiler writes `estimated_cycles` beside what it
schedules: the cost by which it chose tiles and order. Summed over a step, with
each loop's trip count, and divided by the clock, they reproduce the chip's peak
on large matmuls. Kernels (Pallas) and communication carry no estimate, and
2^63 - 1 stands for "nothing to do": so the sum is a lower bound on the step's
time, and what follows from it an upper bound on MFU.

For other chips the same sum is made of roofline times: of each instruction the
larger of FLOPs / peak and bytes moved / bandwidth. Kernels get such a time on
every chip, beside the sum: the compiler does not look into them.
"""

from collections.abc import Iterator, Mapping
import dataclasses
import re

from emma_jax.planner.collectives import is_collective
from emma_jax.planner.hlo import Computation, Instruction
from emma_jax.planner.program import Program, Run, flops, is_matmul

_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
_NOTHING = 2**62  # and more: the sentinel
# Custom calls that run a kernel of our own or of a library.
KERNELS = ("tpu_custom_call", "__cudnn$fmha", "mosaic_gpu")
_FREE = (
  "parameter",
  "constant",
  "tuple",
  "get-tuple-element",
  "bitcast",
  "while",
  "conditional",
  "call",
  "partition-id",
  "after-all",
  "optimization-barrier",
  "copy-start",
  "copy-done",
  "opt-barrier",
)


@dataclasses.dataclass(frozen=True)
class Cost:
  """Seconds of one instruction over a step; what it does and where."""

  seconds: float
  work: str
  source: str


def by_cycles(program: Program, clock_hz: float) -> list[Cost]:
  """Costs of everything that carries the compiler's estimate."""
  out = []
  for run in program.top():
    x = run.instruction
    found = _CYCLES.search(x.attributes)
    if not found or int(found.group(1)) >= _NOTHING:
      continue
    if is_collective(x) or is_kernel(x):
      continue
    seconds = int(found.group(1)) * run.count / clock_hz
    out.append(Cost(seconds, work(program, x), _source(program, x)))
  return out


def by_roofline(
  program: Program, peak_flops: float, bytes_per_second: float
) -> list[Cost]:
  """Costs of everything but kernels and communication."""
  out = []
  for run in program.top():
    x = run.instruction
    name = x.opcode.removesuffix("-start").removesuffix("-done")
    if x.opcode in _FREE or is_kernel(x) or is_collective(x):
      continue
    if x.opcode.endswith("-done") or (
      name in ("recv", "custom-call") and not is_matmul(x)
    ):
      continue
    moved = moved_bytes(program, run.computation, x)
    seconds = max(
      _flops_of(program, run) / peak_flops, moved / bytes_per_second
    )
    if seconds:
      out.append(
        Cost(seconds * run.count, work(program, x), _source(program, x))
      )
  return out


def is_kernel(x: Instruction) -> bool:
  """Whether it calls a kernel (Pallas, cuDNN), whose inside XLA cannot see."""
  return x.opcode == "custom-call" and x.target.startswith(KERNELS)


def kernel_calls(program: Program) -> dict[str, int]:
  """Kernel -> calls a step."""
  out: dict[str, int] = {}
  for run in program.top():
    if is_kernel(run.instruction):
      name = _kernel_name(run.instruction)
      out[name] = out.get(name, 0) + run.count
  return out


def by_kernel(
  program: Program,
  flops_of: Mapping[str, int],
  peak_flops: float,
  bytes_per_second: float,
) -> dict[str, float]:
  """Kernel -> seconds a step, the larger of FLOPs / peak and bytes / bandwidth.

  Bytes are those of operands and results in the device's main memory, each
  once: a kernel may read an operand again for every tile.

  Args:
    program: of one device.
    flops_of: a device's FLOPs of a step by kernel (see `counts`); of kernels
      that are not in it only the bytes count.
    peak_flops: a second.
    bytes_per_second: of the main memory.
  """
  moved = dict.fromkeys(flops_of, 0)
  for run in program.top():
    if is_kernel(run.instruction):
      name = _kernel_name(run.instruction)
      places = [run.instruction, *run.computation.operands(run.instruction)]
      size = sum(
        a.padded_bytes for x in places for a in x.arrays if a.space == 0
      )
      moved[name] = moved.get(name, 0) + size * run.count
  return {
    name: max(flops_of.get(name, 0) / peak_flops, n / bytes_per_second)
    for name, n in moved.items()
  }


def _kernel_name(x: Instruction) -> str:
  """As in JAX's program; GPUs' instructions are all called mpmd_map."""
  found = re.search(r"([\w.-]+)/(?:pallas_call|mpmd_map)$", x.op_name)
  return found[1] if found else re.sub(r"[.\d]+$", "", x.name)


def work(program: Program, x: Instruction) -> str:
  """What an instruction does, in a word: matmul, reduce, copy or other."""
  inside = [x, *program.inside(x)] if x.opcode == "fusion" else [x]
  opcodes = {i.opcode for i in inside}
  if any(is_matmul(i) for i in inside):
    return "matmul"
  if opcodes & {"gather", "scatter", "sort"}:
    return "gather"
  if opcodes & {"reduce", "reduce-window"}:
    return "reduce"
  moves = {
    "fusion",
    "parameter",
    "copy",
    "bitcast",
    "transpose",
    "reshape",
    "slice",
    "dynamic-slice",
    "dynamic-update-slice",
    "concatenate",
    "pad",
    "broadcast",
    "constant",
    "tuple",
    "get-tuple-element",
    "select",
    "iota",
    "copy-start",
    "copy-done",
    "add",
    "compare",
  }
  return "copy" if opcodes <= moves else "elementwise"


def _source(program: Program, x: Instruction) -> str:
  return program.module.source(x, "emma_jax")


def _flops_of(program: Program, run: Run) -> int:
  x = run.instruction
  total = flops(run.computation, x)
  for name in _called(x):
    computation = program.module.computations[name]
    total += sum(flops(computation, i) for i in computation)
  return total


def _called(x: Instruction) -> tuple[str, ...]:
  return x.called("calls") if x.opcode == "fusion" else ()


# -------------------------------------------------------------------- bytes


def moved_bytes(
  program: Program, computation: Computation, x: Instruction
) -> int:
  """Bytes read and written; of a slice of a stack only the slice."""
  if x.opcode == "dynamic-slice":
    return 2 * x.arrays[0].bytes
  if x.opcode == "dynamic-update-slice":
    return 2 * computation.operands(x)[1].arrays[0].bytes
  names = _called(x)
  if not names:
    read = sum(a.bytes for i in computation.operands(x) for a in i.arrays)
    return read + sum(a.bytes for a in x.arrays)
  inner = program.module.computations[names[0]]
  return sum(_read(inner)) + _written(inner, x)


def _read(inner: Computation) -> Iterator[int]:
  """Bytes that a fusion reads of each of its operands."""
  for parameter in inner.parameters:
    users = [i for i in inner if parameter.name in i.operands]
    slices = [i for i in users if i.opcode == "dynamic-slice"]
    updates = [
      i
      for i in users
      if i.opcode == "dynamic-update-slice" and i.operands[0] == parameter.name
    ]
    if users and len(slices) + len(updates) == len(users):
      yield sum(i.arrays[0].bytes for i in slices)  # updates read nothing
    else:
      yield sum(a.bytes for a in parameter.arrays)


def _written(inner: Computation, x: Instruction) -> int:
  outputs = (
    [inner.root] if inner.root.opcode != "tuple" else inner.operands(inner.root)
  )
  total = 0
  for out in outputs:
    while out.opcode == "bitcast":
      out = inner.operands(out)[0]
    if out.opcode == "dynamic-update-slice":
      out = inner.operands(out)[1]
    total += sum(a.bytes for a in out.arrays)
  return total
