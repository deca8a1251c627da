"""Compiles a run's real programs for machines that are not here, and judges.

  emma-plan --config configs/emma_4b.py:stage1,v5e-256 --quick --brief
  emma-plan --config configs/emma_4b.py:stage1 --topology v5p:4x4x4
  emma-plan --config configs/emma_4b.py:stage1 --topology 2xv6e-256 --json
  emma-plan --config configs/emma_1_7b.py --stage 3_quality \\
      --topology 8xh100 --sweep
  emma-plan --config configs/emma_4b.py:stage1 --topology v5litepod-256 \\
      --quick --sweep --sweep-fsdp 64 256
  emma-plan --config configs/emma_4b.py:stage3 --topology rtx4090 \\
      --what sample --task edit --side 1024
  emma-plan --config configs/emma_4b.py --topology v5e:16x16 --what recipe
  emma-plan --config configs/emma_4b.py --what needs --machines rtx4090 8xh100

The same as `python -m emma_jax.cli.plan`. Of a train step it says whether it
fits, and what the stage takes: steps x seconds = days, chip-hours. `needs` is
the table of what drawing, editing, training the adapters alone and training
take on each of several machines, with the command behind every figure.

TPUs need libtpu (extra "tpu"), GPUs XLA's part for them (extra "cuda"); nothing
needs a TPU, a GPU or a driver. Exit codes: 0 it fits, 1 it does not, 2 a
mistake.
"""

import argparse
import json
import os
import sys

from emma_jax import ranges, xla_flags
from emma_jax.cli import common
from emma_jax.cli.plan import machine, needs, progress, sweep


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    prog="emma-plan",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  common.add_config_arguments(parser)
  add = parser.add_argument
  add(
    "--topology",
    default="",
    metavar="MACHINE",
    help="v5p:4x4x4, v5e:256, v5litepod-256, 2xv6e-256, h100:8, a100, l4, "
    "rtx4090, ...; a config that takes a machine after a colon gets this one, "
    "unless it names one (default: the one that it names)",
  )
  add("--slices", type=int, default=1, help="TPU slices joined by the network")
  add(
    "--what",
    choices=("train", "sample", "recipe", "needs"),
    default="train",
    help="train: a train step. sample: a denoising step and the decoding of "
    "a token. recipe: every stage's batch, micro-batches, rate and average on "
    "the machine, at once: nothing is compiled. needs: a table of tasks and "
    "--machines, some minutes",
  )
  add("--stage", help="of the config; needed where it has several")
  add("--json", action="store_true", help="one line instead of tables")
  add(
    "--brief",
    action="store_true",
    help="whether it fits and what it takes, nothing else",
  )
  add("--top", type=int, default=8, help="arrays and places to list")
  add(
    "--no-flags",
    action="store_true",
    help="without the chip's flags of emma_jax/xla_flags.py",
  )
  add(
    "--quick",
    action="store_true",
    help="TPUs: stop before the compiler writes code, a minute instead of "
    "ten; times are a roofline's, the code's size is missing",
  )
  add(
    "--save-hlo", default="", metavar="FILE", help="write the compiled program"
  )
  sweep.add_flags(parser)
  needs.add_flags(parser)
  price = parser.add_argument_group("what a stage takes")
  price.add_argument(
    "--mfu",
    type=ranges.Range(0, 1, above=True).number,
    help="take the step at this MFU, as one has measured it, instead of the "
    "plan's estimate",
  )
  price.add_argument(
    "--usd-per-chip-hour",
    type=ranges.Range(0).number,
    metavar="USD",
    help="and say what it costs",
  )
  sample = parser.add_argument_group("what is sampled")
  sample.add_argument("--task", choices=("draw", "edit"), default="edit")
  sample.add_argument(
    "--rows",
    type=int,
    default=0,
    help="pictures at once; default: one a device",
  )
  sample.add_argument(
    "--side", type=int, default=0, help="pixels; default: the config's"
  )
  sample.add_argument("--text-tokens", type=int, default=100)
  return parser


