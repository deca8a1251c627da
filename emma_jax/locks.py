"""One folder, one writer: a lock that ends with its holder.

`FOLDER/lock.json` says who is at work in the folder. What guards it depends on
where the folder lies:

- **On a local disk** the file is locked (flock). The system gives the lock back
  when its holder ends in whatever way, so none is ever stale.
- **Elsewhere** (NFS, Lustre, mounted buckets and other FUSE, whatever is not
  known) locks of files may not reach other machines. There the file is a
  lease: its holder counts up a beat in it every sixth of `LEASE` seconds. A
  lease is stale at once if its holder was a process of this machine that has
  ended; else if its beat did not change while a starter watched for longer than
  the lease. Only beats are compared, over the watcher's own running clock: no
  machine's time of day matters, nor one that is set back. A holder that was
  stopped for so long that another took its lease finds out by `check` before
  it writes, and ends.

EMMA_LOCK=file or lease chooses where a file system is taken for the wrong kind.
Not for Windows.
"""

from collections.abc import Iterator
import contextlib
import dataclasses
import datetime
import fcntl
import os
import pathlib
import secrets
import time
from typing import Any

from emma_jax import leases, storage
from emma_jax.exits import Exit
from emma_jax.leases import LEASE, Record

NAME = "lock.json"
# A reader that asks who holds a folder locks its file for a moment.
_PATIENCE = 1.0

# File systems whose locks are those of this machine's kernel.
_LOCAL = frozenset(
  (
    "apfs bcachefs bfs btrfs erofs exfat ext2 ext3 ext4 f2fs fuseblk hfs jfs "
    "nilfs2 ntfs3 overlay ramfs reiserfs rootfs tmpfs udf ufs vfat xfs zfs"
  ).split()
)

_held: dict[str, "FolderLock"] = {}  # by real path: of this process


class InUse(Exception):
  """Another process is at work in the folder."""

  exit_code = Exit.IN_USE


@dataclasses.dataclass(frozen=True, kw_only=True)
class Holder:
  """Who is at work in a folder.

  host, pid: the process.
  work: what it does, such as "emma-train".
  since: when it began, UTC, by its own clock.
  sure: False of a lease of another machine that was not seen to beat.
  """

  host: str
  pid: int
  work: str
  since: str
  sure: bool = True

  def __str__(self) -> str:
    return (
      f"{self.work} (process {self.pid} on {self.host}, since {self.since})"
    )


def holder(folder: str | os.PathLike, watch: float = 0.0) -> Holder | None:
  """Who is at work in a folder; None where nobody is. Changes nothing.

  watch: seconds to look for the beat of a lease of another machine, which
    makes it sure; one that did not beat for longer than it lasts is nobody's.
  """
  path = pathlib.Path(folder) / NAME
  found = _locked(path)
  if found is not None:
    return _described(found)
  record = leases.read(path)
  if record is None or record.kind != "lease" or leases.has_ended(record):
    return None
  here = record.machine == leases.machine()
  if here or watch <= 0:
    return _described(record, sure=here)
  beats = leases.watch(path, record, watch)
  if beats is None:
    return None
  if not beats and watch > record.seconds:
    return None
  return _described(leases.read(path) or record, sure=beats)


def _described(record: Record, sure: bool = True) -> Holder:
  return Holder(
    host=record.host,
    pid=record.pid,
    work=record.work,
    since=record.since,
    sure=sure,
  )


def _locked(path: pathlib.Path) -> Record | None:
  """What the file says, if a process holds its lock."""
  try:
    with open(path, "rb") as file:
      try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
      except BlockingIOError:
        return leases.parse(file.read()) or Record()
      except OSError:  # a file system without locks
        return None
  except OSError:
    return None
  return None


@contextlib.contextmanager
def hold(folder: str | os.PathLike, work: str) -> Iterator["FolderLock"]:
  """A lock of a folder while the block runs; the folder is made if missing.

  Within a process a block may hold a folder that an outer one holds.

  Args:
    folder: to be the only one at work in.
    work: what is done there, for those who come second.

  Raises:
    InUse: another process holds it; or, later by `check`, has taken it.
    StorageError: nothing can be written there.
    NotADirectoryError: a file stands in the folder's place.
  """
  key = os.path.realpath(folder)
  if key in _held:
    yield _held[key]
    return
  lock = FolderLock(pathlib.Path(folder), work)
  _held[key] = lock
  try:
    yield lock
  finally:
    _held.pop(key, None)
    lock.release()


