"""emma-benchmark compare: two runs item by item, or one beside published rows.

  emma-benchmark compare A B
  emma-benchmark compare A --published

Of two runs, per set: B's score less A's on the items that both have, with its
interval, an exact or permutation test, corrected for having looked at all sets
(Holm), and how many items would decide what is open. What was not measured
alike (split, implementation, judge, prompts, data files, limit) is not
compared, and the line says by what it differs.
"""

import argparse
from collections.abc import Mapping
from typing import Any

from emma_jax.cli import common


def add(commands: Any) -> None:
  """Adds the parser of `emma-benchmark compare`."""
  parser = common.add_subcommand(
    commands,
    "compare",
    "two runs item by item, or one beside published numbers",
    __doc__,
    run,
  )
  parser.add_argument("a", metavar="A", help="folder of results")
  parser.add_argument(
    "b", metavar="B", nargs="?", default="", help="folder of results"
  )
  parser.add_argument(
    "--published", action="store_true", help="beside what others print"
  )
  parser.add_argument(
    "--sets", default="", metavar="A,B", help="those [all of either]"
  )


def run(args: argparse.Namespace, overrides: Mapping[str, str]) -> int:
  """Prints the table."""
  from emma_jax.benchmarks import compare, results

  common.refuse_overrides("compare", overrides)
  if bool(args.b) == args.published:
    raise common.UserError(
      "compare needs a second folder of results, or --published."
    )
  first = results.read(args.a)
  if args.published:
    lines = compare.published_lines(first, args.sets)
  else:
    rows = compare.compare(first, results.read(args.b), args.sets)
    lines = compare.lines(rows, args.a, args.b)
  for line in lines:
    print(line)
  return 0
