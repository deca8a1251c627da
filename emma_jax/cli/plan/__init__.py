"""Compiles a run's real programs for machines that are not here, and judges.

  python -m emma_jax.cli.plan --config configs/emma_4b.py:stage1 \\
      --topology v5p:4x4x4
  python -m emma_jax.cli.plan --config configs/emma_4b.py:stage1 \\
      --topology v6e:16x16 --slices 2 --json
  python -m emma_jax.cli.plan --config configs/emma_4b.py:stage1,v5e-256
  python -m emma_jax.cli.plan --config configs/emma_1_7b.py --stage 3_quality \\
      --topology h100:8 --sweep
  python -m emma_jax.cli.plan --config configs/emma_4b.py:stage1 \\
      --topology v5e:16x16 --quick --sweep --sweep-fsdp 64 256
  python -m emma_jax.cli.plan --config configs/emma_4b.py:stage3 \\
      --topology v5e:4x4 --what sample --task edit
  python -m emma_jax.cli.plan --config configs/emma_4b.py \\
      --topology v5e:16x16 --what recipe

TPUs need libtpu (extra "tpu"), GPUs XLA's part for them (extra "cuda"); nothing
needs a TPU, a GPU or a driver. Exit codes: 0 it fits, 1 it does not, 2 a
mistake.
"""

import argparse
import json
import os
import sys

from emma_jax.build import config_file
from emma_jax.cli import common
from emma_jax.cli.plan import sweep


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
    metavar="CHIP:SIZE",
    help="v5p:4x4x4, v5e:16x16, v6e:16x16, h100:8, ...; a config that takes "
    "a machine after a colon gets this one, unless it names one, which then is "
    "the default",
  )
  add("--slices", type=int, help="TPU slices joined by the network [1]")
  add(
    "--what",
    choices=("train", "sample", "recipe"),
    default="train",
    help="train: a train step. sample: a denoising step and the decoding of "
    "a token. recipe: every stage's batch, micro-batches, rate and average on "
    "the machine, at once: nothing is compiled",
  )
  add("--stage", help="of the config; needed where it has several")
  add("--json", action="store_true", help="one line instead of tables")
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
  _find_machine(args)
  # After the arguments: a mistake in them should not wait for JAX.
  import jax

  from emma_jax import terminal

  # Compiling for a chip must not look for one; CUDA's plugin would insist.
  jax.config.update("jax_platforms", "cpu")
  # Programs of other machines can be written to the cache, but not read.
  jax.config.update("jax_enable_compilation_cache", False)
  from emma_jax.planner import chips

  topology = chips.topology(args.topology, args.slices)
  config = _config(args, overrides)
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
  from emma_jax.planner import table

  if args.json:
    print(json.dumps(table.as_json(plans)))
  else:
    for plan in plans:
      table.show(plan, console)
  code = 0 if all(p.fits for p in plans) else 1
  if args.quick:  # the compiler is still at work, and would be waited for
    sys.stdout.flush()
    os._exit(code)
  return code


def _find_machine(args) -> None:
  """Topology and slices that were not given are those of the machine that the
  config's name has; raises UserError where it has none."""
  from emma_jax.planner import machines

  named = machines.of_config(args.config)
  if args.topology is None:
    if named is None:
      raise common.UserError(
        "--topology is missing: v5e:16x16, v5p:4x4x4, h100:8, ...; or name a "
        "machine after the config's colon, as in emma_4b:stage1,v5e-256."
      )
    args.topology = named.topology
    args.slices = named.slices if args.slices is None else args.slices
  args.slices = 1 if args.slices is None else args.slices


def _config(args, overrides):
  """The config for this machine, where it knows machines."""
  prefix = f"{args.slices}x" if (args.slices or 1) > 1 else ""
  machine = f"{prefix}{args.topology}"
  return config_file.load_for(args.config, machine, overrides)


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

  if args.what == "train":
    found = row_shapes.train(config, _stage(args, config), devices)
  else:
    data = config["data"]
    rows = args.rows or len(devices)
    found = jobs.sample(
      config,
      jobs.Request(
        rows=rows,
        height=args.side or data["height"],
        width=args.side or data["width"],
        text=args.text_tokens,
        edit=args.task == "edit",
      ),
      devices,
    )
  flags = _flags(args, topology)
  out = []
  for job in found:
    path = args.save_hlo
    if path and len(found) > 1:
      path = f"{path}.{job.name}"
    out.append(
      plan_lib.make(
        job, topology, flags, top=args.top, save_hlo=path, quick=args.quick
      )
    )
  return out


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
  return common.run(_main, argv, _mistakes())


def _mistakes() -> tuple[type[Exception], ...]:
  from emma_jax import rules
  from emma_jax.build import sections
  from emma_jax.planner import chips

  return (sections.ConfigError, rules.RuleError, chips.PlanError)


def entry() -> None:
  """The console script."""
  sys.exit(main())
