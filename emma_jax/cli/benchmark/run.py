"""emma-benchmark run: all stages, from weights to the report.

Predicts, judges, aggregates and reports, each set of the config by its
protocol. What is there is not made again: the same command goes on where it was
stopped (exit code 75 after SIGTERM), and finishes with the numbers. Each stage
is also a command of its own: predict, judge, aggregate, report.
"""

import argparse
from collections.abc import Mapping
from typing import Any

from emma_jax.cli import common
from emma_jax.cli.benchmark import flags, predict


def add(commands: Any) -> None:
  """Adds the parser of `emma-benchmark run`."""
  parser = commands.add_parser(
    "run",
    help="predict, judge, aggregate and report",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  common.add_config_arguments(parser, "benchmarks")
  flags.add_out(parser)
  flags.add_model(parser)
  parser.add_argument(
    "--dry-run",
    action="store_true",
    help="take two items of each set through predicting and judging, and say "
    "what the whole will take",
  )
  parser.set_defaults(run=run)


def run(args: argparse.Namespace, overrides: Mapping[str, str]) -> int:
  """All stages; a process that makes a share of the predictions ends there."""
  if args.dry_run:
    return _dry_run(args, overrides)
  code = predict.run(args, overrides, judged=not args.shard)
  if code or args.shard:
    return code
  from emma_jax.benchmarks import runs

  config = flags.load_config(args, overrides)
  found = runs.make_run(config, args.out, args.sets, args.data)
  return flags.after_predictions(found, args.data)


def _dry_run(args: argparse.Namespace, overrides: Mapping[str, str]) -> int:
  from emma_jax.benchmarks import estimate

  found, sources, model = predict.prepared(args, overrides, judged=True)
  for line in estimate.lines(estimate.dry_run(found, model, sources)):
    print(line)
  return 0
