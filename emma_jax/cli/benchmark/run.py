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
  parser = common.add_subcommand(
    commands, "run", "predict, judge, aggregate and report", __doc__, run
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


def run(args: argparse.Namespace, overrides: Mapping[str, str]) -> int:
  """All stages; a process that makes a share of the predictions ends there."""
  judged = args.dry_run or not args.shard
  found, sources, model = predict.prepared(args, overrides, judged=judged)
  if args.dry_run:
    return _dry_run(found, sources, model)
  code = predict.predict(args, found, sources, model)
  if code or args.shard:
    return code
  return flags.after_predictions(found, sources, args.data)


def _dry_run(found: Any, sources: Mapping[str, Any], model: Any) -> int:
  from emma_jax.benchmarks import estimate

  for line in estimate.lines(estimate.dry_run(found, model, sources)):
    print(line)
  return 0
