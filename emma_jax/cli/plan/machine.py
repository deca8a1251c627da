"""Which machine is meant, and the config for it."""

import argparse
from collections.abc import Mapping
import math
import sys
from typing import Any

from emma_jax.build import config_file
from emma_jax.cli import common


def topology(args: argparse.Namespace) -> Any:
  """The machine of --topology, or the one that the config's name has in it.

  Raises:
    PlanError: a name that is no machine's.
    UserError: none is named, or a config that has a name of its own is to be
      planned for another.
  """
  from emma_jax.planner import chips

  if args.topology:
    return chips.topology(args.topology, args.slices)
  named = _named(args.config)
  if named is None:
    raise common.UserError(
      "Which machine? Give --topology, such as v5e-256, v5p:4x4x4, 8xh100 or "
      f"rtx4090; or name it in the config: {args.config}"
      f"{',' if ':' in args.config else ':'}v5e-256."
    )
  return named


def _named(config: str) -> Any:
  """Of the words behind a config's colon, the one that is a machine."""
  from emma_jax.planner import chips

  for word in config.partition(":")[2].split(","):
    try:
      return chips.topology(word)
    except chips.PlanError:
      continue
  return None


def name(machine: Any) -> str:
  """As `configs/targets.py` finds it: "v5e:16x16", "2xv6e:16x16"."""
  prefix = f"{machine.slices}x" if machine.slices > 1 else ""
  return f"{prefix}{machine.chip.name}:{'x'.join(map(str, machine.sizes))}"


def config(
  args: argparse.Namespace, machine: Any, overrides: Mapping[str, str]
) -> Any:
  """The config for this machine, where it knows machines.

  For one that it does not know, of other devices than its default's, that of
  the most similar one, with all weights split over all devices.
  """
  found = config_file.load_for(args.config, name(machine), overrides)
  sizes = [int(n) for n in found["mesh"].values()]
  fits = -1 in sizes or math.prod(sizes) == machine.devices
  of_mesh = any(key.startswith("mesh.") for key in overrides)
  if fits or of_mesh or _named(args.config) is not None:
    return found
  similar = "v5e-16"
  if machine.chip.platform == "cuda":
    similar = "h100" if machine.devices == 1 else "8xh100"
  mesh = {
    "mesh.slice": machine.slices,
    "mesh.data": 1,
    "mesh.fsdp": machine.devices // machine.slices,
    "mesh.tensor": 1,
  }
  keys = {key: str(n) for key, n in mesh.items()} | dict(overrides)
  print(
    f"{machine} is no machine of configs/targets.py: planned with the rows of "
    f"{similar}, and weights split over {mesh['mesh.fsdp']}.",
    file=sys.stderr,
  )
  return config_file.load_for(args.config, similar, keys)
