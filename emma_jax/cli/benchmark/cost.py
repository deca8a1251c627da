"""emma-benchmark cost: what the judges of a run still cost.

Counts the calls that have no reply yet, and what they come to by the tokens of
those that have one and the prices in judges.NAME.price. Asks nobody.
"""

import argparse
from collections.abc import Mapping
from typing import Any

from emma_jax.cli import common
from emma_jax.cli.benchmark import flags


def add(commands: Any) -> None:
  """Adds the parser of `emma-benchmark cost`."""
  parser = common.add_subcommand(
    commands,
    "cost",
    "what is left to ask the judges, and its price",
    __doc__,
    run,
  )
  flags.add_saved_config(parser)
  flags.add_out(parser)


def run(args: argparse.Namespace, overrides: Mapping[str, str]) -> int:
  """Prints a line a set."""
  from emma_jax.benchmarks import estimate, runs

  found = flags.begun(args, overrides)
  sources = runs.open_sources(found)
  for line in estimate.cost_lines(estimate.cost(found, sources)):
    print(line)
  return 0
