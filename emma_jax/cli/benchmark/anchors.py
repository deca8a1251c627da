"""emma-benchmark anchors: keeps some of a run's calls, to be asked again.

Writes calls and replies of a judge to a file (and their pictures beside it).
Name it in judges.NAME.anchors, and every later run says how far that judge's
numbers have moved since.
"""

import argparse
from collections.abc import Mapping
from typing import Any

from emma_jax.cli import common
from emma_jax.cli.benchmark import flags


def add(commands: Any) -> None:
  """Adds the parser of `emma-benchmark anchors`."""
  parser = common.add_subcommand(
    commands,
    "anchors",
    "keep calls of a judge, so that its drift is seen",
    __doc__,
    run,
  )
  flags.add_saved_config(parser)
  flags.add_out(parser)
  parser.add_argument("--judge", required=True, metavar="NAME")
  parser.add_argument("--to", required=True, metavar="FILE")
  parser.add_argument("--count", type=int, default=40, metavar="N")


def run(args: argparse.Namespace, overrides: Mapping[str, str]) -> int:
  """Writes the file."""
  from emma_jax.benchmarks import calibration, runs
  from emma_jax.judge import anchors

  if args.count < 1:
    raise common.UserError(f"--count {args.count}: keep at least one.")
  found = flags.begun(args, overrides)
  sources = runs.open_sources(found)
  kept = calibration.collect(found, sources, args.judge, args.count)
  anchors.save(args.to, kept)
  print(f"{args.to}: {len(kept)} calls of {args.judge}")
  return 0
