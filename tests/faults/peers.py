"""Two processes of one run, one of which is killed: both end, and go on."""

from collections.abc import Iterator
import itertools
import pathlib
import random
import sys

import jax

from emma_jax.exits import Exit
from tests.faults import runs
from tests.training import hosts, test_hosts, test_loop

NAME = "peers"


def cases(
  root: pathlib.Path, calm: runs.Run, chance: random.Random, short: bool
) -> Iterator[runs.Row]:
  """The one that saves, and the other."""
  del calm  # of one process: sums over rows in another order
  if short:
    return
  whole = runs.Run(root / "peers_calm")
  assert pair(whole) == [0, 0], whole.said()
  # Of the first stage: before anything is saved, or while it is.
  steps = chance.sample(range(1, test_loop.STEPS), 2)
  for killed, at in itertools.product((0, 1), steps):
    run = runs.Run(root / f"peers_{killed}_{at}")
    codes = pair(run, "--at", f"{at}=kill", "--only", str(killed))
    ended = all(c not in (0, Exit.STOPPED) for c in codes)
    again = pair(run)
    differs = runs.compared(run, whole)
    yield runs.Row(
      f"process {killed} killed at step {at}",
      f"exits {codes}; again {again}: {differs or 'bit-equal'}",
      ended and again == [0, 0] and not differs,
    )


def pair(run: runs.Run, *options: str) -> list[int]:
  """Exit codes of two processes of `tests.training.hosts`."""
  port = test_hosts.free_port()
  pids = [start(run, i, port, options) for i in range(2)]
  return [runs.wait(pid) for pid in pids]


def start(run: runs.Run, i: int, port: int, options: tuple[str, ...]) -> int:
  def work() -> int:
    sys.argv = ["hosts", str(run.folder), *options]
    code = hosts.main()
    if code in (Exit.DONE, Exit.STOPPED):
      # The farewell that JAX says at exit, which a forked process skips.
      jax.distributed.shutdown()
    return code

  return runs.forked(
    run.log,
    work,
    EMMA_COORDINATOR=f"127.0.0.1:{port}",
    EMMA_NUM_PROCESSES="2",
    EMMA_PROCESS_ID=str(i),
    EMMA_PEER_SECONDS="10",
  )
