"""emma-benchmark aggregate: scores of predictions and replies that are there.

Writes results.json: every set under every implementation, with intervals,
failures and categories; and prints the table. Needs neither model nor judge.
"""

import argparse
from collections.abc import Mapping
from typing import Any

from emma_jax.cli import common
from emma_jax.cli.benchmark import flags


def add(commands: Any) -> None:
  """Adds the parser of `emma-benchmark aggregate`."""
  parser = common.add_subcommand(
    commands, "aggregate", "scores and intervals, the third stage", __doc__, run
  )
  flags.add_saved_config(parser)
  flags.add_out(parser)


def run(args: argparse.Namespace, overrides: Mapping[str, str]) -> int:
  """Scores; 1 where a set has no score."""
  from emma_jax.benchmarks import runs

  found = flags.begun(args, overrides)
  return flags.score(found, runs.open_sources(found))
