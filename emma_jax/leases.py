"""The file that says who is at work in a folder, and leases made of it."""

import contextlib
import dataclasses
import json
import os
import pathlib
import socket
import threading
import time

from emma_jax import files

LEASE = 60.0  # seconds without a beat that a starter waits for
_SETTLE = 2.0  # seconds after which of two starters the later one is seen


@dataclasses.dataclass(frozen=True, kw_only=True)
class Record:
  """What the file holds, as JSON.

  kind: "file" or "lease".
  host, pid, work, since: for people.
  machine: the kernel's boot and the space of process ids that `pid` is of.
  started: when that process began, in ticks since the boot.
  token: of one holding.
  seconds: that a lease lasts without a beat.
  beat: of a lease, counted up.
  """

  kind: str = "file"
  host: str = "?"
  machine: str = ""
  pid: int = 0
  started: int = 0
  token: str = ""
  work: str = "another process"
  since: str = "?"
  seconds: float = LEASE
  beat: int = 0

  def as_bytes(self) -> bytes:
    """The file's content, which `parse` reads."""
    return (json.dumps(dataclasses.asdict(self)) + "\n").encode()


class Taken(Exception):
  """Another process has the lease."""

  def __init__(self, record: Record):
    super().__init__(record.host)
    self.record = record


def parse(text: bytes) -> Record | None:
  """The record of a file's content; None where there is none."""
  try:
    return Record(**json.loads(text))
  except (ValueError, TypeError):
    return None


def read(path: pathlib.Path) -> Record | None:
  """The record of a file; None where there is none.

  Raises:
    OSError: the file system does not answer.
  """
  try:
    return parse(path.read_bytes())
  except (FileNotFoundError, NotADirectoryError):
    return None


def host() -> str:
  """This machine's name, for people."""
  return socket.gethostname()


def machine() -> str:
  """What process ids are of: this boot of this kernel, and its space of them.

  Two containers of one name, or a machine before and after it was switched
  off, are different.
  """
  try:
    boot = pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot}/{os.stat('/proc/self/ns/pid').st_ino}"
  except OSError:
    return socket.gethostname()  # not Linux


def start_of(pid: int) -> int:
  """When a process of this machine began, in ticks; 0 where unknown."""
  try:
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2]
    return int(fields.split()[19])
  except (OSError, IndexError, ValueError):
    return 0


def has_ended(record: Record) -> bool:
  """Whether the holder is known to have ended: a process of this machine."""
  if record.machine != machine():
    return False
  try:
    os.kill(record.pid, 0)
  except ProcessLookupError:
    return True
  except PermissionError:
    pass
  # Ids are used again.
  return bool(record.started) and start_of(record.pid) != record.started


def clock() -> float:
  """Seconds that never go back, those in which the machine slept included."""
  try:
    return time.clock_gettime(time.CLOCK_BOOTTIME)
  except AttributeError:  # not Linux
    return time.monotonic()


def watch(path: pathlib.Path, first: Record, seconds: float) -> bool | None:
  """Whether a lease beats within `seconds`; None: it was given back."""
  end = clock() + seconds
  while clock() < end:
    time.sleep(min(1.0, seconds / 20))
    with contextlib.suppress(OSError):
      now = read(path)
      if now is None:
        return None
      if (now.token, now.beat) != (first.token, first.beat):
        return True
  return False


class Lease:
  """A lease that is held, and kept by a thread until `release`."""

  def __init__(self, path: pathlib.Path, record: Record):
    """Takes it, once nobody else has it.

    Raises:
      Taken: another process holds it, or took it at the same moment.
      OSError: the file cannot be written.
    """
    self._path, self._record = path, record
    self._taken: Record | None = None
    self._mutex = threading.Lock()
    self._end = threading.Event()
    self._wait_for_the_former()
    self._write()
    # Whoever wrote last has it. Later ones have seen ours.
    time.sleep(min(_SETTLE, record.seconds / 4))
    now = read(path)
    if now is None or now.token != record.token:
      raise Taken(now or Record())
    self._seen = clock()
    self._thread = threading.Thread(
      target=self._keep, name="lease of a folder", daemon=True
    )
    self._thread.start()

  def _wait_for_the_former(self) -> None:
    found = read(self._path)
    if found is None or has_ended(found):
      return
    if found.machine == machine():
      raise Taken(found)  # a living process of ours
    longest = 1.25 * max(found.seconds, self._record.seconds)
    print(
      f"{self._path} names process {found.pid} on {found.host}: watching for "
      f"up to {longest:.0f} s whether it is alive.",
      flush=True,
    )
    if watch(self._path, found, longest):
      raise Taken(read(self._path) or found)

  def taken(self) -> Record | None:
    """Who has taken it from us; None as long as it is ours.

    Reads the file only where the thread that keeps it is late.
    """
    if self._taken is None and clock() - self._seen > self._record.seconds / 2:
      with contextlib.suppress(OSError):  # what is written next says so
        self._look()
    return self._taken

  def _look(self) -> bool:
    """Whether the file is still ours."""
    now = read(self._path)
    if now is not None and now.token != self._record.token:
      self._taken = now
      return False
    self._seen = clock()
    return True

  def _keep(self) -> None:
    while not self._end.wait(self._record.seconds / 6):
      with contextlib.suppress(OSError), self._mutex:
        if self._end.is_set() or not self._look():
          return
        self._record = dataclasses.replace(
          self._record, beat=self._record.beat + 1
        )
        self._write()

  def _write(self) -> None:
    with files.atomic_write(self._path, shared=True) as file:
      file.write(self._record.as_bytes())

  def release(self) -> None:
    """Ends the beats and removes the file, unless another has taken it."""
    self._end.set()
    with contextlib.suppress(OSError), self._mutex:
      if self._look():
        self._path.unlink(missing_ok=True)
