"""emma-speed looks: what checking, validating and sampling cost a stage."""

import argparse
from collections.abc import Mapping
from typing import Any

from emma_jax.build import config_file
from emma_jax.build.sections import plain
from emma_jax.cli import common
from emma_jax.cli.speed import flags
from emma_jax.speed import looks


def add(commands: Any) -> None:
  """Adds the parser of `emma-speed looks`."""
  parser = commands.add_parser(
    "looks",
    help="shares of a step of its finite check, validation and samples",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  add = parser.add_argument
  add(
    "--config",
    default="tiny",
    metavar="FILE",
    help="whose stage; --config.section.key=value changes it (default: "
    "%(default)s)",
  )
  add("--stage", default="3_quality", help="(default: %(default)s)")
  add(
    "--pairs",
    type=int,
    default=30,
    metavar="N",
    help="how often each is measured (default: %(default)s)",
  )
  flags.add_output(parser)
  parser.set_defaults(run=run)


def run(
  args: argparse.Namespace, overrides: Mapping[str, str]
) -> list[dict[str, Any]]:
  """Measures and prints."""
  if args.pairs < 1:
    raise common.UserError(f"--pairs {args.pairs} must be positive.")
  config = plain(config_file.load(args.config, overrides))
  stage = common.stage_name(config, args.stage)
  results = looks.measure(config, stage, args.pairs)
  print(looks.HEADER)
  for result in results:
    print(looks.line(result))
  print(
    "seconds: of a look, or of five steps with the check; of: the seconds of "
    "the steps that it comes once in, or of five without. Shares are medians."
  )
  return results
