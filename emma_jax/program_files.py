"""Executables as files: read only if they are whole, and nobody else's.

A file is a magic line, a SHA-256 and a pickle of (key, executable). A pickle
can do anything to whoever reads it, so one is opened only where nobody but its
reader, or root, could have put it: folder and file are theirs, nobody else may
write them, and what is checked is what is read, no link to it.
"""

import contextlib
import hashlib
import os
import pathlib
import pickle
import stat
from typing import Any

from emma_jax import files

MAGIC = b"emma_jax program 1\n"
# Of all executables; those that were used last stay.
_MOST_BYTES = 2**29


def make(folder: pathlib.Path) -> bool:
  """A folder to keep them in; False where there can be none of one's own."""
  try:
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    about = folder.stat()
    if hasattr(os, "getuid") and about.st_uid == os.getuid():
      if about.st_mode & 0o022:  # the umask of a machine of friends
        folder.chmod(about.st_mode & 0o755)
      return True
    return _is_own(about)
  except OSError:
    return False


def path(folder: pathlib.Path, key: str) -> pathlib.Path:
  """Of a key's file; the key's first line is its function's name."""
  name = key.partition("\n")[0].rpartition(".")[2]
  return folder / f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:32]}"


def read(folder: pathlib.Path, key: str) -> Any:
  """The executable of a key; None where it is not there, whole and ours."""
  from jax.experimental import serialize_executable

  file = path(folder, key)
  try:
    if not _is_own(folder.stat()):
      return None
    content = _content(file)
    magic, digest = content[: len(MAGIC)], content[len(MAGIC) :][:32]
    body = content[len(MAGIC) + 32 :]
    if magic != MAGIC or digest != hashlib.sha256(body).digest():
      return None
    stored, program = pickle.loads(body)
    if stored != key:
      return None
    with contextlib.suppress(OSError):  # root's, or on a disk to read only
      os.utime(file)  # it was used
    return serialize_executable.deserialize_and_load(*program)
  except Exception:  # whatever it is: compiling it anew is right
    return None


def _content(file: pathlib.Path) -> bytes:
  """Of a regular file of our own; OSError for another."""
  flags = (
    os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
  )
  # Never waits for the other end of a pipe.
  descriptor = os.open(file, flags | getattr(os, "O_NONBLOCK", 0))
  with open(descriptor, "rb") as opened:
    about = os.fstat(descriptor)
    if not stat.S_ISREG(about.st_mode) or not _is_own(about):
      raise PermissionError(f"{file} is another user's, or no file.")
    return opened.read()


def _is_own(about: os.stat_result) -> bool:
  """Whether only this user, or root, can have written it."""
  if not hasattr(os, "getuid"):  # Windows keeps folders of users apart
    return True
  return about.st_uid in (os.getuid(), 0) and not about.st_mode & 0o022


def write(folder: pathlib.Path, key: str, program: Any) -> None:
  """Keeps an executable, if its backend lets it and the disk too."""
  from jax.experimental import serialize_executable

  try:
    if not make(folder):
      return
    body = pickle.dumps((key, serialize_executable.serialize(program)))
    with files.atomic_write(path(folder, key), shared=True) as file:
      if hasattr(os, "fchmod"):
        os.fchmod(file.fileno(), 0o644)  # whatever the umask
      file.write(MAGIC + hashlib.sha256(body).digest() + body)
    make_room(folder)
  except Exception:  # the result is there; the next start compiles again
    return


def forget(folder: pathlib.Path, key: str) -> None:
  """Removes the file of a key, if that can be."""
  with contextlib.suppress(OSError):
    path(folder, key).unlink(missing_ok=True)


def make_room(folder: pathlib.Path) -> None:
  """Lets those go that were used longest ago; others may do it meanwhile."""
  found = []
  for file in folder.iterdir():
    with contextlib.suppress(OSError):
      about = file.lstat()
      if stat.S_ISREG(about.st_mode):
        found.append((about.st_mtime, about.st_size, file))
  total = sum(size for _, size, _ in found)
  for _, size, file in sorted(found, key=lambda one: one[0]):
    if total <= _MOST_BYTES:
      return
    with contextlib.suppress(OSError):
      file.unlink(missing_ok=True)
      total -= size
