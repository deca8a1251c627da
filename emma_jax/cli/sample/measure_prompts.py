"""Measures a training's prompts, so that others are told from them.

  emma-sample measure-prompts --checkpoint runs/mine
  emma-sample measure-prompts --checkpoint weights.safetensors --samples 20000

Reads the texts of the training's sources and leaves statistics of their tokens
beside the weights (reference.prompts.json, or prompts.json in a folder). From
then on draw, edit and ask say so on stderr, in a line, where a prompt is
further outside than 999 of 1000 of the training's own, or longer than all.
"""

import argparse
from collections.abc import Mapping
import gc
import sys
from typing import Any

from emma_jax.cli import common
from emma_jax.cli.sample import weights


def add(commands: Any) -> None:
  """Adds the parser of `emma-sample measure-prompts`."""
  parser = common.add_subcommand(
    commands, "measure-prompts", __doc__.split("\n")[0], __doc__, run
  )
  weights.add_checkpoint(parser)
  parser.add_argument(
    "--samples",
    type=int,
    default=6000,
    help="records read of each source (default: 6000)",
  )
  parser.add_argument(
    "--out",
    type=common.path,
    metavar="FILE",
    help="instead of beside the weights, where nothing would find it",
  )


def run(args: argparse.Namespace, overrides: Mapping[str, str]) -> int:
  """Measures and writes; 0, or UserError."""
  common.refuse_overrides("emma-sample measure-prompts", overrides)
  if args.samples < 8:
    raise common.UserError(f"--samples {args.samples} must be at least 8.")
  gc.enable()  # the console script left it off, and this may read long
  from emma_jax import files
  from emma_jax.build import prompts
  from emma_jax.build import session as build_session
  from emma_jax.checkpoints import locate

  config = build_session.config_of(args.checkpoint)
  out = args.out or locate.prompts_file(args.checkpoint)
  if out is None:
    raise common.UserError(
      f"--checkpoint {args.checkpoint} lies in an archive; give --out FILE."
    )

  def tell(done: int) -> None:
    if done % 2000 == 0:
      print(f"{done} records read", file=sys.stderr)

  found = prompts.measure(config, args.samples, tell)
  files.write_text(out, found.to_json())
  for task, one in found.tasks.items():
    print(
      f"{task:15}{one.texts:7} texts, longest {one.longest} tokens, "
      f"99.9% of others within {one.limit:.2f} nats a token"
    )
  print(out)
  return 0
