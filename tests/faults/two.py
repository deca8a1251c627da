"""Two trainers in one folder: the second leaves, the first does not notice."""

from collections.abc import Iterator
import os
import pathlib
import random
import shutil
import signal
import time

from emma_jax import locks
from emma_jax.exits import Exit
from tests.faults import runs

NAME = "two"


def cases(
  root: pathlib.Path, calm: runs.Run, chance: random.Random, short: bool
) -> Iterator[runs.Row]:
  """By locks of files, and by leases as on network folders."""
  for kind in ("file",) if short else ("file", "lease"):
    yield second(root, calm, chance, kind)
    if not short:
      yield successor(root, calm, kind)
  yield vanished(calm)


def second(
  root: pathlib.Path, calm: runs.Run, chance: random.Random, kind: str
) -> runs.Row:
  """Comes while the first trains."""
  run = runs.Run(root / f"two_{kind}")
  first = run.start(pause=0.3, EMMA_LOCK=kind)
  held(run)
  time.sleep(chance.uniform(0, 1))
  code = run.finish(EMMA_LOCK=kind)
  ended = runs.wait(first)
  differs = runs.compared(run, calm)
  good = (code, ended, differs) == (Exit.IN_USE, 0, "")
  return runs.Row(
    f"second comes, {kind}",
    f"second: exit {code}; first: exit {ended}, "
    f"{differs or 'bit-equal, each step logged once'}",
    good,
  )


def successor(root: pathlib.Path, calm: runs.Run, kind: str) -> runs.Row:
  """Comes as soon as the first is killed, and need not wait."""
  run = runs.Run(root / f"successor_{kind}")
  first = run.start(pause=0.3, EMMA_LOCK=kind)
  held(run)
  os.kill(first, signal.SIGKILL)
  runs.wait(first)
  code = run.finish(EMMA_LOCK=kind)
  differs = runs.compared(run, calm)
  good = code == 0 and not differs
  return runs.Row(
    f"holder was killed, {kind}", f"exit {code}, {differs or 'bit-equal'}", good
  )


def vanished(calm: runs.Run) -> runs.Row:
  """Its checkpoints are on a disk that is not mounted: a refusal."""
  run = calm.copy("vanished")
  shutil.rmtree(run.folder / "checkpoints")
  (run.folder / "checkpoints").mkdir()
  log, code = run.logged(), run.finish()
  good = code == Exit.MISSING and run.logged() == log
  return runs.Row("checkpoints not mounted", f"exit {code}, log kept", good)


def held(run: runs.Run) -> None:
  """Until the folder is held."""
  end = time.monotonic() + runs.PATIENCE
  while locks.holder(run.folder) is None and time.monotonic() < end:
    time.sleep(0.02)
