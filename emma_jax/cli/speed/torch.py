"""emma-speed torch: published models' seconds beside torch, on the CPU.

  emma-speed torch [--rows R ...] [--dtypes D ...] [--threads N]

Times Qwen3-0.6B (prefill and cached decode), SigLIP2 so400m and DC-AE f32c32
beside transformers and diffusers (extra `torch`), in processes that take turns.
Weights are random.
"""

import argparse
from collections.abc import Mapping
import os
from typing import Any

from emma_jax import ranges
from emma_jax.cli import common
from emma_jax.cli.speed import flags
from emma_jax.speed import child, comparison


def add(commands: Any) -> None:
  """Adds the parser of `emma-speed torch`."""
  parser = commands.add_parser(
    "torch",
    help="seconds beside torch, on the CPU",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  add = parser.add_argument
  add("--rows", nargs="+", choices=comparison.ROWS, default=comparison.ROWS)
  add(
    "--sides",
    nargs="+",
    choices=child.SIDES,
    default=child.SIDES,
    help="eager and compile are torch (default: all)",
  )
  add(
    "--threads",
    type=int,
    default=None,
    help="cores for either side (default: all there are)",
  )
  add(
    "--repetitions",
    type=int,
    default=5,
    metavar="N",
    help="clean ones to take the median of (default: 5)",
  )
  add(
    "--patience",
    type=ranges.SECONDS.number,
    default=120.0,
    metavar="SECONDS",
    help="of a row, to find clean ones (default: 120)",
  )
  add(
    "--clock",
    choices=comparison.CLOCKS,
    default="wall",
    help="cpu: the processes' own time, for one thread on a "
    "machine that is not idle (default: wall)",
  )
  flags.add_dtypes(parser)
  flags.add_sizes(parser)
  flags.add_output(parser)
  parser.set_defaults(run=run)


def run(
  args: argparse.Namespace, overrides: Mapping[str, str]
) -> list[dict[str, Any]]:
  """Times each row in each dtype, and prints a line as soon as it is there."""
  del overrides  # refused before
  cores = len(os.sched_getaffinity(0))
  threads = cores if args.threads is None else args.threads
  if not 1 <= threads <= cores:
    raise common.UserError(f"--threads {threads}: there are {cores} cores.")
  if args.repetitions < 1:
    raise common.UserError(f"--repetitions {args.repetitions}: at least one.")
  effort = comparison.Effort(
    repetitions=args.repetitions, patience=args.patience, clock=args.clock
  )
  columns = ("JAX", "eager", "compiled", "ratio", "others")
  print(" " * 23, *(f"{name:>8}" for name in columns), flush=True)
  results = []
  for row in args.rows:
    for dtype in args.dtypes:
      result = comparison.compare(
        row,
        dtype,
        sides=args.sides,
        sizes=args.sizes,
        threads=threads,
        effort=effort,
      )
      results.append(result)
      print(comparison.line(result), flush=True)
  versions = {
    f"{'JAX' if side == 'jax' else 'torch'} {x['version']}"
    for r in results
    for side, x in r["sides"].items()
    if "version" in x
  }
  print(
    f"Seconds ({args.clock}); threads: {threads}; "
    f"{', '.join(sorted(versions))}. ratio: the better torch's seconds "
    "over ours, 1 or more is as fast. others: share of the cores that "
    "other processes took."
  )
  return results