class FolderLock:
  """A folder that is this process's alone; see `hold`."""

  def __init__(self, folder: pathlib.Path, work: str, lease: float = LEASE):
    """Takes the lock, or raises as `hold`; `lease` in seconds."""
    self.folder, self.path = folder, folder / NAME
    self._record = Record(
      kind=kind_of(folder),
      host=leases.host(),
      machine=leases.machine(),
      pid=os.getpid(),
      started=leases.start_of(os.getpid()),
      token=secrets.token_hex(8),
      work=work,
      since=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M:%S"),
      seconds=lease,
    )
    self._file: Any = None
    self._lease: leases.Lease | None = None
    try:
      folder.mkdir(parents=True, exist_ok=True)
      self._take()
    except (FileExistsError, NotADirectoryError):
      raise NotADirectoryError(
        f"{folder} is a file, or lies below one; name a folder."
      ) from None
    except OSError as error:
      what = f"Locking {folder} for {work}"
      raise storage.failed(what, error, self.path) from error

  def _take(self) -> None:
    if self._record.kind == "file":
      self._file = self._take_file()
      return
    try:
      self._lease = leases.Lease(self.path, self._record)
    except leases.Taken as taken:
      raise self._refusal(taken.record) from None

  def _take_file(self) -> Any:
    end = time.monotonic() + _PATIENCE
    while True:
      # Not inherited by programs that are started (PEP 446); in forked ones
      # `_forget` closes it.
      file = open(self.path, "a+b", buffering=0)  # noqa: SIM115
      try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
      except BlockingIOError:
        file.seek(0)
        found = leases.parse(file.read())
        file.close()
        if time.monotonic() > end:
          raise self._refusal(found or Record()) from None
        time.sleep(_PATIENCE / 20)
        continue
      if _is_at(file, self.path):
        break
      file.close()  # whoever held it has removed the file
    file.truncate(0)
    file.write(self._record.as_bytes())
    return file

  def _refusal(self, record: Record) -> InUse:
    who = _described(record)
    remedy = (
      f"stop it (kill {who.pid})"
      if record.machine == leases.machine()
      else f"stop it on {who.host}"
    )
    return InUse(
      f"{self.folder} is in use by {who}, as {self.path} says: wait for it, "
      f"{remedy}, or name another folder."
    )

  def check(self) -> None:
    """Call before writing: raises InUse where the lock is lost.

    Costs a look at the file's entry, or nothing while a lease is fresh.
    """
    if self._lease is not None:
      taken = self._lease.taken()
    elif self._file is not None and not _is_at(self._file, self.path):
      # Removed by hand. If it can be had anew nobody else is at work.
      if not self.path.parent.is_dir():
        return  # the whole folder is gone: what is written next says so
      former, self._file = self._file, self._take_file()
      former.close()
      return
    else:
      return
    if taken is not None:
      raise InUse(
        f"{self.folder} was taken over by {_described(taken)} while this "
        "process was held up; it ends without writing anything more."
      )

  def release(self) -> None:
    """Gives the folder back; does nothing the second time."""
    if self._lease is not None:
      self._lease.release()
    if self._file is not None:
      # Emptied, not removed: another may have opened it already.
      with contextlib.suppress(OSError):
        self._file.truncate(0)
      self._file.close()
    self._file = self._lease = None

  def forget(self) -> None:
    """In a forked process, which must neither hold nor empty the lock."""
    if self._file is not None:
      self._file.close()  # the parent's stays locked
    self._file = self._lease = None


def _is_at(file: Any, path: pathlib.Path) -> bool:
  try:
    return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
  except OSError:
    return False


def _forget() -> None:
  for lock in _held.values():
    lock.forget()
  _held.clear()


os.register_at_fork(after_in_child=_forget)


def kind_of(folder: str | os.PathLike) -> str:
  """ "file" for a folder on a local disk, else "lease"."""
  chosen = os.environ.get("EMMA_LOCK", "")
  if chosen:
    if chosen not in ("file", "lease"):
      raise ValueError(f"EMMA_LOCK={chosen!r}: choose file or lease.")
    return chosen
  system = file_system(os.path.realpath(folder))
  return "file" if not system or system in _LOCAL else "lease"


def file_system(path: str, table: str = "/proc/self/mountinfo") -> str:
  """The type of file system that a real path lies on, such as "nfs4".

  "" where the system has no such `table` (not Linux).
  """
  try:
    lines = pathlib.Path(table).read_text().splitlines()
  except OSError:
    return ""
  best, found = -1, ""
  for line in lines:
    before, _, after = line.partition(" - ")
    point = before.split()[4].encode().decode("unicode_escape")
    inside = path == point or path.startswith(point.rstrip("/") + "/")
    # Later ones lie over earlier ones at the same place.
    if inside and len(point) >= best:
      best, found = len(point), after.split()[0]
  return found
