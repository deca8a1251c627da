"""emma-convert init: EMMA's first weights, from the published parts.

Both branches come from Qwen3, both experts of the vision tower from SigLIP2,
the frozen autoencoder from DC-AE; what is new in EMMA (adapters, router, heads)
is random. `emma-convert parts` says what to download:

{downloads}

The tokenizer is that of --qwen3, unless --config.data.tokenizer=qwen3:PATH
names another. Every folder is compared with the config before a tensor is read.
In the end the command that trains from these weights is printed.
"""

import argparse
from collections.abc import Mapping
import pathlib
import shlex
import sys
from typing import Any

from emma_jax.build import config_file
from emma_jax.cli import common
from emma_jax.cli.convert import parts
from emma_jax.convert import published


def add(commands: Any) -> None:
  """Adds the parser of `emma-convert init`."""
  text = (__doc__ or "").format(
    downloads=published.downloads(published.PUBLISHED)
  )
  parser = common.add_subcommand(
    commands,
    "init",
    "EMMA's first weights from Qwen3, SigLIP2 and DC-AE",
    text,
    run,
  )
  common.add_config_arguments(parser)
  for flag in published.FLAGS:
    parser.add_argument(
      f"--{flag}",
      type=common.path,
      metavar="DIR",
      help=f"downloaded folder of {published.named(flag)}",
    )
  parser.add_argument(
    "--out",
    required=True,
    type=common.path,
    metavar="DIR",
    help="new folder for the checkpoint",
  )
  parser.add_argument(
    "--dtype",
    default="bfloat16",
    choices=("bfloat16", "float32"),
    help="of the stored weights (default: %(default)s, as published)",
  )


def run(args: argparse.Namespace, overrides: Mapping[str, str]) -> int:
  """Writes the checkpoint, says what came from where and what comes next."""
  config = config_file.load(args.config, overrides)
  if args.out.exists() and any(args.out.iterdir()):
    raise common.UserError(f"--out {args.out} is not empty; name a new folder.")
  _check_folders(args, config)
  tokenizer = config.data.tokenizer
  if tokenizer.startswith("qwen3:") and "data.tokenizer" not in overrides:
    config.data.tokenizer = f"qwen3:{_vocabulary(args.qwen3)}"
  from emma_jax.build import exchange
  from emma_jax.convert.assembly import AssemblyError

  try:
    origins = exchange.first_weights(
      config,
      args.out,
      qwen3_folder=args.qwen3,
      siglip2_folder=args.siglip2,
      dcae_folder=args.dcae,
      dtype=args.dtype,
    )
  except AssemblyError as error:
    raise common.UserError(
      f"{error} `emma-convert parts --config {args.config}` names the config's."
    ) from error
  _show_origins(origins)
  changed = dict(overrides)
  if config.data.tokenizer != tokenizer:
    changed["data.tokenizer"] = config.data.tokenizer
  print(f"Wrote {args.out}. {_next(args, config, changed)}")
  return 0


def _check_folders(args: argparse.Namespace, config: Mapping[str, Any]) -> None:
  """Raises UserError for parts that are not there, with how to get them."""
  given = {flag: getattr(args, flag) for flag in published.FLAGS}
  wrong = [
    f"--{flag} is missing"
    if folder is None
    else f"--{flag} {folder}: no folder"
    for flag, folder in given.items()
    if folder is None or not folder.is_dir()
  ]
  if not wrong:
    return
  try:
    found = parts.of_config(config)
  except common.UserError:  # of sizes that nobody published
    found = list(published.PUBLISHED)
  lacking = [
    p for p in found if not given[p.flag] or not given[p.flag].is_dir()
  ]
  raise common.UserError(
    f"{'; '.join(wrong)}. To download what is missing:\n"
    f"{published.downloads(lacking)}"
  )


def _vocabulary(folder: pathlib.Path) -> pathlib.Path:
  """The folder, if it holds the tokenizer's files.

  Raises:
    UserError: it does not.
    FolderError: it is another folder than the one that was meant.
  """
  from emma_jax.convert import lookup
  from emma_jax.data.text import qwen_files

  if not (folder / "config.json").exists():
    lookup.explain_no_config(folder)
  try:
    qwen_files.find(folder)
  except qwen_files.VocabularyError as error:
    raise common.UserError(
      f"--qwen3 {folder}: {error} Download the tokenizer.json of the model too,"
      " or name one by --config.data.tokenizer=qwen3:PATH."
    ) from error
  return folder


def _next(
  args: argparse.Namespace, config: Any, changed: Mapping[str, str]
) -> str:
  """What trains from these weights."""
  if "initial" not in config:
    return (
      f"Train from it with weights:{args.out} in the first stage's load table."
    )
  keys = dict(changed)
  if pathlib.Path(config.initial) != args.out:
    keys["initial"] = str(args.out)
  words = ["emma-train", "--config", args.config]
  words += ["--workdir", f"runs/{config.name}"]
  words += [f"--config.{key}={value}" for key, value in keys.items()]
  return f"Next:\n  {shlex.join(words)}"


def _show_origins(origins: list[Any]) -> None:
  import rich.box
  import rich.table

  from emma_jax import terminal

  table = rich.table.Table("part", "from", box=rich.box.SIMPLE)
  table.add_column("parameters", justify="right")
  for origin in origins:
    source = terminal.text(origin.source)
    table.add_row(origin.subtree, source, f"{origin.parameters:,}")
  total = sum(o.parameters for o in origins)
  table.add_row("all", "", f"{total:,}", style="bold")
  width = None if sys.stdout.isatty() else 120
  terminal.console(width=width).print(table)
