"""emma-benchmark gate: is a run as good as an earlier one, less a margin?

  emma-benchmark gate runs/new --against runs/old --junit gate.xml

A set fails where the 95% interval of the paired difference lies below the
margin as a whole; what is not decided passes. A set that was measured in
another way (split, implementation, judge, prompts, data, items), or is gone, is
an error. Exit code 0: all passed; 1: a set failed; 2: an error.
"""

import argparse
from collections.abc import Mapping
from typing import Any

from emma_jax import ranges
from emma_jax.cli import common


def add(commands: Any) -> None:
  """Adds the parser of `emma-benchmark gate`."""
  parser = common.add_subcommand(
    commands,
    "gate",
    "fail where a run is worse than an earlier one",
    __doc__,
    run,
  )
  parser.add_argument("new", metavar="DIR", help="folder of results")
  parser.add_argument(
    "--against", metavar="DIR", required=True, help="those of the earlier run"
  )
  parser.add_argument(
    "--margin",
    type=ranges.Range(0, 100).number,
    default=1.0,
    metavar="POINTS",
    help="how much worse a set may be, in hundredths of its scale [1.0]",
  )
  parser.add_argument(
    "--sets", default="", metavar="A,B", help="those [all of either]"
  )
  parser.add_argument("--junit", metavar="FILE", help="also write JUnit XML")


def run(args: argparse.Namespace, overrides: Mapping[str, str]) -> int:
  """Prints a line a set; see the exit codes above."""
  from emma_jax.benchmarks import gates, results

  common.refuse_overrides("gate", overrides)
  if not args.margin >= 0:
    raise common.UserError(f"--margin {args.margin}: it must not be negative.")
  checks = gates.check(
    results.read(args.new),
    results.read(args.against),
    margin=args.margin,
    only=args.sets,
  )
  for line in gates.lines(checks):
    print(line)
  if args.junit:
    gates.junit(checks, args.junit)
  return gates.exit_code(checks)
