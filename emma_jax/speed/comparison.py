"""A row of work on several sides, in turns: a process for each.

What disturbs the machine then meets them all; of a side's repetitions those
count that it met least.
"""

from collections.abc import Mapping, Sequence
import contextlib
import dataclasses
import statistics
import time
from typing import Any

from emma_jax.speed import child

# Of `rows.ROWS`, which takes jax to import.
ROWS = (
  "qwen3_prefill",
  "qwen3_decode",
  "siglip2",
  "dcae_decode",
  "dcae_encode",
)
DTYPES = ("float32", "bfloat16")
CLOCKS = ("wall", "cpu")
# Others' share of the cores up to which a repetition counts as clean.
CLEAN = 0.06


@dataclasses.dataclass(frozen=True, kw_only=True)
class Effort:
  """How long a row is measured, and by what.

  repetitions: clean ones to take the median of. patience: seconds to find them
  in. clock: one of CLOCKS; cpu is the processes' own time.
  """

  repetitions: int
  patience: float
  clock: str


def compare(
  row: str,
  dtype: str,
  *,
  sides: Sequence[str],
  sizes: str,
  threads: int,
  effort: Effort,
) -> dict[str, Any]:
  """Times a row's sides: of each what `summary` says, or an `error`.

  Args:
    row, dtype: of ROWS, of DTYPES.
    sides: of `child.SIDES`.
    sizes: full or micro.
    threads: cores for either side.
    effort: how long.
  """
  with contextlib.ExitStack() as stack:
    children, out = start(
      stack, {side: (row, side, sizes, dtype, threads) for side in sides}
    )
    found: dict[str, list[child.Repetition]] = {s: [] for s in children}
    begin = time.monotonic()
    while children and not _enough(found, effort, time.monotonic() - begin):
      for side, process in children.items():
        found[side].append(process.repeat())
    for side, repetitions in found.items():
      out[side] |= summary(repetitions, effort.repetitions, effort.clock)
  return {
    "row": row,
    "dtype": dtype,
    "threads": threads,
    "clock": effort.clock,
    "sides": out,
    "ratio": ratio(out),
  }


def start(
  stack: contextlib.ExitStack, arguments: Mapping[str, tuple]
) -> tuple[dict[str, child.Child], dict[str, dict[str, Any]]]:
  """(processes that are ready, what each side said: versions or an `error`).

  Args:
    stack: ends the processes.
    arguments: of `child.Child`, per side.
  """
  children, out = {}, {}
  for side, given in arguments.items():
    process = stack.enter_context(child.Child(*given))
    try:  # one after the other: compilers must not compete
      out[side] = process.ready()
      children[side] = process
    except child.ChildError as error:
      out[side] = {"error": str(error)}
  return children, out


def _enough(
  found: Mapping[str, Sequence[child.Repetition]],
  effort: Effort,
  seconds: float,
) -> bool:
  if min(map(len, found.values())) < effort.repetitions:
    return False
  clean = min(sum(r.others <= CLEAN for r in x) for x in found.values())
  return clean >= effort.repetitions or seconds > effort.patience


def summary(
  repetitions: Sequence[child.Repetition], count: int, clock: str
) -> dict[str, Any]:
  """Medians of the `count` repetitions that others disturbed least."""
  best = sorted(repetitions, key=lambda r: r.others)[:count]
  middle = lambda name: statistics.median(getattr(r, name) for r in best)
  times = {"wall": middle("seconds"), "cpu": middle("cpu")}
  return {
    "seconds": times[clock],
    **times,
    "others": middle("others"),
    "repetitions": len(repetitions),
  }


def ratio(sides: Mapping[str, Mapping[str, Any]]) -> float | None:
  """The better torch's seconds over ours; None where a side is missing.

  >>> ratio({"jax": {"seconds": 2.0}, "eager": {"seconds": 3.0},
  ...        "compile": {"seconds": 5.0}})
  1.5
  """
  seconds = {name: x["seconds"] for name, x in sides.items() if "seconds" in x}
  ours = seconds.pop("jax", None)
  return min(seconds.values()) / ours if ours and seconds else None


def line(result: Mapping[str, Any]) -> str:
  """A result on one line; what went wrong with a side, on further ones."""
  sides = result["sides"]
  cells, notes = [], []
  for side in child.SIDES:
    x = sides.get(side, {})
    cells.append(f"{x['seconds']:9.3f}" if "seconds" in x else f"{'-':>9}")
    if "error" in x:
      notes.append(f"\n  {side}: {x['error']}")
  against = result["ratio"]
  disturbed = max((x.get("others", 0.0) for x in sides.values()), default=0.0)
  cells.append(f"{'-':>9}" if against is None else f"{against:9.2f}")
  return (
    f"{result['row']:14} {result['dtype']:9}{''.join(cells)}"
    f"{disturbed:9.0%}{''.join(notes)}"
  )
