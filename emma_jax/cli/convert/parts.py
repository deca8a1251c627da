"""emma-convert parts: what to download for an EMMA, and the commands for it.

  emma-convert parts
  emma-convert parts --config configs/emma_0_6b.py

Prints the published parts with repository, revision, size and licence, and the
commands that fetch them; with --config those of that model alone, and the
command that makes its first weights of them. Nothing is downloaded.
"""

import argparse
from collections.abc import Mapping
import shlex
import sys
from typing import Any

from emma_jax.build import config_file
from emma_jax.cli import common
from emma_jax.convert import published


def add(commands: Any) -> None:
  """Adds the parser of `emma-convert parts`."""
  parser = common.add_subcommand(
    commands,
    "parts",
    "what to download, and the commands that do it",
    __doc__,
    run,
  )
  common.add_config_arguments(parser, required=False)


def run(args: argparse.Namespace, overrides: Mapping[str, str]) -> int:
  """Prints the table and the commands."""
  if overrides and not args.config:
    raise common.UserError("Keys of a config need one: add --config FILE.")
  config = args.config and config_file.load(args.config, overrides)
  parts = of_config(config) if config else list(published.PUBLISHED)
  _show(parts)
  print(published.downloads(parts))
  if config:
    print(f"\nThen:\n  {_init(args.config, config, parts)}")
  return 0


def of_config(config: Mapping[str, Any]) -> list[published.Published]:
  """The parts that a config's model is made of.

  Raises:
    UserError: no published part has its widths.
  """
  model = config["model"]
  if model["kind"] != "emma":
    raise common.UserError(
      f"config.model.kind={model['kind']!r} has no published parts: give a"
      " config of a whole EMMA, such as configs/emma_4b.py."
    )
  found = published.of_model(model)
  missing = [
    f"--{flag}"
    for flag in published.FLAGS
    if flag not in [p.flag for p in found]
  ]
  if missing:
    raise common.UserError(
      f"No published part has the config's widths, for {', '.join(missing)}."
      f" Published are "
      f"{', '.join(f'{p.repository} ({p.width})' for p in published.PUBLISHED)}"
      "; a model of another size starts at random."
    )
  return found


def _init(
  name: str, config: Mapping[str, Any], parts: list[published.Published]
) -> str:
  folders = [
    word
    for p in parts
    for word in (f"--{p.flag}", f"{published.FOLDER}/{p.name}")
  ]
  out = config.get("initial") or f"runs/{config['name']}_init"
  return shlex.join(
    ["emma-convert", "init", "--config", name, *folders, "--out", out]
  )


def _show(parts: list[published.Published]) -> None:
  import rich.box
  import rich.table

  from emma_jax import terminal

  table = rich.table.Table(box=rich.box.SIMPLE)
  table.add_column("for", no_wrap=True)
  table.add_column("repository", overflow="fold")
  for name in ("size", "parameters used"):
    table.add_column(name, justify="right", no_wrap=True)
  table.add_column("licence")
  table.add_column("becomes")
  for p in parts:
    table.add_row(
      f"--{p.flag}",
      p.repository,
      published.gigabytes(p.size),
      f"{p.parameters:,}",
      p.licence or "not read; see its page",
      p.takes,
    )
  width = None if sys.stdout.isatty() else 160
  terminal.console(width=width).print(table)
