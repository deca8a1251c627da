"""How fast and how large the published sizes are, on this machine.

  emma-speed torch [--rows R ...] [--dtypes D ...] [--threads N]
  emma-speed memory [--dtypes D ...]
  emma-speed restore [--config FILE] [--forms F ...] [--devices N ...]
  emma-speed gpu [--config FILE:STAGE,MACHINE] [--parts P ...] [--json FILE]
  emma-speed looks [--config FILE] [--stage NAME] [--pairs N]
  emma-speed data [--pictures FILE ...] [--frame HEIGHTxWIDTH]

The same as `python -m emma_jax.cli.speed`. `torch` times Qwen3-0.6B
(prefill and cached decode), SigLIP2 so400m and DC-AE f32c32 on the CPU beside
transformers and diffusers (extra `torch`). `memory` says what coding pictures
of 1024x1024 and 2048x512 takes with DC-AE, whole and in tiles. `restore` says
what a host needs to bring a whole model's weights to devices. `gpu` times a
stage's train step on the GPU that is here, the same step in PyTorch, and a
denoising step of another config's model; launch/bench_gpu.sh calls it. `looks`
says which shares of its time a stage spends on its finite check, validation and
samples, each measured in turn with the steps beside it. `data`
counts pictures per second and core from ArrayRecord to packed rows, beside
PyTorch's DataLoader with Pillow (extras `torch` and `fast`). Weights are
random.
"""

import argparse
from collections.abc import Sequence
import sys

from emma_jax.cli import common
from emma_jax.cli.speed import flags
from emma_jax.speed import child

# Each is a module of this package with `add(subparsers)`; the parser it adds
# has a default `run(args, overrides) -> results`.
COMMANDS = ("torch", "memory", "restore", "gpu", "looks", "data")


def _parser() -> argparse.ArgumentParser:
  return common.subcommands("emma-speed", __doc__, __name__, COMMANDS)


def _main(argv: Sequence[str]) -> int:
  args, overrides = common.parse_arguments(_parser(), argv)
  if overrides and args.command not in ("gpu", "looks", "restore"):
    raise common.UserError(
      f"{args.command} takes no --config.{next(iter(overrides))}"
      ": its sizes are the published ones."
    )
  results = args.run(args, overrides)
  flags.write(args.json, results)
  every = [side for r in results for side in (r, *r.get("sides", {}).values())]
  return int(any("error" in one for one in every))


def main(argv: list[str] | None = None) -> int:
  """Runs the command; returns its exit code."""
  return common.run(_main, argv, (child.ChildError, ValueError, OSError))


def entry() -> None:
  """The console script."""
  sys.exit(main())
