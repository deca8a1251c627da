"""Two processes of one run, one of which is killed: both end, and go on."""

from collections.abc import Iterator
import os
import pathlib
import random
import sys

from emma_jax import distributed
from emma_jax.exits import Exit
from tests.faults import runs
from tests.training import hosts, test_hosts

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
  for killed in (0, 1):
    run, at = runs.Run(root / f"peers_{killed}"), chance.randint(2, 5)
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
  pid = os.fork()
  if pid:
    return pid
  with run.log.open("a") as log:
    os.dup2(log.fileno(), 1)
    os.dup2(log.fileno(), 2)
  os.environ.update(
    EMMA_COORDINATOR=f"127.0.0.1:{port}",
    EMMA_NUM_PROCESSES="2",
    EMMA_PROCESS_ID=str(i),
    EMMA_PEER_SECONDS="10",
  )
  sys.argv = ["hosts", str(run.folder), *options]
  code = 1
  try:
    code = hosts.main()
  except BaseException as error:
    print(repr(error))
  distributed.leave(code)
  os._exit(code)
