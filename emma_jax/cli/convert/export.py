"""emma-convert export: a checkpoint's parts as folders for PyTorch.

  emma-convert export emma --checkpoint runs/demo --out exported
  emma-convert export und --checkpoint runs/demo --out exported_qwen3

`emma` is everything, with a PyTorch implementation beside it; the others are
folders that transformers or diffusers load. README.md in the folder is the
model card: the commands that use it, parameters, what it was trained on, its
scores where there are some, and the licences.
"""

import argparse
from collections.abc import Mapping
from typing import Any

from emma_jax.cli import common


def add(commands: Any) -> None:
  """Adds the parser of `emma-convert export`."""
  parser = common.add_subcommand(
    commands,
    "export",
    "a checkpoint's parts as folders for PyTorch",
    __doc__,
    run,
  )
  parser.add_argument(
    "part",
    choices=("und", "vision", "autoencoder", "emma"),
    help="und: transformers' Qwen3ForCausalLM; vision: SiglipVisionModel; "
    "autoencoder: diffusers' AutoencoderDC; emma: everything, with a "
    "PyTorch implementation beside it",
  )
  parser.add_argument(
    "--checkpoint",
    default="reference",
    metavar="SOURCE",
    help="working directory of a training, an init, a .safetensors file, or "
    "reference (default: the shipped model)",
  )
  parser.add_argument(
    "--expert",
    default="versatile",
    metavar="NAME",
    help="of the vision tower: versatile, stem, or one of the model's further "
    "ones (default: %(default)s)",
  )
  parser.add_argument(
    "--out", required=True, type=common.path, metavar="DIR", help="new folder"
  )
  common.add_debug(parser)


def run(args: argparse.Namespace, overrides: Mapping[str, str]) -> int:
  """Writes the folder and its card, and says how it is used."""
  common.refuse_overrides("export", overrides)
  from emma_jax.build import card, exchange
  from emma_jax.build import session as build_session

  found = build_session.read(args.checkpoint)
  exchange.export(found, args.part, args.out, expert=args.expert)
  print(f"Wrote {args.out}; its README.md is the model card. Next:")
  for line in card.usage(args.part, args.out):
    print(f"  {line}")
  return 0
