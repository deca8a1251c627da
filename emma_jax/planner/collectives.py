"""What a program sends between devices, and what it computes meanwhile."""

from collections.abc import Iterable, Iterator, Mapping
import dataclasses
import math
import re

from emma_jax.planner.hlo import Instruction
from emma_jax.planner.program import ASYNC_CALLS, Program, Run

KINDS = (
  "all-gather",
  "all-reduce",
  "reduce-scatter",
  "all-to-all",
  "ragged-all-to-all",
  "collective-permute",
  "collective-broadcast",
  "send",
)
# Fusions in which a collective begins or goes on beside other work.
_START, _DONE = "AsyncCollectiveStart", "AsyncCollectiveDone"


@dataclasses.dataclass(frozen=True)
class Collective:
  """One instruction that communicates, `count` times a step.

  `bytes` is the whole array: gathered, before it is scattered, reduced.
  """

  kind: str
  bytes: int
  group: int  # devices that take part; 0: all
  count: int
  overlapped: bool
  source: str

  def sent(self, devices: int) -> float:
    """Bytes each device must send in all, with the best algorithm (a ring)."""
    n = self.group or devices
    share = (n - 1) / max(n, 1)
    if self.kind in ("collective-permute", "send"):
      share = 1.0
    return self.bytes * self.count * share * (1 + (self.kind == "all-reduce"))


def collectives(program: Program) -> list[Collective]:
  """All of them, whatever form the compiler gave them:

  sync     all-gather(x), or a fusion around one
  async    all-gather-start(x) ... all-gather-done (GPU: unless is_sync)
  async    async-start or call-start of a computation with one (SparseCore)
  async    a fusion that starts one, fusions that carry it on beside a matmul,
           and one that ends it (TPU); these count once, at their start
  """
  out = []
  for run in program.top():
    for inner, overlapped in _communication(program, run):
      out.append(
        Collective(
          kind=_kind(inner, run.instruction),
          bytes=_bytes(program, inner, run),
          group=_group(inner),
          count=run.count,
          overlapped=overlapped,
          source=program.module.source(inner, "emma_jax")
          or program.module.source(run.instruction, "emma_jax"),
        )
      )
  return out


def summary(found: Iterable[Collective]) -> dict[str, dict[str, float]]:
  """Kind -> calls and bytes a step, in all and of those that overlap."""
  out: dict[str, dict[str, float]] = {}
  for c in found:
    row = out.setdefault(
      c.kind,
      dict(
        count=0,
        bytes=0,
        overlapped_count=0,
        overlapped_bytes=0,
        instructions=0,
        overlapped_instructions=0,
      ),
    )
    row["count"] += c.count
    row["bytes"] += c.bytes * c.count
    row["instructions"] += 1
    if c.overlapped:
      row["overlapped_count"] += c.count
      row["overlapped_bytes"] += c.bytes * c.count
      row["overlapped_instructions"] += 1
  return out


def is_collective(x: Instruction) -> bool:
  """Whether it communicates or starts to; waiting (`-done`) is neither."""
  return x.opcode.removesuffix("-start") in KINDS


def _communication(
  program: Program, run: Run
) -> Iterator[tuple[Instruction, bool]]:
  """(collective, whether it overlaps) of one executed instruction."""
  x = run.instruction
  if is_collective(x):
    is_sync = '"is_sync":true' in x.attributes
    yield x, x.opcode == "send" or (x.opcode.endswith("-start") and not is_sync)
  elif x.opcode in ("fusion", *ASYNC_CALLS):
    inside = list(program.inside(x))
    found = [i for i in inside if is_collective(i)]
    if not found:
      return
    targets = {i.target for i in inside if i.opcode == "custom-call"}
    if x.opcode in ASYNC_CALLS:
      yield from ((i, True) for i in found)
    elif _START in targets:
      started = {i.operands[0] for i in inside if i.target == _START}
      yield from ((i, True) for i in found if i.name in started)
    elif _DONE not in targets and not _carried_on(program, run, found[0]):
      yield from ((i, False) for i in found)


def _carried_on(program: Program, run: Run, inner: Instruction) -> bool:
  """Whether another fusion of the same computation has started it."""
  channel = inner.attribute("channel_id")
  for other in run.computation:
    if other.opcode == "fusion" and other is not run.instruction:
      inside = list(program.inside(other))
      if any(i.target == _START for i in inside) and any(
        i.attribute("channel_id") == channel for i in inside if is_collective(i)
      ):
        return True
  return False


def _kind(x: Instruction, outer: Instruction) -> str:
  kind = x.opcode.removesuffix("-start")
  # TPUs scatter a sum by a fusion of all-reduce and slice: one operation.
  if kind == "all-reduce" and any(
    "all-reduce-scatter" in name for name in outer.called("calls")
  ):
    return "reduce-scatter"
  return kind


def _bytes(program: Program, x: Instruction, run: Run) -> int:
  arrays = [a for a in x.arrays if a.bytes]
  n = len(x.operands)
  if x.opcode == "send" or x.opcode.startswith("collective-permute"):
    return arrays[0].bytes
  if x.opcode.endswith("-start") and len(arrays) >= 2 * n:
    arrays = arrays[n : 2 * n]  # the first half are the operands
  total = sum(a.bytes for a in arrays)
  if x.opcode.startswith("reduce-scatter"):
    total *= _group(x) or 1
  return total


def _group(x: Instruction) -> int:
  """Devices of a group.

  Written as `{{0,1},{2,3}}`, as `[2,2]<=[4]` (groups, size), or by the axes of
  a mesh, `mesh['a'=2,'b'=4] {'b'}`.
  """
  found = re.search(
    r"replica_groups=(mesh\[[^\]]*\][^{]*\{[^}]*\}|\[[\d,]*\]<=|\{\{[^}]*\}"
    r"|\{\})",
    x.attributes,
  )
  if not found:
    return 2 if x.opcode.startswith("collective-permute") else 0
  text = found.group(1)
  if text.startswith("mesh"):
    sizes: Mapping[str, str] = dict(re.findall(r"'([^']+)'=(\d+)", text))
    axes = re.findall(r"'([^']+)'", text[text.rindex("{") :])
    parts = re.findall(r":\(\d+\)(\d+)", text[text.rindex("{") :])
    if parts:  # a part of an axis, 'a':(before)size
      return math.prod(map(int, parts))
    return math.prod(int(sizes[a]) for a in axes)
  if text.startswith("["):
    return int(re.findall(r"\d+", text)[-1])
  return len(re.findall(r"\d+", text))
