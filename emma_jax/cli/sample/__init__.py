"""Draws, edits and answers with the shipped weights or those of a training.

  emma-sample draw --prompt "a red circle" --out circle.png
  emma-sample draw --prompt "a cat" --prompt "a dog" --count 4 --out pets/
  emma-sample edit --image circle.png --instruction "make it blue" --out b.png
  emma-sample ask --image circle.png --question "What colour is the circle?"

The same as `python -m emma_jax.cli.sample`. `emma-sample draw --help` shows
the options of draw. Without --checkpoint the shipped reference model samples.
`emma-sample examples` shows what it knows.
With --config.mesh.fsdp=-1 all devices of this machine hold the weights
together; on several hosts each runs the same command, and the first one writes.
"""

import argparse
import gc

from emma_jax.cli import common, devices

# Each is a module of this package with `add(subparsers)`; the parser it adds
# has a default `run(args, overrides) -> exit code`.
COMMANDS = (
  *("draw", "edit", "ask", "sheet"),
  *("examples", "show-settings", "measure-prompts"),
)


def _parser() -> argparse.ArgumentParser:
  return common.subcommands("emma-sample", __doc__, __name__, COMMANDS)


def _main(argv: list[str]) -> int:
  args, overrides = common.parse_arguments(_parser(), argv)
  return args.run(args, overrides)


def main(argv: list[str] | None = None) -> int:
  """Runs the command; returns its exit code."""
  return common.run(_main, argv, common.sampling_mistakes)


def entry() -> None:
  """The console script."""
  # A sixth of a drawing would be looking for garbage among what imports make;
  # `weights.session` goes on with it once all is there.
  gc.disable()
  devices.end(main)
