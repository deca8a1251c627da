"""emma-speed memory: DC-AE's memory, with and without tiles.

  emma-speed memory [--dtypes D ...]

What coding pictures of 1024x1024 and 2048x512 takes, as XLA reserves it and as
the process peaks. Weights are random.
"""

import argparse
from collections.abc import Mapping
from typing import Any

from emma_jax.cli.speed import flags
from emma_jax.speed import memory


def add(commands: Any) -> None:
  """Adds the parser of `emma-speed memory`."""
  parser = commands.add_parser(
    "memory",
    help="DC-AE's memory, with and without tiles",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument(
    "--pictures",
    nargs="+",
    default=memory.PICTURES,
    metavar="HEIGHTxWIDTH",
    help=f"(default: {' '.join(memory.PICTURES)})",
  )
  flags.add_dtypes(parser)
  flags.add_sizes(parser)
  flags.add_output(parser)
  parser.set_defaults(run=run)


def run(
  args: argparse.Namespace, overrides: Mapping[str, str]
) -> list[dict[str, Any]]:
  """Measures each case, and prints a line as soon as it is there."""
  del overrides  # refused before
  print(memory.HEADER, flush=True)
  results = []
  for case in memory.cases(args.pictures, args.dtypes):
    results.append(memory.measure(case, args.sizes))
    print(memory.line(results[-1]), flush=True)
  print(
    "MiB. compiled: what XLA reserves, weights included; peak: the "
    "process's resident memory at its highest while it ran."
  )
  return results
