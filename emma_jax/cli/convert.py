"""Published weights in, EMMA out, and the proof that an import is right.

  emma-convert init --config configs/emma_4b.py --qwen3 DIR --siglip2 DIR \\
      --dcae DIR --out runs/emma_4b_init
  emma-convert export emma --checkpoint runs/demo --out exported
  emma-convert check --family qwen3 --folder DIR --reference FILE.npz

The same as `python -m emma_jax.cli.convert`. Folders are Hugging Face
downloads: config.json and safetensors. No torch is needed.
"""

import argparse
import pathlib
import sys
from typing import Any

from emma_jax import ranges
from emma_jax.build import config_file
from emma_jax.cli import common

# What `check` calls equal: float32 rounding of deep networks.
TOLERANCE = 5e-6


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    prog="emma-convert",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  commands = parser.add_subparsers(dest="command", required=True)
  init = commands.add_parser(
    "init", help="EMMA's first weights from Qwen3, SigLIP2 and DC-AE"
  )
  common.add_config_arguments(init)
  for name, text in (
    ("qwen3", "Qwen3-4B"),
    ("siglip2", "SigLIP2 so400m"),
    ("dcae", "DC-AE f32c32"),
  ):
    init.add_argument(
      f"--{name}",
      required=True,
      type=pathlib.Path,
      metavar="DIR",
      help=f"downloaded folder of {text}",
    )
  init.add_argument(
    "--out",
    required=True,
    type=pathlib.Path,
    metavar="DIR",
    help="new folder for the checkpoint",
  )
  init.add_argument(
    "--dtype",
    default="bfloat16",
    choices=("bfloat16", "float32"),
    help="of the stored weights (default: %(default)s, as published)",
  )
  export = commands.add_parser(
    "export", help="a checkpoint's parts as folders for PyTorch"
  )
  export.add_argument(
    "part",
    choices=("und", "vision", "autoencoder", "emma"),
    help="und: transformers' Qwen3ForCausalLM; vision: SiglipVisionModel; "
    "autoencoder: diffusers' AutoencoderDC; emma: everything, with a "
    "PyTorch implementation beside it",
  )
  export.add_argument(
    "--checkpoint",
    default="reference",
    metavar="SOURCE",
    help="working directory of a training, an init, a .safetensors file, or "
    "reference (default: the shipped model)",
  )
  export.add_argument(
    "--expert",
    default="versatile",
    choices=("versatile", "stem"),
    help="of the vision tower (default: %(default)s)",
  )
  export.add_argument(
    "--out", required=True, type=pathlib.Path, metavar="DIR", help="new folder"
  )
  check = commands.add_parser(
    "check",
    help="compare an import with tensors dumped from torch",
    description="See emma_jax/convert/check.py for the names.",
  )
  check.add_argument(
    "--family", required=True, choices=("qwen3", "siglip2", "dcae")
  )
  check.add_argument(
    "--folder", required=True, type=pathlib.Path, metavar="DIR"
  )
  check.add_argument(
    "--reference", required=True, type=pathlib.Path, metavar="FILE.npz"
  )
  check.add_argument(
    "--tolerance",
    type=ranges.Range(0, 0.5).number,
    default=TOLERANCE,
    help="of each reference's maximum (default: %(default)s)",
  )
  for sub in (export, check):
    sub.add_argument(
      "--debug", action="store_true", help="show stack traces of errors"
    )
  return parser


def _init(args: argparse.Namespace, overrides: dict[str, str]) -> int:
  config = config_file.load(args.config, overrides)
  if args.out.exists() and any(args.out.iterdir()):
    raise common.UserError(f"--out {args.out} is not empty; name a new folder.")
  from emma_jax.build import exchange

  origins = exchange.first_weights(
    config,
    args.out,
    qwen3_folder=args.qwen3,
    siglip2_folder=args.siglip2,
    dcae_folder=args.dcae,
    dtype=args.dtype,
  )
  _show_origins(origins)
  print(
    f"Wrote {args.out}; train from it with weights:{args.out} in the first "
    "stage's load table."
  )
  return 0


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


def _export(args: argparse.Namespace) -> int:
  from emma_jax.build import exchange
  from emma_jax.build import session as build_session

  found = build_session.read(args.checkpoint)
  exchange.export(found, args.part, args.out, expert=args.expert)
  print(f"Wrote {args.out}.")
  return 0


def _check(args: argparse.Namespace) -> int:
  from emma_jax.convert import arrays, check

  reference = arrays.Arrays(args.reference)
  compared = check.check(args.family, args.folder, reference)
  different = [c for c in compared if not c.error <= args.tolerance]
  for c in compared:
    verdict = f"DIFFERS  {c.note}".rstrip() if c in different else "ok"
    print(f"{c.name:24} {c.shape!s:24} {c.error:.2e}  {verdict}")
  if different:
    # No maximum: Python's drops NaN.
    names = ", ".join(c.name for c in different)
    print(
      f"The import is not equal: {names} by more than {args.tolerance:.0e} of"
      " the reference's maximum."
    )
    return 1
  print("Equal.")
  return 0


def _main(argv: list[str]) -> int:
  parser = _parser()
  if argv[:1] == ["init"]:
    args, overrides = common.parse_arguments(parser, argv)
    return _init(args, overrides)
  args = parser.parse_args(argv)
  return {"export": _export, "check": _check}[args.command](args)


def main(argv: list[str] | None = None) -> int:
  """Runs the command; returns its exit code."""
  return common.run(_main, argv, _mistakes())


def _mistakes() -> tuple[type[Exception], ...]:
  # All of the converters' and checkpoints' errors are ValueErrors with value
  # and remedy, or name a file.
  from emma_jax.checkpoints.integrity import CheckpointError

  return (ValueError, CheckpointError, OSError)


def entry() -> None:
  """The console script."""
  sys.exit(main())


if __name__ == "__main__":
  entry()
