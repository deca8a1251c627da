"""emma-speed gpu: a train step beside PyTorch's, and a denoising step.

  emma-speed gpu [--config FILE:STAGE,MACHINE] [--parts P ...] [--json FILE]

On the GPU that is here: a stage's real train step, the same step in PyTorch,
and a denoising step of another config's model. launch/bench_gpu.sh calls it.
"""

import argparse
from collections.abc import Mapping
import os
import time
from typing import Any

from emma_jax import programs, ranges
from emma_jax.build import config_file
from emma_jax.cli import common
from emma_jax.cli.speed import flags
from emma_jax.speed import gpu


def add(commands: Any) -> None:
  """Adds the parser of `emma-speed gpu`."""
  parser = commands.add_parser(
    "gpu",
    help="a train step and a denoising step",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  add = parser.add_argument
  add(
    "--config",
    default="emma_0_6b.py:stage1,h100",
    metavar="FILE",
    help="of the train step; --config.section.key=value changes it "
    "(default: %(default)s)",
  )
  add("--stage", help="of the config; needed where it has several")
  add(
    "--denoise-config",
    default="emma_4b.py",
    metavar="FILE",
    help="of the denoising step (default: %(default)s)",
  )
  add("--parts", nargs="+", choices=gpu.PARTS, default=gpu.PARTS)
  add(
    "--attention",
    nargs="+",
    metavar="PATH",
    help="ways of the decoder, and after a + of the vision tower, each "
    "compiled and timed, such as kernel cudnn+cudnn chunked (default: "
    "auto and chunked)",
  )
  add(
    "--torch",
    nargs="+",
    choices=gpu.MODES,
    default=["eager", "compile"],
    help="whole takes minutes to compile (default: eager compile)",
  )
  add(
    "--tasks",
    nargs="+",
    choices=gpu.TASKS,
    default=["edit"],
    help="what is denoised (default: edit)",
  )
  add(
    "--side",
    type=int,
    default=1024,
    help="pixels of what is denoised (default: 1024)",
  )
  add("--steps", type=int, default=15, help="that count (default: 15)")
  add("--warmup", type=int, default=3, help="that do not (default: 3)")
  add(
    "--limit",
    type=ranges.SECONDS.number,
    default=540.0,
    metavar="SECONDS",
    help="of all parts together; what would come later is left out "
    "(default: 540)",
  )
  add(
    "--plan",
    type=common.path,
    metavar="FILE",
    help="what `emma-plan --json` printed for this step, to compare memory",
  )
  add(
    "--profile",
    default="",
    metavar="DIR",
    help="also trace two train steps into this folder",
  )
  flags.add_sizes(parser)
  flags.add_output(parser)
  parser.set_defaults(run=run)


def run(
  args: argparse.Namespace, overrides: Mapping[str, str]
) -> list[dict[str, Any]]:
  """Runs part after part, and prints each as soon as it is there."""
  jobs = _jobs(args, overrides)
  os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", str(programs.directory() / "xla")
  )
  start = time.monotonic()
  left = lambda: args.limit - (time.monotonic() - start)
  found = gpu.run({"part": "check"}, "", left())
  if "error" in found:
    raise common.UserError(f"Nothing can run here: {found['error']}")
  print(
    f"{found['devices']} x {found['device']}, jax {found['jax']}", flush=True
  )
  rows = [found]
  for job in jobs:
    rows.append(gpu.run(job, found["device"], left()))
    print(*gpu.lines(rows[-1], args.plan), sep="\n  ", flush=True)
    flags.write(args.json, rows)  # what comes later may take all of them along
  against = gpu.ratio(rows[1:])
  if against is not None:
    print(f"ratio: the fastest PyTorch's step takes {against:.2f} times ours")
    rows.append({"part": "ratio", "ratio": against})
  return rows


def _jobs(args, overrides: Mapping[str, str]) -> list[gpu.Job]:
  if args.steps < 1 or args.warmup < 0:
    raise common.UserError(
      f"--steps {args.steps} --warmup {args.warmup}: at "
      "least one step, and no fewer than none."
    )
  if args.side < 32 or args.side % 32:
    raise common.UserError(f"--side {args.side}: give a multiple of 32.")
  config = config_file.load(args.config, overrides)
  stage = common.stage_name(config, args.stage)
  denoised = config_file.load(args.denoise_config)
  side, attention = args.side, args.attention or ["auto", "chunked"]
  if args.sizes == "micro":  # for CPUs, where nothing else is to be compared
    from emma_jax.speed import sizes

    config, denoised, side = sizes.micro(config), sizes.micro(denoised), 64
    attention = args.attention or ["auto"]
  return list(
    gpu.jobs(
      config,
      stage,
      denoised,
      parts=args.parts,
      attention=attention,
      modes=args.torch,
      tasks=args.tasks,
      side=side,
      warmup=args.warmup,
      steps=args.steps,
      profile=args.profile,
    )
  )
