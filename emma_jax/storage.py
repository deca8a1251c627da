"""What disks, network folders and buckets refuse, in words; and how much fits.

Errors of the system and of TensorStore, which tells of them in texts such as
"RESOURCE_EXHAUSTED: ... No space left on device [os_error_code='28']", become a
cause: what is the matter, with which file, and whether it may pass by itself.
"""

from collections.abc import Iterator
import dataclasses
import errno
import logging
import os
import pathlib
import re
import shutil
import sys
from typing import Any

from emma_jax.exits import Exit


class StorageError(Exception):
  """What had to be written could not be: a full, read-only or failing disk."""

  exit_code = Exit.STORAGE


class Vanished(Exception):
  """A folder lacks what is known to have been in it: a disk that is gone."""

  exit_code = Exit.MISSING


# What is the matter, by the system's number of it.
_WORDS = {
  errno.ENOSPC: "no space is left on the disk",
  errno.EDQUOT: "the quota of this user or folder is used up",
  errno.EFBIG: "the file is larger than the limit (ulimit -f, or the disk's)",
  errno.EROFS: "the disk is read-only",
  errno.EACCES: "it may not be written (permission denied)",
  errno.EPERM: "it may not be written (operation not permitted)",
  errno.EIO: "the disk failed (input/output error)",
  errno.ESTALE: "the network folder is stale (ESTALE)",
  errno.ENOTCONN: "the mounted folder is not connected",
  errno.ENODEV: "the disk is gone (no such device)",
  errno.ENXIO: "the disk is gone (no such device or address)",
  errno.ETIMEDOUT: "the storage did not answer in time",
  errno.EHOSTDOWN: "the host of the network folder is down",
  errno.EHOSTUNREACH: "the host of the network folder is not reached",
  errno.ENETDOWN: "the network is down",
  errno.ENETUNREACH: "the network is not reached",
  errno.ECONNRESET: "the storage closed the connection",
  errno.ECONNREFUSED: "the storage refused the connection",
  errno.EBUSY: "the storage is busy",
  errno.EAGAIN: "the storage is busy (try again)",
  errno.EMFILE: "too many files are open (ulimit -n)",
  errno.ENFILE: "too many files are open in the system",
  errno.ENOENT: "it is not there",
  errno.ENOTDIR: "a file stands where a folder belongs",
  errno.EEXIST: "a file stands where a folder belongs",
  errno.ENAMETOOLONG: "its name is too long for this disk",
}
# Those that may pass by themselves: what is tried again soon.
_PASSING = frozenset(
  {
    *(errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT),
    *(errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENETUNREACH),
    *(errno.ECONNRESET, errno.ECONNREFUSED, errno.EBUSY, errno.EAGAIN),
  }
)
# That a file is not there, or may not be read, is more often a mistake in what
# was asked for than a disk that fails.
_OF_DISKS = frozenset(_WORDS) - {
  *(errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR, errno.EEXIST),
  *(errno.EAGAIN, errno.ECONNRESET, errno.ECONNREFUSED, errno.ENAMETOOLONG),
  *(errno.EMFILE, errno.ENFILE, errno.ETIMEDOUT, errno.EBUSY),
  *(errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENETUNREACH),
}
# TensorStore's (absl's) words where it gives no number of the system: what
# they mean, and whether it may pass. Buckets answer with these.
_STATUS = {
  "RESOURCE_EXHAUSTED": ("its space or its rate of requests is used up", True),
  "UNAVAILABLE": ("the storage is not available", True),
  "DEADLINE_EXCEEDED": ("the storage did not answer in time", True),
  "ABORTED": ("the storage broke the request off", True),
  "INTERNAL": ("the storage failed", True),
  "PERMISSION_DENIED": ("it may not be written (permission denied)", False),
  "UNAUTHENTICATED": ("the credentials are not accepted", False),
  "NOT_FOUND": ("it is not there", False),
  "FAILED_PRECONDITION": ("another process changed it meanwhile", False),
  "DATA_LOSS": ("what is stored is damaged", False),
}


@dataclasses.dataclass(frozen=True)
class Cause:
  """Why something could not be written or read.

  words: what is the matter, without the path.
  path: of the file or folder; "" where the error names none.
  passing: it may pass by itself, so that trying again has a point.
  """

  words: str
  path: str
  passing: bool

  def __str__(self) -> str:
    return f"{self.words} ({self.path})" if self.path else self.words


def cause(error: BaseException) -> Cause | None:
  """What an error says of storage; None where it is of another kind.

  >>> cause(OSError(28, "No space left on device", "/a/b"))
  Cause(words='no space is left on the disk', path='/a/b', passing=False)
  >>> cause(ValueError('UNAVAILABLE: Error writing "gs://b/x": HTTP 503')).words
  'the storage is not available (HTTP 503)'
  >>> cause(ValueError("no such key")) is None
  True
  """
  for one in _chain(error):
    if isinstance(one, OSError) and one.errno in _WORDS:
      path = one.filename if one.filename2 is None else one.filename2
      return Cause(
        _WORDS[one.errno],
        os.fsdecode(path) if isinstance(path, str | bytes) else "",
        one.errno in _PASSING,
      )
    found = _of_text(str(one))
    if found is not None:
      return found
  return None


