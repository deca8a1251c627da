"""emma-benchmark judge: asks the judges about predictions that are there.

Needs no accelerator. Replies that came are kept and never paid twice; a server
that fails is asked again by the same command.
"""

import argparse
from collections.abc import Mapping
from typing import Any

from emma_jax.cli import common
from emma_jax.cli.benchmark import flags


def add(commands: Any) -> None:
  """Adds the parser of `emma-benchmark judge`."""
  parser = common.add_subcommand(
    commands, "judge", "ask the judges, the second stage", __doc__, run
  )
  flags.add_saved_config(parser)
  flags.add_out(parser)


def run(args: argparse.Namespace, overrides: Mapping[str, str]) -> int:
  """Judges; 75 where it was asked to stop."""
  from emma_jax.benchmarks import runs

  found = flags.begun(args, overrides)
  return flags.judge(found, runs.open_sources(found))
