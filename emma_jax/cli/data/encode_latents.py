"""emma-data encode-latents: pictures through the frozen autoencoder, once.

Latents of every picture of folders of records, in the sizes that the config
gives them: training with --config.data.latents=stored then runs no encoder.
They lie beside the records, in latents-*; the same command again goes on after
an interruption. Several processes share the work by shards: --shard 2/8.
"""

import argparse
import sys
from typing import Any

from emma_jax import programs
from emma_jax.build import config_file
from emma_jax.cli import common


def add(commands: Any) -> None:
  """Adds the parser of `emma-data encode-latents`."""
  parser = commands.add_parser(
    "encode-latents",
    help="the frozen autoencoder's latents, once",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument(
    "data", nargs="+", metavar="DIR", help="folders of records"
  )
  common.add_config_arguments(parser)
  parser.add_argument(
    "--weights",
    required=True,
    metavar="NAME",
    help="of the autoencoder: a weight file, a training's "
    "folder, world_autoencoder or reference",
  )
  parser.add_argument(
    "--dtype",
    default="bfloat16",
    choices=("bfloat16", "float16", "float32"),
    help="of the stored values (default: %(default)s)",
  )
  parser.add_argument(
    "--shard",
    default="0/1",
    metavar="I/N",
    help="every Nth shard, from the Ith of 0..N-1 on",
  )
  parser.add_argument(
    "--pixels",
    type=int,
    default=2**22,
    help="encoded at once (default: %(default)s)",
  )
  parser.add_argument(
    "--threads",
    type=int,
    default=4,
    help="that decode pictures (default: %(default)s)",
  )
  parser.set_defaults(run=run)


def run(args: argparse.Namespace, overrides: dict[str, str]) -> int:
  """Writes the missing latents beside the records; 0, or UserError."""
  from emma_jax.build import latents as build_latents
  from emma_jax.build import sections
  from emma_jax.checkpoints import integrity, locate
  from emma_jax.data.records.source import RecordsSource

  index, count = _shard(args.shard)
  if args.pixels < 1 or args.threads < 1:
    raise common.UserError("--pixels and --threads must be positive.")
  config = sections.plain(config_file.load(args.config, overrides))
  if config["model"]["kind"] != "emma":
    raise common.UserError(f"{args.config} is no EMMA; latents are for one.")
  programs.use()
  try:
    weights = locate.read(args.weights).params
    if "autoencoder" not in weights:
      raise common.UserError(f"{args.weights} has no autoencoder.")
    encoder = build_latents.encoder(
      config,
      weights["autoencoder"],
      dtype=args.dtype,
      pixels=args.pixels,
      threads=args.threads,
    )
    for name in args.data:
      source = RecordsSource(name.removeprefix("records:"))
      shards = range(index, len(source.card.shards), count)
      folder, done = encoder.encode(source, shards, _say)
      rest = len(shards) - done
      print(f"{folder}: {done} shards encoded, {rest} were there.")
  except (OSError, ValueError, integrity.CheckpointError) as error:
    raise common.UserError(str(error)) from error
  return 0


def _say(line: str) -> None:
  print(line, file=sys.stderr)


def _shard(text: str) -> tuple[int, int]:
  index, _, count = text.partition("/")
  if not (index.isdecimal() and count.isdecimal() and int(index) < int(count)):
    raise common.UserError(f"--shard {text}: give I/N, 0 <= I < N.")
  return int(index), int(count)
