"""The stage of a config that a command looks at."""

import argparse
import sys
from typing import Any

from emma_jax.build import config_file
from emma_jax.cli import common


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """--config, --stage and --plans."""
  common.add_config_arguments(parser)
  parser.add_argument(
    "--stage",
    help="of the config (default: the first that trains on text and pictures)",
  )
  parser.add_argument(
    "--plans",
    metavar="DIR",
    help="where plans are kept, as in WORKDIR/plan of a run (default: nowhere)",
  )


def find(
  args: argparse.Namespace, overrides: dict[str, str]
) -> tuple[dict[str, Any], str]:
  """(config, name of the stage); UserError where there is no such stage."""
  from emma_jax.build import measured, sections

  config = sections.plain(config_file.load(args.config, overrides))
  stages = config["stages"]
  name = args.stage or next(
    (n for n, s in stages.items() if s["objective"] == "emma"), ""
  )
  if name not in stages:
    raise common.UserError(
      f"--stage {args.stage}: the config has {', '.join(stages)}."
    )
  try:
    config, notes = measured.config(config, args.plans, only=name)
  except (ValueError, OSError) as error:
    raise common.UserError(str(error)) from error
  for note in notes:
    print(note, file=sys.stderr)
  return sections.plain(config), name


def source(
  config: dict[str, Any],
  name: str,
  plans: str | None,
  index: int = 0,
  count: int = 1,
) -> Any:
  """The data of a stage on one of `count` hosts; UserError where it fails."""
  from emma_jax import sharding
  from emma_jax.build import data as build_data

  share = sharding.Share(index, count)
  try:
    return build_data.batches(config, name, plans, share)
  except (ValueError, OSError) as error:
    raise common.UserError(str(error)) from error
