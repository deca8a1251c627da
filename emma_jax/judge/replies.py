"""Replies that were paid for, kept on disk by hash.

A reply is a JSON file in a folder, whole or not there, on the disk before it is
used: a run that was killed finds it again.
"""

from collections.abc import Iterator, Mapping
import contextlib
import fcntl
import json
import os
import threading
from typing import Any
import weakref

from emma_jax import files

_GUARD = threading.Lock()
_LOCKS: weakref.WeakValueDictionary[str, threading.Lock] = (
  weakref.WeakValueDictionary()
)


def path_of(folder: str, key: str) -> str:
  """Where the reply of a key is, or will be."""
  return os.path.join(folder, key[:2], f"{key}.json")


def read(folder: str, key: str) -> dict[str, Any] | None:
  """The reply of a key; None where there is none."""
  path = path_of(folder, key)
  if not os.path.exists(path):
    return None
  with open(path, encoding="utf-8") as file:
    return json.load(file)


def keep(folder: str, key: str, reply: Mapping[str, Any]) -> None:
  """Writes a reply; it is on the disk when this returns."""
  # Two processes may ask the same at once.
  with files.atomic_write(path_of(folder, key), "w", shared=True) as file:
    json.dump(reply, file)


def lock_of(key: str) -> threading.Lock:
  """One lock a key, so that two threads do not both pay for one reply."""
  with _GUARD:
    return _LOCKS.setdefault(key, threading.Lock())


@contextlib.contextmanager
def alone(folder: str, key: str) -> Iterator[None]:
  """One thread of one process of this machine at a time is in, for a key.

  On file systems without locks: one thread of each process.
  """
  path = f"{path_of(folder, key)}.lock"
  os.makedirs(os.path.dirname(path), exist_ok=True)
  with lock_of(f"{folder}\n{key}"):
    file = _locked(path)
    try:
      yield
    finally:
      if file >= 0:
        # While it is held: who waits for it sees that it is gone.
        with contextlib.suppress(OSError):
          os.unlink(path)
        os.close(file)


def _locked(path: str) -> int:
  """A descriptor that holds the lock of a file, which is made; -1: none."""
  while True:
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
      fcntl.flock(file, fcntl.LOCK_EX)
    except OSError:
      os.close(file)
      return -1
    with contextlib.suppress(FileNotFoundError):
      if os.path.samestat(os.fstat(file), os.stat(path)):
        return file
    os.close(file)  # its holder has taken it away: another may be there
