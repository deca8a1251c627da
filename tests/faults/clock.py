"""The clock is set back between two starts: nothing goes by it."""

from collections.abc import Iterator
import os
import pathlib
import random
import signal
import time

from tests.faults import runs

NAME = "clock"
DAY = 86400.0


def cases(
  root: pathlib.Path, calm: runs.Run, chance: random.Random, short: bool
) -> Iterator[runs.Row]:
  """Killed, then gone on with a day, or ten years, before."""
  for days in (1,) if short else (1, 3650):
    run = runs.Run(root / f"clock_{days}")
    pid = run.start(pause=0.1)
    end = time.monotonic() + runs.PATIENCE
    while not run.steps() and time.monotonic() < end:
      time.sleep(0.01)
    time.sleep(chance.uniform(0, 0.3))
    os.kill(pid, signal.SIGKILL)
    runs.wait(pid)
    future = time.time() + days * DAY
    for path in run.folder.rglob("*"):
      os.utime(path, (future, future))
    code = run.finish(before=set_back(days))
    differs = runs.compared(run, calm) if code == 0 else run.said()[-300:]
    yield runs.Row(
      f"{days} days back, files of the future",
      f"exit {code}, {differs or 'bit-equal'}",
      code == 0 and not differs,
    )


def set_back(days: int):
  """Python's clock in the trainer; the machine's stays."""

  def plant(folder: pathlib.Path) -> None:
    del folder
    real = time.time
    time.time = lambda: real() - days * DAY

  return plant
