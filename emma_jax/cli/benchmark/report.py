"""emma-benchmark report: the page of a folder of results, report.html."""

import argparse
from collections.abc import Mapping
import os
from typing import Any

from emma_jax.cli import common


def add(commands: Any) -> None:
  """Adds the parser of `emma-benchmark report`."""
  parser = commands.add_parser(
    "report",
    help="one page of tables, samples and prompts, the last stage",
    description=__doc__,
  )
  parser.add_argument(
    "--out", metavar="DIR", required=True, help="folder of the results"
  )
  parser.add_argument(
    "--data",
    metavar="DIR",
    default=os.environ.get("EMMA_BENCHMARKS", ""),
    help="folder of the test sets, whose questions are shown [the config's, or "
    "$EMMA_BENCHMARKS]",
  )
  parser.set_defaults(run=run)


def run(args: argparse.Namespace, overrides: Mapping[str, str]) -> int:
  """Writes the page."""
  from emma_jax.benchmarks import page

  common.refuse_overrides("report", overrides)
  print(page.write(args.out, args.data))
  return 0
