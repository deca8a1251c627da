"""Flags of the devices that compute: several processes, a mesh, a dtype."""

import argparse
from collections.abc import Callable, Mapping
import os
import sys
import traceback
from typing import Any

from emma_jax.build import config_file
from emma_jax.cli import common
from emma_jax.exits import Exit

MESH_HELP = (
  "--config.mesh.AXIS=N splits weights and work over all devices: data (copies "
  "of the weights), fsdp (weights are split), tensor (heads are split), slice; "
  "-1 is all that are left, as fsdp is unless given. Without any, one device "
  "computes; several processes always split."
)


def add_processes(parser: argparse.ArgumentParser) -> None:
  """Adds the flags that tell of other processes."""
  group = parser.add_argument_group(
    "several processes", "Each may be given as EMMA_COORDINATOR and so on."
  )
  group.add_argument(
    "--distributed",
    choices=("auto", "on", "off"),
    default="auto",
    help="auto: join others where flags, SLURM, Open MPI or a TPU slice in "
    "GKE tell of them; on: always, such as on TPU machines without GKE",
  )
  group.add_argument(
    "--coordinator", metavar="HOST:PORT", help="where process 0 listens"
  )
  group.add_argument("--num_processes", type=int, metavar="N")
  group.add_argument("--process_id", type=int, metavar="I", help="from 0")
  group.add_argument(
    "--start_seconds",
    type=int,
    metavar="S",
    help="wait for the others at most so long [300]",
  )
  group.add_argument(
    "--peer_seconds",
    type=int,
    metavar="S",
    help="end all after one was silent for so long [60]",
  )


def add_dtype(parser: argparse.ArgumentParser) -> None:
  """Adds `--dtype`, of weights that are only used."""
  parser.add_argument(
    "--dtype",
    choices=("float32", "bfloat16"),
    default="float32",
    help="float32 (default): weights as they are stored; bfloat16: half the "
    "memory, computed in bfloat16",
  )


def join(args: argparse.Namespace) -> None:
  """Joins the other processes, before anything else asks JAX for devices.

  Raises:
    distributed.StartError: flags or environment that say too little.
  """
  from emma_jax import distributed

  distributed.start(
    distributed.settings(
      os.environ,
      args.distributed,
      coordinator=args.coordinator,
      num_processes=args.num_processes,
      process_id=args.process_id,
      start_seconds=args.start_seconds,
      peer_seconds=args.peer_seconds,
    )
  )


def split(
  overrides: Mapping[str, str],
) -> tuple[dict[str, str], dict[str, str]]:
  """(overrides of the mesh, all others).

  >>> split({"mesh.data": "2", "sample.steps": "3"})
  ({'mesh.data': '2'}, {'sample.steps': '3'})
  """
  own = {k: v for k, v in overrides.items() if k.split(".")[0] == "mesh"}
  return own, {k: v for k, v in overrides.items() if k not in own}


def mesh(overrides: Mapping[str, str]) -> Any:
  """The `sharding.MeshConfig` to use weights on; None: one device.

  That of their training was for the devices of the training.

  Args:
    overrides: of the mesh alone.

  Raises:
    ConfigError: an axis that there is not.
    UserError: numbers that cannot be.
  """
  import jax

  from emma_jax import sharding

  every = {"mesh": dict.fromkeys(sharding.AXES, 1)}
  sizes = config_file.changed(every, overrides)["mesh"]
  asked = {axis: n for axis, n in sizes.items() if f"mesh.{axis}" in overrides}
  try:
    found = sharding.MeshConfig.using(asked)
  except ValueError as error:
    raise common.UserError(str(error)) from error
  return found if overrides or jax.process_count() > 1 else None


def options(args: argparse.Namespace, overrides: Mapping[str, str]) -> dict:
  """What `build.session.load` takes, of `--dtype` and overrides of the mesh."""
  return {"mesh": mesh(overrides), "dtype": args.dtype}


def is_first() -> bool:
  """Whether this process writes and prints what all have computed."""
  import jax

  return jax.process_index() == 0


def end(main: Callable[[], int]) -> None:
  """Ends the process with main's code; one of several leaves the others."""
  try:
    code = main()
  except Exception:
    traceback.print_exc()
    code = Exit.FAULT
  known = sys.modules.get("emma_jax.distributed")
  if known:  # else nothing was begun that has to be left
    known.leave(code)
  sys.exit(code)
