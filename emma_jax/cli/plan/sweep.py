"""Flags and run of `--sweep`: meshes and remat policies tried and ranked."""

import argparse
import json
import sys


def add_flags(parser: argparse.ArgumentParser) -> None:
  """Adds `--sweep` and what it goes over."""
  group = parser.add_argument_group("sweep of a train step")
  group.add_argument(
    "--sweep",
    action="store_true",
    help="try meshes and remat policies, and rank them",
  )
  group.add_argument(
    "--sweep-fsdp",
    type=int,
    nargs="+",
    default=[],
    metavar="N",
    help="devices that weights are split over",
  )
  group.add_argument(
    "--sweep-tensor",
    type=int,
    nargs="+",
    default=[1],
    metavar="N",
    help="devices that heads are split over",
  )
  group.add_argument(
    "--sweep-remat",
    nargs="+",
    default=[],
    metavar="POLICY",
    help="full, dots, names:A,B or none",
  )


def run(
  args: argparse.Namespace, config, stage, topology, devices, flags, console
) -> int:
  """Compiles every candidate, and ranks them; 0: the best fits, 1: none."""
  from emma_jax.planner import sweep, table

  tried = sweep.candidates(
    topology,
    config,
    fsdp=args.sweep_fsdp,
    tensor=args.sweep_tensor,
    remat=args.sweep_remat,
  )

  def report(outcome) -> None:
    print(table.line(outcome), file=sys.stderr, flush=True)

  outcomes = sweep.run(
    config, stage, topology, devices, flags, tried, report, quick=args.quick
  )
  if args.json:
    print(json.dumps(table.sweep_as_json(outcomes)))
  else:
    table.show_sweep(outcomes, console)
  return 0 if outcomes[0].plan and outcomes[0].plan.fits else 1