def _main(argv: list[str]) -> int:
  args, overrides = common.parse_arguments(_parser(), argv)
  if args.what == "needs":
    return needs.run(args, overrides)
  # After the arguments: a mistake in them should not wait for JAX.
  import jax

  from emma_jax import terminal
  from emma_jax.planner import chips

  # Compiling for a chip must not look for one; CUDA's plugin would insist.
  jax.config.update("jax_platforms", "cpu")
  # Programs of other machines can be written to the cache, but not read.
  jax.config.update("jax_enable_compilation_cache", False)
  topology = machine.topology(args)
  config = machine.config(args, topology, overrides)
  console = terminal.console(width=max(terminal.console().width, 100))
  if args.what == "recipe":
    return _recipe(args, config, console)
  devices = chips.describe(topology)
  if args.quick and topology.chip.platform != "tpu":
    raise common.UserError("--quick is for TPUs: leave it out.")
  if args.sweep:
    if args.what != "train":
      raise common.UserError("--sweep is of train steps: leave out --what.")
    stage, flags = _stage(args, config), _flags(args, topology)
    return sweep.run(args, config, stage, topology, devices, flags, console)
  plans = _plans(args, config, topology, devices)
  _show(args, config, topology, plans, console)
  code = 0 if all(p.fits for p in plans) else 1
  if args.quick:  # the compiler is still at work, and would be waited for
    sys.stdout.flush()
    os._exit(code)
  return code


def _show(args, config, topology, plans, console) -> None:
  from emma_jax.planner import duration, table

  took = None
  if args.what == "train":
    took = duration.of(plans, topology.chips, args.mfu)
  if args.json:
    print(json.dumps(table.as_json(plans, took)))
    return
  for plan in plans:
    (table.show_brief if args.brief else table.show)(plan, console)
  if took:
    table.show_duration(took, console, args.usd_per_chip_hour)
  if args.what == "sample" and all(p.fits for p in plans):
    draw, decode = (p.step_seconds_estimate for p in plans)
    steps, rows = int(config["sample"]["steps"]), args.rows or topology.devices
    console.print(
      f"{rows} at once: a picture's {steps} steps "
      f"{duration.spoken(steps * draw)}; a token of an answer "
      f"{duration.spoken(decode)}. Reading the prompt and decoding the latents "
      "come on top."
    )


def _stage(args, config) -> str:
  return common.stage_name(config, args.stage)


def _flags(args, topology) -> dict[str, str]:
  """The chip's flags, and those of the environment, which win."""
  if args.no_flags:
    return {}
  from emma_jax import xla_flags

  return xla_flags.pairs(topology.chip.name, os.environ)


def _plans(args, config, topology, devices) -> list:
  from emma_jax.planner import jobs, row_shapes
  from emma_jax.planner import plan as plan_lib

  with progress.phase(f"Tracing {args.what} for {topology}"):
    if args.what == "train":
      found = row_shapes.train(config, _stage(args, config), devices)
    else:
      found = jobs.sample(config, _request(args, config, devices), devices)
  flags = _flags(args, topology)
  out = []
  for i, job in enumerate(found, 1):
    path = args.save_hlo
    if path and len(found) > 1:
      path = f"{path}.{job.name}"
    with progress.phase(f"Compiling {job.name} ({i} of {len(found)})"):
      plan = plan_lib.make(
        job, topology, flags, top=args.top, save_hlo=path, quick=args.quick
      )
    out.append(plan)
  return out


def _request(args, config, devices):
  """What is sampled."""
  from emma_jax.planner import jobs

  data = config["data"]
  return jobs.Request(
    rows=args.rows or len(devices),
    height=args.side or data["height"],
    width=args.side or data["width"],
    text=args.text_tokens,
    edit=args.task == "edit",
  )


def _recipe(args, config, console) -> int:
  from emma_jax.planner import recipe, table

  found = [
    recipe.of_stage(config, name)
    for name in ([_stage(args, config)] if args.stage else config["stages"])
  ]
  if args.json:
    print(json.dumps({r.stage: r.as_json() for r in found}))
  else:
    table.show_recipes(found, console)
  return 0


def main(argv: list[str] | None = None) -> int:
  """Runs the command; returns its exit code."""
  xla_flags.only_compile()  # before anything brings JAX along
  return common.run(_main, argv, _mistakes())


def _mistakes() -> tuple[type[Exception], ...]:
  from emma_jax import rules
  from emma_jax.build import sections
  from emma_jax.planner import chips

  return (sections.ConfigError, rules.RuleError, chips.PlanError)


def entry() -> None:
  """The console script."""
  sys.exit(main())
