"""Published weights in, EMMA out, and the proof that an import is right.

  emma-convert parts
  emma-convert init --config configs/emma_4b.py --qwen3 weights/Qwen3-4B \\
      --siglip2 weights/siglip2-so400m-patch16-512 \\
      --dcae weights/dc-ae-f32c32-sana-1.1-diffusers --out runs/emma_4b_init
  emma-convert export emma --checkpoint runs/demo --out exported
  emma-convert check --family qwen3 --folder DIR --reference FILE.npz

The same as `python -m emma_jax.cli.convert`. Folders are Hugging Face
downloads: config.json and safetensors; `parts` names them, with the commands
that fetch them. No torch is needed.
"""

import argparse
import sys

from emma_jax.cli import common

# Each is a module of this package with `add(subparsers)`; the parser it adds
# has a default `run(args, overrides) -> exit code`.
COMMANDS = ("parts", "init", "export", "check")


def _parser() -> argparse.ArgumentParser:
  return common.subcommands("emma-convert", __doc__, __name__, COMMANDS)


def _main(argv: list[str]) -> int:
  args, overrides = common.parse_arguments(_parser(), argv)
  return args.run(args, overrides)


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
