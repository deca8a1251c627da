"""`--what needs`: a table of what tasks take on machines.

Every figure is that of an `emma-plan` command, run in a process of its own and
printed below the table.
"""

import argparse
from collections.abc import Mapping
import dataclasses
import json
import shlex
import subprocess
import sys
from typing import Any

from emma_jax.cli import common
from emma_jax.cli.plan import progress

MACHINES = ("rtx4090", "a100", "h100", "8xh100", "v5e-16", "v5p-128")


@dataclasses.dataclass(frozen=True)
class Task:
  """A row of the table: what is done, by which arguments of `emma-plan`."""

  name: str
  stage: str
  arguments: tuple[str, ...]


def _sample(task: str) -> tuple[str, ...]:
  return ("--what", "sample", "--task", task, "--side", "1024")


TASKS = (
  Task("draw at 1024", "stage3", _sample("draw")),
  Task("edit at 1024", "stage3", _sample("edit")),
  Task("train the adapters alone (stage 0)", "stage0", ()),
  Task("train all (stage 1)", "stage1", ()),
  Task("train all (stage 3, at 1024)", "stage3,fixed", ()),
)


def add_flags(parser: argparse.ArgumentParser) -> None:
  """Adds `--machines`."""
  group = parser.add_argument_group("table of needs")
  group.add_argument(
    "--machines",
    nargs="+",
    default=MACHINES,
    metavar="MACHINE",
    help=f"columns of --what needs (default: {' '.join(MACHINES)})",
  )


def run(args: argparse.Namespace, overrides: Mapping[str, str]) -> int:
  """Prints the table; 0, whether or not all fits."""
  from emma_jax.planner import chips

  if ":" in args.config:
    raise common.UserError(
      f"--config {args.config}: needs goes over stages itself; give"
      f" {args.config.partition(':')[0]}."
    )
  machines = [chips.topology(name) for name in args.machines]
  if args.json:
    found = [
      {"task": task.name, "machine": str(m), **_cell(args, overrides, task, m)}
      for task in TASKS
      for m in machines
    ]
    print(json.dumps(found))
    return 0
  commands = []
  print("| " + " | ".join(["", *map(str, machines)]) + " |")
  print("|" + "---|" * (len(machines) + 1), flush=True)
  for task in TASKS:
    cells = []
    for m in machines:
      cell = _cell(args, overrides, task, m)
      cells.append(words(cell))
      commands.append(cell["command"])
    print("| " + " | ".join([task.name, *cells]) + " |", flush=True)
  print("\nBy, in this order:")
  print("\n".join(f"  {command}" for command in commands))
  return 0


def _cell(
  args: argparse.Namespace,
  overrides: Mapping[str, str],
  task: Task,
  machine: Any,
) -> dict[str, Any]:
  """What one command found; "error" where it found nothing."""
  from emma_jax.cli.plan import machine as machine_lib

  words = ["--config", f"{args.config}:{task.stage}"]
  words += ["--topology", machine_lib.name(machine), *task.arguments]
  if machine.chip.platform == "tpu":
    words.append("--quick")
  if args.mfu:
    words += ["--mfu", str(args.mfu)]
  words += [f"--config.{key}={value}" for key, value in overrides.items()]
  command = shlex.join(["emma-plan", *words])
  with progress.phase(f"{task.name} on {machine}"):
    done = subprocess.run(
      [sys.executable, "-m", "emma_jax.cli.plan", *words, "--json"],
      capture_output=True,
      text=True,
    )
  try:
    found = json.loads(done.stdout.splitlines()[-1])
  except (IndexError, ValueError):
    lines = done.stderr.strip().splitlines() or [f"code {done.returncode}"]
    said = [line for line in lines if line.startswith("error: ")] or lines
    return {"command": command, "error": said[-1].removeprefix("error: ")}
  keys = ("fits", "hbm_bytes", "hbm_capacity_bytes", "duration")
  out = {"command": command} | {key: found[key] for key in keys}
  if "--task" in words and found["fits"]:
    from emma_jax.build import config_file

    config = config_file.load(f"{args.config}:{task.stage}", overrides)
    steps = int(config["sample"]["steps"])
    out["picture_seconds"] = steps * found["step_seconds_estimate"]
    out["pictures"] = machine.devices
  return out


def words(cell: Mapping[str, Any]) -> str:
  """A cell as people read it: memory, then time."""
  from emma_jax.planner import duration

  if "error" in cell:
    return f"no plan: {cell['error']}"
  gib = [cell[key] / 2**30 for key in ("hbm_bytes", "hbm_capacity_bytes")]
  memory = f"{gib[0]:.1f} of {gib[1]:.1f} GiB"
  if not cell["fits"]:
    return f"does not fit: {memory}"
  if "picture_seconds" in cell:
    many = f" for {cell['pictures']}" if cell["pictures"] > 1 else ""
    return f"{memory}, {duration.spoken(cell['picture_seconds'])}{many}"
  took = duration.Duration(
    **{
      f.name: cell["duration"][f.name]
      for f in dataclasses.fields(duration.Duration)
    }
  )
  return f"{memory}, {duration.spoken(took.seconds)}"
