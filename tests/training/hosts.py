"""One of several processes of a toy run: `python -m tests.training.hosts DIR`.

What its data does at a step is told as `--at STEP=ACTION`, ACTION being term
(SIGTERM to itself), kill (SIGKILL), raise, or full: no file may grow any more,
as on a full disk; --only says whose data. Batches of the world are drawn, those
of --records planned.
"""

import argparse
import os
import pathlib
import resource
import signal
import sys

import jax
import jax.numpy as jnp
import numpy as np

from emma_jax import distributed
from emma_jax.exits import Exit
from emma_jax.storage import StorageError
from emma_jax.training import loop
from tests.data import recorded
from tests.training import test_loop

ROWS = 4
_LEFT = 64  # bytes of a file; a checkpoint's are larger
STOP = {"term": signal.SIGTERM, "kill": signal.SIGKILL}


def main() -> int:
  parser = argparse.ArgumentParser()
  parser.add_argument("workdir", type=pathlib.Path)
  parser.add_argument("--at", default="")
  parser.add_argument("--only", type=int, default=0)
  parser.add_argument("--records", help="folders to plan batches of")
  args = parser.parse_args()
  found = distributed.settings(os.environ)
  distributed.start(found)
  at, _, action = args.at.partition("=")
  me = found.process_id if found else 0

  def hook(step: int, batch):
    if at and step == int(at) and args.only == me:
      if action == "raise":
        raise OSError("the disk is gone")
      if action == "full":
        resource.setrlimit(resource.RLIMIT_FSIZE, (_LEFT, -1))
        return batch
      os.kill(os.getpid(), STOP[action])
    return batch

  # threads=0: data is read in the loop itself, so a step is a step.
  sizes = {
    f"stages__{stage}__{key}": ROWS
    for stage in ("1_pretraining", "3_quality")
    for key in ("rows", "samples_per_batch")
  }
  run = test_loop.make_run(hook, data__packing_groups=2, **sizes)
  if args.records:
    found = {t: f"records:{args.records}/{t}" for t in recorded.COUNTS}
    run = test_loop.small(
      test_loop.assembled(recorded.config(found), str(args.workdir / "plan")),
      hook,
    )
  try:
    params = loop.train(run, args.workdir, after)
  except loop.Stopped as stopped:
    print(stopped, file=sys.stderr)
    return Exit.STOPPED
  print("w", *map(repr, params["w"].tolist()))
  return 0


def after(params, *_):
  """As an evaluation does: a program of this process alone."""
  assert np.isfinite(jax.jit(jnp.sum)(params["w"]))


if __name__ == "__main__":
  try:
    code = main()
  except (OSError, StorageError) as error:
    print(error)
    code = getattr(error, "exit_code", 1)
  distributed.leave(code)
