"""Processes of this machine: who ends with whom, and what they leave.

First those that read data for a trainer, then groups of processes, such as a
trainer with its readers.
"""

import contextlib
import ctypes
import glob
import multiprocessing
from multiprocessing import connection, shared_memory, util
import os
import pathlib
import re
import secrets
import shlex
import signal
import sys
import threading
import time
from typing import Any

# Names what a trainer's workers share; of the supervisor, or the trainer.
_VARIABLE = "_EMMA_SHARED_MEMORY"
_FOLDER = "/dev/shm"  # where Linux shows it


class DataWorkerDied(RuntimeError):
  """A process that read ahead was ended from outside."""


def peak_memory() -> int:
  """High-water mark of this process's resident memory, bytes.

  Of its own program alone where the system tells: `getrusage` counts who
  started it, too, until it became another program.
  """
  try:
    status = pathlib.Path("/proc/self/status").read_text()
  except OSError:  # not Linux
    import resource  # which not every system has

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
  (line,) = (x for x in status.splitlines() if x.startswith("VmHWM"))
  return int(line.split()[1]) * 1024


def explained(error: RuntimeError, step: int) -> RuntimeError:
  """Grain's error for a lost process as one that says what to do; others stay.

  >>> explained(RuntimeError("Worker process was terminated unexpectedly with "
  ...     "exit code -9"), 7)
  DataWorkerDied('A data worker was killed (exit code -9, perhaps for want of
  memory or of /dev/shm) before batch 7 was read. Nothing is lost: start again
  from the last checkpoint, with fewer data.workers or a smaller
  data.prefetch_batches if it happens again.')
  """
  found = re.search(r"terminated unexpectedly.*?(-?\d+)", str(error))
  if not found:
    return error
  return DataWorkerDied(
    f"A data worker was killed (exit code {found[1]}, perhaps for want of "
    f"memory or of /dev/shm) before batch {step} was read. Nothing is lost: "
    "start again from the last checkpoint, with fewer data.workers or a "
    "smaller data.prefetch_batches if it happens again."
  )


def end_with_parent() -> None:
  """Call in a worker. A parent killed with -9 cannot stop its workers, which
  would live for ever and hold its shared memory: they watch it."""
  threading.Thread(target=_follow_parent, daemon=True).start()


def _follow_parent() -> None:
  parent = multiprocessing.parent_process()
  if parent is not None:
    connection.wait([parent.sentinel])
    if _VARIABLE in os.environ and sys.platform == "linux":
      # Nobody is left to read it. Another program in place of this one: what
      # this one's other threads would still share is swept too.
      blocks = shlex.quote(_FOLDER + _prefix(os.environ[_VARIABLE]))
      os.execv("/bin/sh", ["sh", "-c", f"rm -f {blocks}*; exit 1"])
    os._exit(1)


def token() -> str:
  """A new name for the shared memory of one trainer."""
  return secrets.token_hex(4)


def named(environment: dict[str, str], name: str) -> dict[str, str]:
  """The environment of a trainer whose shared memory `sweep(name)` finds."""
  return environment | {_VARIABLE: name}


def share() -> None:
  """Call before workers are started: what they share is swept at the end."""
  if _VARIABLE not in os.environ:
    os.environ[_VARIABLE] = token()
    # Below zero: after multiprocessing has ended this process's workers. At
    # `atexit` they would still be sharing.
    util.Finalize(None, sweep, (os.environ[_VARIABLE],), exitpriority=-1)


def stop_signals() -> tuple[signal.Signals, ...]:
  """What asks a process to stop: Ctrl-C, SIGTERM, and a terminal or connection
  that is closed (SIGHUP), unless that is ignored, as nohup has it."""
  hung_up = getattr(signal, "SIGHUP", None)
  if hung_up is None or signal.getsignal(hung_up) == signal.SIG_IGN:
    return signal.SIGINT, signal.SIGTERM
  return signal.SIGINT, signal.SIGTERM, hung_up


def begin() -> None:
  """Call first in a worker.

  Python's resource tracker unlinks what was registered with it; a process that
  is killed between making a block and registering it leaves the block for ever.
  Under a known name it is found.
  """
  end_with_parent()
  if sys.platform == "linux" and _VARIABLE in os.environ:
    # No public way; the shorter default is for systems other than Linux.
    private: Any = shared_memory
    private._SHM_NAME_PREFIX = _prefix(os.environ[_VARIABLE])
    private._SHM_SAFE_NAME_LENGTH = 30


def _prefix(name: str) -> str:
  """Of the blocks of one trainer."""
  return f"/emma_{name}_"


def sweep(name: str) -> None:
  """Unlinks what is left of a trainer and its workers, which have ended."""
  for path in glob.glob(_FOLDER + glob.escape(_prefix(name)) + "*"):
    with contextlib.suppress(OSError):  # the tracker was faster
      os.unlink(path)


# ----------------------------------------------------------------- groups


def stop_with_parent() -> None:
  """Call in a child before it becomes another program (`preexec_fn`): the
  kernel (Linux) sends it SIGTERM when its parent dies."""
  if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def end_group(leader: int, patience: float = 5.0) -> None:
  """Kills what is left of a session, and lets it clean up shared memory.

  `leader` is its first process, `patience` in seconds that clean-up may take.
  Python's resource tracker unlinks the shared memory of its parents once they
  are all gone; so it is the last one to be killed.
  """
  members = _members(leader)
  for pid in members:
    if not _is_tracker(pid):
      _kill(pid)
  end = time.monotonic() + patience
  while any(map(_is_tracker, _members(leader))) and time.monotonic() < end:
    time.sleep(0.02)
  # Where nothing is left, there is nothing to do.
  with contextlib.suppress(ProcessLookupError, PermissionError):
    os.killpg(leader, signal.SIGKILL)


def _members(leader: int) -> list[int]:
  """Living processes of a session; only the leader where /proc is missing."""
  found = []
  for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
    try:
      # pid (name) state parent group session ...; names may hold anything.
      fields = stat.read_text().rpartition(")")[2].split()
    except OSError:
      continue  # ended meanwhile
    if int(fields[3]) == leader and fields[0] != "Z":
      found.append(int(stat.parent.name))
  return found


def _is_tracker(pid: int) -> bool:
  try:
    words = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
  except OSError:
    return False
  return b"resource_tracker" in words


def _kill(pid: int) -> None:
  with contextlib.suppress(ProcessLookupError):
    os.kill(pid, signal.SIGKILL)


def signal_of(code: int) -> str:
  """The signal that an exit code stands for, to be put behind it; or "".

  >>> signal_of(-9), signal_of(2)
  (' (SIGKILL)', '')
  """
  return f" ({signal.Signals(-code).name})" if code < 0 else ""
