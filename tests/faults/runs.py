"""Runs of the toy in forked processes, their faults, and what came of them."""

from collections.abc import Callable
import json
import os
import pathlib
import shutil
import signal
import sys
import time
import traceback
from typing import NamedTuple

from emma_jax.cli import common
from emma_jax.exits import Exit
from emma_jax.training import loop
from tests.training import test_loop

PATIENCE = 300.0  # seconds for what takes a few


class Row(NamedTuple):
  """One case: what was done, what came of it, whether that is as it must be."""

  case: str
  outcome: str
  good: bool


class Event(NamedTuple):
  """Something that Python did to a path below a run's folder."""

  name: str
  path: str


class Run:
  """A run's folder, and processes that work in it."""

  def __init__(self, folder: pathlib.Path, log: pathlib.Path | None = None):
    """`log`: what its processes say; beside the folder if not named."""
    self.folder = folder
    self.log = log or folder.with_suffix(".txt")

  def start(
    self,
    before: Callable[[pathlib.Path], None] = lambda folder: None,
    pause: float = 0.0,
    **environment: str,
  ) -> int:
    """A trainer; its process id.

    before: called in it first, to plant faults.
    pause: seconds before each step.
    """

    def work() -> int:
      before(self.folder)
      return common.run(lambda argv: self._train(pause), [])

    return forked(self.log, work, **environment)

  def _train(self, pause: float) -> int:
    def hook(step: int, batch):
      time.sleep(pause)
      return batch

    try:
      loop.train(test_loop.make_run(hook, train__keep=2), self.folder)
    except loop.Stopped:
      return Exit.STOPPED
    return 0

  def finish(self, **how) -> int:
    """A whole process; its exit code, or minus the signal that ended it."""
    return wait(self.start(**how))

  def said(self) -> str:
    """All that its processes said."""
    return self.log.read_text() if self.log.exists() else ""

  def logged(self) -> list[dict]:
    return test_loop.logged(self.folder)

  def steps(self) -> list[int]:
    """Of its checkpoints."""
    places = (self.folder / "checkpoints").glob("*")
    return sorted(int(p.name) for p in places if p.name.isdigit())

  def newest(self) -> pathlib.Path:
    return self.folder / "checkpoints" / str(self.steps()[-1])

  def state(self) -> tuple:
    """What must be equal: checksums of all arrays at the end, and the log."""
    try:
      text = (self.newest() / "meta" / "metadata").read_text()
      return self.steps()[-1], json.loads(text)["leaves"], self.logged()
    except (OSError, ValueError, IndexError) as error:
      return (str(error),)

  def copy(self, name: str) -> "Run":
    """The same folder by another name."""
    folder = self.folder.with_name(name)
    shutil.copytree(self.folder, folder)
    return Run(folder)


def forked(
  log: pathlib.Path, work: Callable[[], int], **environment: str
) -> int:
  """A process that ends with what `work` returns; its process id.

  It never comes back into the campaign's own code, which would go on twice.
  What it says goes to the end of `log`.
  """
  sys.stdout.flush()
  sys.stderr.flush()
  pid = os.fork()
  if pid:
    return pid
  code = 1
  try:
    os.environ.update(environment)
    with log.open("a") as file:
      os.dup2(file.fileno(), 1)
      os.dup2(file.fileno(), 2)
    code = work()
  except BaseException:
    traceback.print_exc()
  finally:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def wait(pid: int, patience: float = PATIENCE) -> int:
  """The exit code of a process, or minus the signal that ended it; killed
  where it hangs."""
  end = time.monotonic() + patience
  while time.monotonic() < end:
    found, status = os.waitpid(pid, os.WNOHANG)
    if found:
      return os.waitstatus_to_exitcode(status)
    time.sleep(0.01)
  os.kill(pid, signal.SIGKILL)
  os.waitpid(pid, 0)
  raise TimeoutError(f"a process hung for {patience:.0f} s")


_FILE_EVENTS = {
  *("os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree", "open")
}


def on_events(act: Callable[[int, Event], None]) -> Callable:
  """A `before` that calls `act` with the number of each event in the folder.

  Reads are left out. What TensorStore does in C++ is not seen.
  """

  def plant(folder: pathlib.Path) -> None:
    count, root = 0, str(folder)

    def hook(name: str, args: tuple) -> None:
      nonlocal count
      if name not in _FILE_EVENTS:
        return
      path = str(args[0])
      reads = name == "open" and (
        isinstance(args[1], str) and not set(args[1]) & set("wax+")
      )
      if path.startswith(root) and not reads:
        count += 1
        act(count, Event(name, path[len(root) + 1 :]))

    sys.addaudithook(hook)

  return plant


def kill_at(number: int) -> Callable:
  """Ends the process like a loss of power for it, before an event happens."""

  def act(count: int, event: Event) -> None:
    if count == number:
      os.kill(os.getpid(), signal.SIGKILL)

  return on_events(act)


def compared(run: Run, calm: Run) -> str:
  """ "" where both ended alike, else what differs."""
  found, wanted = run.state(), calm.state()
  names = ("last step", "weights", "log")
  if len(found) != len(wanted):
    return f"no checkpoint: {found[0]}"
  return ", ".join(n for n, a, b in zip(names, found, wanted) if a != b)


def resumed(run: Run, calm: Run, case: str, first: str) -> Row:
  """Gives the command again; it must end as the calm run did."""
  code = run.finish()
  differs = compared(run, calm) if code == 0 else run.said()[-300:]
  good = code == 0 and not differs
  then = "bit-equal" if good else f"exit {code}, differs: {differs}"
  return Row(case, f"{first}; again: {then}", good)
