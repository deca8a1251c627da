"""A command in a process of its own: its end, its words, what it took."""

from collections.abc import Callable, Iterator, Sequence
import dataclasses
import logging
import os
import pathlib
import pickle
import re
import signal
import sys
import time
import traceback
from typing import NamedTuple

from emma_jax.cli import common, convert, data, evaluate, sample, train

MEMORY = 1000  # MB, of the whole process
# Of the processor, since others may be at work here; the wall's are printed.
SECONDS = 10.0
_PATIENCE = 600.0  # seconds by the wall

Main = Callable[[Sequence[str]], int | None]
COMMANDS: dict[str, Main] = {
  "emma-convert": lambda argv: convert.main(list(argv)),
  "emma-data": lambda argv: common.run(data.main, argv),
  "emma-evaluate": lambda argv: evaluate.main(list(argv)),
  "emma-sample": lambda argv: sample.main(list(argv)),
  "emma-train": lambda argv: train.main(list(argv)),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
  """One command on one input.

  name: what is wrong with it.
  command: of `COMMANDS`.
  argv: its arguments.
  code: what it must end with.
  words: what it must say, a regular expression.
  """

  name: str
  command: str
  argv: tuple[str, ...]
  code: int
  words: str = ""


class Outcome(NamedTuple):
  """What came of a case; `seconds` of the processor, `wall` of the clock."""

  code: int
  said: str
  seconds: float
  wall: float
  peak: float  # MB

  def faults(self, case: Case) -> list[str]:
    """What is not as it must be."""
    found = []
    if self.code != case.code:
      found.append(f"exit {self.code} in place of {case.code}")
    if not re.search(case.words, self.said, re.S):
      found.append(f"does not say {case.words!r}")
    if "Traceback" in self.said:
      found.append("a stack trace")
    if self.peak > MEMORY:
      found.append(f"more than {MEMORY} MB")
    if self.seconds > SECONDS:
      found.append(f"more than {SECONDS:.0f} s")
    return found

  def sentence(self) -> str:
    """The first line that tells what became of the input."""
    lines = [x.strip() for x in self.said.splitlines() if x.strip()]
    lines = [x for x in lines if "WARNING" not in x] or [""]
    told = [x for x in lines if "error: " in x] or lines
    return told[0].replace("|", "\\|")


def made(
  cases: Callable[[pathlib.Path], Iterator[Case]], folder: pathlib.Path
) -> list[Case]:
  """The cases of a kind, their inputs written.

  In a process of its own, too: whatever this one takes its forks begin with.
  """
  place = folder / "cases.pickle"

  def work() -> None:
    place.write_bytes(pickle.dumps(list(cases(folder))))

  ended = _forked(work, folder)
  if ended.code:
    raise RuntimeError(ended.said)
  return pickle.loads(place.read_bytes())


def run(case: Case, folder: pathlib.Path) -> Outcome:
  """Runs a case in a folder, in a process that is forked from this one."""
  return _forked(lambda: COMMANDS[case.command](case.argv), folder)


def baseline(folder: pathlib.Path) -> float:
  """MB that a process takes which does nothing."""
  return _forked(lambda: 0, folder).peak


def _forked(work: Callable[[], int | None], folder: pathlib.Path) -> Outcome:
  sys.stdout.flush()
  sys.stderr.flush()
  log, begun = folder / "said.txt", time.monotonic()
  pid = os.fork()
  if not pid:
    _be(work, folder, log)
  end = begun + _PATIENCE
  while not (ended := os.wait4(pid, os.WNOHANG))[0]:
    time.sleep(0.005)
    if time.monotonic() > end:
      os.kill(pid, signal.SIGKILL)
      ended = os.wait4(pid, 0)
      break
  _, status, used = ended
  said = log.read_bytes().decode("utf-8", "replace")
  log.unlink()
  return Outcome(
    code=os.waitstatus_to_exitcode(status),
    said=said.replace(str(folder), "DIR"),
    seconds=used.ru_utime + used.ru_stime,
    wall=time.monotonic() - begun,
    peak=used.ru_maxrss / 1024,
  )


def _be(
  work: Callable[[], int | None], folder: pathlib.Path, log: pathlib.Path
) -> None:
  """The process itself; never returns."""
  code = 1
  try:
    with log.open("w") as file:
      os.dup2(file.fileno(), 1)
      os.dup2(file.fileno(), 2)
    os.chdir(folder)
    # A plugin for GPUs that finds none says so with a stack trace of its own.
    logging.getLogger("jax._src.xla_bridge").setLevel(logging.CRITICAL)
    # Neither the caches nor the files of whoever runs this.
    os.environ.update(EMMA_CACHE=str(folder / "cache"), JAX_PLATFORMS="cpu")
    code = work() or 0
  except SystemExit as error:
    code = error.code if isinstance(error.code, int) else 1
  except BaseException:
    traceback.print_exc()
  finally:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
