"""emma-benchmark report: the page of a folder of results, report.html."""

import argparse
from collections.abc import Mapping
from typing import Any

from emma_jax.cli import common
from emma_jax.cli.benchmark import flags


def add(commands: Any) -> None:
  """Adds the parser of `emma-benchmark report`."""
  parser = common.add_subcommand(
    commands,
    "report",
    "one page of tables, samples and prompts, the last stage",
    __doc__,
    run,
  )
  parser.add_argument(
    "--out",
    type=common.path_name,
    metavar="DIR",
    required=True,
    help="folder of the results",
  )
  flags.add_data(parser)


def run(args: argparse.Namespace, overrides: Mapping[str, str]) -> int:
  """Writes the page."""
  from emma_jax.benchmarks import page

  common.refuse_overrides("report", overrides)
  print(page.write(args.out, args.data))
  return 0
