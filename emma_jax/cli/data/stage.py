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
  """(config as it is given, name of the stage).

  Raises:
    UserError: there is no such stage.
  """
  from emma_jax.build import sections

  config = sections.plain(config_file.load(args.config, overrides))
  stages = config["stages"]
  name = args.stage or next(
    (n for n, s in stages.items() if s["objective"] == "emma"), ""
  )
  if name not in stages:
    raise common.UserError(
      f"--stage {args.stage}: the config has {', '.join(stages)}."
    )
  return config, name


def measured(
  config: dict[str, Any], name: str, plans: str | None
) -> dict[str, Any]:
  """The config with the rows that training would measure; none is kept.

  Raises:
    UserError: data that cannot be planned.
  """
  from emma_jax.build import measured as build_measured
  from emma_jax.build import sections

  try:
    found, notes = build_measured.config(config, plans, only=name, keep=False)
  except (ValueError, OSError) as error:
    raise common.UserError(str(error)) from error
  for note in notes:
    print(note, file=sys.stderr)
  return sections.plain(found)


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
