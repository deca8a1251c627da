"""Tests in a forked process, which has the libraries imported already.

Importing JAX, Flax, Optax, Orbax and Grain takes longer than many a test. The
parent imports them, but nothing of this repository, and starts no backend.
"""

import contextlib
import dataclasses
import importlib
import json
import os
from pathlib import Path
import signal
import sys
import time
import traceback

# As tests/conftest.py has them, which comes too late for what is imported here.
ENVIRONMENT = {
  "JAX_PLATFORMS": "cpu",
  "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.3",
  "JAX_NUMPY_RANK_PROMOTION": "raise",
}
LIBRARIES = (
  "numpy",
  "jax",
  "jax.numpy",
  "flax.linen",
  "optax",
  "orbax.checkpoint",
  "grain.python",
  "ml_collections",
  "PIL.Image",
  "pytest",
)
PATIENCE = 6  # by the clock a process may take so many times its limit
_OURS = ("tests", "emma_jax", "configs")


def prepare(cache: Path) -> None:
  """Imports the libraries; JAX keeps compiled programs in `cache`."""
  os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache))
  for name, value in ENVIRONMENT.items():
    os.environ.setdefault(name, value)
  for name in LIBRARIES:
    importlib.import_module(name)


@dataclasses.dataclass
class Run:
  """A process that runs tests; `poll` says when it has ended.

  `seconds` and `limit` are of processor time, so that a busy machine changes
  no verdict; a process that waits for ever is ended as well, by the clock.
  """

  pid: int
  started: float
  limit: float
  note: Path
  log: Path
  outcome: str = ""
  by: str = ""
  seconds: float = 0.0

  def poll(self) -> bool:
    """Whether it has ended; kills it behind its limit."""
    pid, status, used = os.wait4(self.pid, os.WNOHANG)
    if pid:
      self.seconds = used.ru_utime + used.ru_stime
      end_group(self.pid)  # what it started
      self._judge(status)
      return True
    self.seconds = processor_time(self.pid)
    waited = time.monotonic() - self.started
    if self.seconds < self.limit and waited < PATIENCE * self.limit:
      return False
    self.end()
    self.outcome = "timeout"
    return True

  def end(self) -> None:
    """Kills it and waits for it."""
    end_group(self.pid)
    os.waitpid(self.pid, 0)

  def _judge(self, status: int) -> None:
    note = json.loads(self.note.read_text()) if self.note.exists() else {}
    code = os.waitstatus_to_exitcode(status)
    self.by = note.get("failed", "")
    if code in (0, 5):  # 5: nothing was collected, or all was skipped
      self.outcome = "survived"
    elif self.by:
      self.outcome = "killed"
    elif code < 0:
      self.outcome, self.by = "killed", f"{signal.Signals(-code).name}"
    else:
      self.outcome, self.by = "error", f"exit code {code}; see {self.log}"


def processor_time(pid: int) -> float:
  """Seconds of a process and of those it has waited for; Linux alone."""
  try:
    # pid (name) state ...; names may hold anything.
    text = Path(f"/proc/{pid}/stat").read_text()
  except OSError:
    return 0.0
  ticks = text.rpartition(")")[2].split()[11:15]
  return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")


def end_group(pid: int) -> None:
  with contextlib.suppress(ProcessLookupError, PermissionError):
    os.killpg(pid, signal.SIGKILL)  # unless nothing is left of it


def start(
  tree: Path, tests: list[str], limit: float, note: Path, log: Path
) -> Run:
  """Begins to run test files of a tree, up to the first failure."""
  note.unlink(missing_ok=True)
  sys.stdout.flush()
  sys.stderr.flush()
  pid = os.fork()
  if not pid:
    try:
      os.setsid()
      signal.signal(signal.SIGTERM, signal.SIG_DFL)  # not the parent's
      code = _run(tree, tests, note, log)
    except BaseException:
      traceback.print_exc()
      code = 3
    os._exit(code)
  return Run(pid, time.monotonic(), limit, note, log)


def _run(tree: Path, tests: list[str], note: Path, log: Path) -> int:
  """In the child: pytest as by `python -m pytest -x` from the tree's root."""
  out = os.open(log, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o644)
  os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
  os.dup2(out, 1)
  os.dup2(out, 2)
  os.chdir(tree)
  for name in [n for n in sys.modules if n.partition(".")[0] in _OURS]:
    del sys.modules[name]
  here = str(Path(__file__).resolve().parent.parent.parent)
  sys.path[:] = [str(tree), *(p for p in sys.path if p not in ("", here))]
  importlib.invalidate_caches()
  import pytest

  watch = _Watch(note)
  code = int(
    pytest.main(
      ["-x", "-q", "-p", "no:xdist", "-p", "no:cacheprovider", *tests],
      plugins=[watch],
    )
  )
  found = sys.modules.get("emma_jax")
  place = str(tree) if found is None else str(found.__file__)
  if not Path(place).is_relative_to(tree):
    print(f"emma_jax was imported from {place}, not from {tree}.")
    note.unlink(missing_ok=True)
    code = 4
  sys.stdout.flush()
  sys.stderr.flush()
  return code


class _Watch:
  """Notes the first test that fails, at once: the process may hang later."""

  def __init__(self, note: Path):
    self.note = note

  def _write(self, report) -> None:
    if report.failed and not self.note.exists():
      self.note.write_text(json.dumps({"failed": report.nodeid}))

  pytest_runtest_logreport = _write
  pytest_collectreport = _write
