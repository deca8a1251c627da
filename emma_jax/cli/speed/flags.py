"""What several of the commands take, and where their results go."""

import argparse
from collections.abc import Sequence
import json
import pathlib
from typing import Any

from emma_jax.cli import common
from emma_jax.speed import comparison


def add_dtypes(parser: argparse.ArgumentParser) -> None:
  """Adds `--dtypes`."""
  parser.add_argument(
    "--dtypes", nargs="+", choices=comparison.DTYPES, default=comparison.DTYPES
  )


def add_sizes(parser: argparse.ArgumentParser) -> None:
  """Adds `--sizes`."""
  parser.add_argument(
    "--sizes",
    choices=("full", "micro"),
    default="full",
    help="micro: to try the command (default: full)",
  )


def add_output(parser: argparse.ArgumentParser) -> None:
  """Adds `--json` and `--debug`, which all take."""
  parser.add_argument(
    "--json",
    type=common.path,
    metavar="FILE",
    help="also write the results there",
  )
  parser.add_argument(
    "--debug", action="store_true", help="show stack traces of errors"
  )


def write(path: pathlib.Path | None, results: Sequence[dict[str, Any]]) -> None:
  """Writes the results, if a file was given."""
  if path:
    path.write_text(json.dumps(results, indent=1) + "\n")
