"""emma-benchmark rescore: another implementation becomes the headline.

  emma-benchmark rescore runs/x --impl original

Scores the predictions and replies that are there again, by all implementations
as always; results.json and the folder's config name that one from then on. No
model is loaded and no judge is asked. Sets without such an implementation stay
as they are, unless --sets names them.
"""

import argparse
from collections.abc import Mapping
from typing import Any

from emma_jax.cli import common
from emma_jax.cli.benchmark import flags


def add(commands: Any) -> None:
  """Adds the parser of `emma-benchmark rescore`."""
  parser = common.add_subcommand(
    commands,
    "rescore",
    "make another implementation the headline, without model or judge",
    __doc__,
    run,
  )
  parser.add_argument("out", metavar="DIR", help="folder of results")
  parser.add_argument(
    "--impl", required=True, metavar="NAME", help="implementation"
  )
  parser.add_argument(
    "--sets", default="", metavar="A,B", help="those [all that have it]"
  )
  flags.add_data(parser)


def run(args: argparse.Namespace, overrides: Mapping[str, str]) -> int:
  """Scores again, and prints the table; 1 where a set has no score."""
  from emma_jax.benchmarks import rescore, tables

  common.refuse_overrides("rescore", overrides)
  return tables.show(rescore.rescore(args.out, args.impl, args.sets, args.data))
