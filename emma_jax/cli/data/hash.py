"""emma-data hash: a digest of the stream, to compare settings and machines.

SHA-256 over the names of all samples and the bytes of all arrays of the batches
of all hosts. It must not depend on how many hosts and workers there are, nor on
where the stream is stopped and taken up again:

  emma-data hash --config C --steps 12
  emma-data hash --config C --steps 12 --processes 4 --workers 2
  emma-data hash --config C --steps 12 --resume 5:2:1 --resume 9:4:0
"""

import argparse
from collections.abc import Iterator
import contextlib
import hashlib
import json
import tempfile
from typing import Any, NamedTuple

from emma_jax.cli import common
from emma_jax.cli.data import stage


class Setting(NamedTuple):
  """From a step on, so many hosts with so many worker processes each."""

  step: int
  processes: int
  workers: int

  @classmethod
  def parse(cls, text: str) -> "Setting":
    """Of "STEP:PROCESSES:WORKERS"; ValueError for any other text."""
    step, processes, workers = map(int, text.split(":"))
    return cls(step, processes, workers)


def add(commands: Any) -> None:
  """Adds the parser of `emma-data hash`."""
  parser = commands.add_parser(
    "hash",
    help="a digest of the stream",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  stage.add_arguments(parser)
  parser.add_argument(
    "--start",
    type=int,
    default=0,
    metavar="K",
    help="first batch (default: %(default)s)",
  )
  parser.add_argument(
    "--steps",
    type=int,
    default=10,
    metavar="N",
    help="batches (default: %(default)s)",
  )
  parser.add_argument(
    "--processes",
    type=int,
    default=1,
    metavar="P",
    help="hosts, which read a share of the rows each (default: %(default)s)",
  )
  parser.add_argument(
    "--workers",
    type=int,
    default=0,
    metavar="W",
    help="worker processes of each (default: %(default)s)",
  )
  parser.add_argument(
    "--resume",
    type=Setting.parse,
    action="append",
    default=[],
    metavar="STEP:P:W",
    help="before this batch, stop and go on with P hosts and W workers",
  )
  parser.add_argument(
    "--each", action="store_true", help="print the digest of every batch, too"
  )
  parser.add_argument("--json", action="store_true", help="print JSON")
  parser.set_defaults(run=run)


def run(args: argparse.Namespace, overrides: dict[str, str]) -> int:
  """Prints the digest of the batches, hosts in turn; 0, or UserError."""
  config, name = stage.find(args, overrides)
  config = stage.measured(config, name, args.plans)
  settings = [Setting(args.start, args.processes, args.workers), *args.resume]
  end = args.start + args.steps
  steps = [s.step for s in settings]
  if steps != sorted(set(steps)) or steps[-1] >= end:
    raise common.UserError(
      f"--resume {steps[1:]}: ascending, between --start {args.start} and "
      f"{end}."
    )
  whole, samples = hashlib.sha256(), 0
  with tempfile.TemporaryDirectory(prefix="emma_hash_") as folder:
    plans = args.plans or folder
    for setting, stop in zip(settings, [*steps[1:], end]):
      for step, digest, count in digests(config, name, plans, setting, stop):
        whole.update(digest.encode())
        samples += count
        if args.each:
          print(f"{step} {digest}", flush=True)
  report = {
    "stage": name,
    "start": args.start,
    "steps": args.steps,
    "samples": samples,
    "sha256": whole.hexdigest(),
  }
  if args.json:
    print(json.dumps(report))
  else:
    print(
      f"{report['sha256']}  batches {args.start} to {end - 1} of {name}, "
      f"{samples} samples"
    )
  return 0


def digests(
  config: dict[str, Any], name: str, plans: str, setting: Setting, stop: int
) -> Iterator[tuple[int, str, int]]:
  """(step, digest, samples) of the global batches before `stop`."""
  from emma_jax.data.loading import loader

  with contextlib.ExitStack() as stack:
    hosts = [
      stack.enter_context(
        loader.stream(
          stage.source(config, name, plans, i, setting.processes),
          setting.step,
          num_workers=setting.workers,
        )
      )
      for i in range(setting.processes)
    ]
    for step in range(setting.step, stop):
      digest, count = _digest([next(host) for host in hosts])
      yield step, digest, count


def _digest(hosts: list[Any]) -> tuple[str, int]:
  """(SHA-256, samples) of one batch, whose rows the hosts hold in order."""
  import jax
  import numpy as np

  out = hashlib.sha256()
  ids = [row for host in hosts for row in host.info.ids]
  out.update(json.dumps(ids).encode())
  flat = [jax.tree_util.tree_flatten_with_path(h.batch)[0] for h in hosts]
  for parts in zip(*flat):
    keys = jax.tree_util.keystr(parts[0][0])
    array = np.concatenate([np.asarray(x) for _, x in parts])
    out.update(f"{keys} {array.dtype} {array.shape}".encode())
    out.update(np.ascontiguousarray(array).tobytes())
  return out.hexdigest(), sum(map(len, ids))