def is_of_disks(error: OSError) -> bool:
  """Whether the disk fails, rather than what was asked of it."""
  return error.errno in _OF_DISKS


def _chain(error: BaseException) -> Iterator[BaseException]:
  """An error, those it is made of, and what it came from."""
  waiting, seen = [error], set()
  while waiting:
    one = waiting.pop(0)
    if id(one) in seen:
      continue
    seen.add(id(one))
    yield one
    if isinstance(one, BaseExceptionGroup):
      waiting += one.exceptions
    waiting += [x for x in (one.__cause__, one.__context__) if x is not None]


def _of_text(text: str) -> Cause | None:
  """Of TensorStore's texts: its word, file and number of the system's error."""
  status = re.search(rf"\b({'|'.join(_STATUS)})\b", text)
  number = re.search(r"os_error_code='(\d+)'|OS error (\d+):", text)
  http = re.search(r"HTTP[^0-9]{0,24}(\d{3})", text)
  paths = re.findall(r'"((?:/|\w+://)[^"]+)"', text)
  waits = re.search("barrier", text, re.IGNORECASE)  # of processes that save
  # JAX uses the same words: of memory, of its compiler.
  if not number and not (status and (http or paths or waits)):
    return None
  words, passing = _STATUS[status[1]] if status else ("", True)
  if number:
    code = int(number[1] or number[2])
    words = _WORDS.get(code, os.strerror(code).lower())
    passing = code in _PASSING
  if http:
    words = f"{words} (HTTP {http[1]})"
    passing = http[1][0] == "5" or http[1] in ("408", "429")
  path = paths[-1].removesuffix(".__lock") if paths else ""
  return Cause(words, path, passing)


def in_words(error: BaseException) -> str:
  """An error in one line: the cause if it is of storage, else its own first
  line without where in a program's source it arose.

  >>> in_words(ValueError('DATA_LOSS: in "/a/b" [source locations=a.cc:7]'))
  'what is stored is damaged (/a/b)'
  >>> in_words(ValueError("odd thing"))
  'ValueError: odd thing'
  """
  found = cause(error)
  if found is not None:
    return str(found)
  lines = str(error).strip().split("\n")
  text = re.sub(r"\s*\[source locations=.*?(\]|$)", "", lines[0])
  return f"{type(error).__name__}: {text[:200]}"


def failed(what: str, error: BaseException, path: object) -> StorageError:
  """The error to raise where `what` failed at `path`."""
  found = cause(error)
  words = f"{path}: {found.words if found else in_words(error)}"
  if found and not str(path).startswith(found.path):
    words += f" ({found.path})"
  return StorageError(f"{what} failed: {words}.")


def free_bytes(path: str | os.PathLike) -> int | None:
  """What the disk of a path, which need not be there, has left.

  None where the system does not say, as of some mounted buckets.
  """
  place = pathlib.Path(path).absolute()
  while not place.exists() and place != place.parent:
    place = place.parent
  try:
    usage = shutil.disk_usage(place)
  except OSError:
    return None
  return usage.free if usage.total > 0 else None


def size(number: float) -> str:
  """Bytes as people read them.

  >>> size(64_000), size(3_210_000_000), size(7)
  ('64 KB', '3.21 GB', '7 bytes')
  """
  for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("KB", 1e3)):
    if number >= factor:
      return f"{number / factor:.3g} {unit}"
  return f"{number:.0f} bytes"


def quiet_logs(quiet: bool = True) -> None:
  """Leaves out what Orbax and asyncio log of failing storage, a stack for each
  of many threads: who waits for them says it in a line. All else is logged as
  ever. For the rest of the process: some of it comes at its very end.
  """
  for name in ("absl", "asyncio"):
    logger = logging.getLogger(name)
    logger.removeFilter(_no_storage)
    if quiet:
      logger.addFilter(_no_storage)
  if quiet and sys.unraisablehook is not _no_late_answers:
    _former[:], sys.unraisablehook = [sys.unraisablehook], _no_late_answers
  elif not quiet and sys.unraisablehook is _no_late_answers:
    sys.unraisablehook = _former.pop()


_former: list[Any] = []  # the hook that all else goes to


def _no_storage(record: logging.LogRecord) -> bool:
  error = record.exc_info[1] if record.exc_info else None
  return error is None or cause(error) is None


def _no_late_answers(raised: Any) -> None:
  """TensorStore's threads raise for every write that ends after the first
  failed one, as nobody waits for it any more; Python would print a stack."""
  error = raised.exc_value
  if not (isinstance(error, RuntimeError) and "loop is closed" in str(error)):
    _former[0](raised)
