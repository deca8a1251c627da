"""Folders and zip archives as one thing: names of files, and their bytes.

What a system left there (hidden files, a Mac's `._a.png`) is passed over; what
is no plain file (a link to a folder, an encrypted member) is told by name.
"""

import functools
import lzma
import os
import posixpath
import struct
import tempfile
from typing import Any, Protocol
import unicodedata
import zipfile
import zlib

from emma_jax.data.ingest import limits, suffixes
from emma_jax.data.pictures.encoded import Outside, missing, path_of
from emma_jax.data.pictures.images import MAX_BYTES, BadRecord

_BLOCK = 2**20
_LINK = 0o120000  # of a zip's member: the upper half of its attributes
# A method that Python lacks is a RuntimeError.
_DAMAGE = (
  *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error),
  *(EOFError, OSError, RuntimeError, ValueError),
)


class Tree(Protocol):
  """Files below a folder, by their names with "/" between folders."""

  path: str
  names: tuple[str, ...]  # sorted
  refused: tuple[tuple[str, str], ...]  # (name, why it is not read)

  def read(self, name: str, most: int) -> bytes:
    """A file's bytes; BadRecord where there are more, or it is damaged."""
    ...

  def file(self, name: str) -> str:
    """A file on the disk with this content; ValueError."""
    ...


def opened(path: str) -> Tree:
  """Of a folder or a zip; OSError or ValueError where it does not open."""
  state = os.stat(path)
  return _opened(path, state.st_mtime_ns, state.st_size, os.getpid())


# A process has its own: a file's position is shared with those it forks.
@functools.lru_cache(maxsize=8)
def _opened(path: str, time: int, size: int, process: int) -> Tree:
  del time, size, process
  return Folder(path) if os.path.isdir(path) else Zip(path)


class Folder:
  """A folder; links to files within it are followed, to folders never."""

  def __init__(self, path: str):
    self.path = path
    names: list[str] = []
    refused: list[tuple[str, str]] = []

    def unread(error: OSError) -> None:
      name = os.path.relpath(str(error.filename), path)
      refused.append((name, f"a folder that cannot be read: {error.strerror}"))

    for folder, inner, files in os.walk(path, onerror=unread):
      inside = os.path.relpath(folder, path)
      of = functools.partial(_joined, inside)
      inner[:] = sorted(n for n in inner if not suffixes.is_of_system(n))
      refused += [
        (of(name), "a link to a folder, which is not followed; name it itself")
        for name in inner
        if os.path.islink(os.path.join(folder, name))
      ]
      names += [of(n) for n in files if not suffixes.is_of_system(n)]
    self.names, self.refused = tuple(sorted(names)), tuple(refused)

  def read(self, name: str, most: int) -> bytes:
    """Its bytes, see Tree."""
    where = os.path.join(self.path, name)
    with open(path_of(name, "file", where, self.path, False), "rb") as file:
      data = file.read(most + 1)
    if len(data) > most:
      raise BadRecord(where, limits.too_long(os.path.getsize(where)))
    return data

  def file(self, name: str) -> str:
    """Itself."""
    return os.path.join(self.path, name)


def _joined(folder: str, name: str) -> str:
  return posixpath.normpath(posixpath.join(folder, name))


class Zip:
  """A zip archive; nothing of it is written, but for a table at a time."""

  def __init__(self, path: str):
    self.path = path
    try:
      self._file = zipfile.ZipFile(path)
    except (FileNotFoundError, PermissionError):
      raise
    except _DAMAGE as error:
      raise ValueError(
        f"{path} is no zip archive, or damaged: {error}."
      ) from error
    self._members: dict[str, zipfile.ZipInfo] = {}
    refused = []
    for member in self._file.infolist():
      name = member.filename.replace("\\", "/")  # of old archivers of Windows
      if name.endswith("/") or suffixes.is_of_system(name):
        continue
      why = _refused(member, name)
      if why:
        refused.append((name, why))
      elif name in self._members:
        refused.append((name, "a name that is there twice; the first is read"))
      else:
        self._members[name] = member
    self.names, self.refused = tuple(sorted(self._members)), tuple(refused)
    self._on_disk: dict[str, tempfile._TemporaryFileWrapper[bytes]] = {}

  def read(self, name: str, most: int) -> bytes:
    """Its bytes, see Tree."""
    where = f"{self.path}/{name}"
    size = self._members[name].file_size
    if size > most:
      raise BadRecord(where, limits.too_long(size))
    try:
      with self._file.open(self._members[name]) as file:
        return file.read(most + 1)  # to its checksum
    except _DAMAGE as error:
      raise BadRecord(where, f"damaged in the archive: {error}") from error

  def file(self, name: str) -> str:
    """A copy of a member, which goes with the process."""
    if name not in self._on_disk:
      member = self._members[name]
      most = limits.FREE + limits.RATIO * member.compress_size
      if member.file_size > most:
        raise ValueError(
          f"{self.path}/{name} would expand to {member.file_size:,} bytes, "
          f"more than the {most:,} that {member.compress_size:,} may."
        )
      out = tempfile.NamedTemporaryFile(  # noqa: SIM115  # kept open
        suffix=f"-{posixpath.basename(name)}"
      )
      try:
        with self._file.open(member) as file:
          while block := file.read(_BLOCK):
            out.write(block)
      except _DAMAGE as error:
        raise ValueError(f"{self.path}/{name} is damaged: {error}.") from error
      out.flush()
      self._on_disk[name] = out
    return self._on_disk[name].name


def picture(
  path: str, folder: str, value: object, key: str, where: str
) -> object:
  """What a row of a zip names as a picture: its bytes; others as they are.

  `folder`: of the archive, where the row's paths begin. Raises BadRecord.
  """
  if isinstance(value, dict) and value.get("bytes") is None:
    value = value.get("path")
  if not isinstance(value, str) or not value:
    return value
  name = posixpath.normpath(posixpath.join(folder, value.replace("\\", "/")))
  if name.startswith(("../", "/")) or name == "..":
    raise Outside(where, f"{key}: {value!r} is outside of {path}")
  tree: Any = opened(path)  # hashed by what it is, not by content
  names = _by_form(tree)
  # Two names that look the same are told apart by their bytes.
  found = name if name in tree.names else names.get(composed(name))
  if found is None:
    raise BadRecord(where, f"{missing(key, value)} in {path}")
  return tree.read(found, MAX_BYTES)


def composed(name: str) -> str:
  """A name with each letter and its accent as one: a Mac writes them apart."""
  return unicodedata.normalize("NFC", name)


@functools.lru_cache(maxsize=8)
def _by_form(tree: Any) -> dict[str, str]:
  return {composed(name): name for name in tree.names}


def _refused(member: zipfile.ZipInfo, name: str) -> str:
  """Why a member is not read; "" where it is."""
  if member.flag_bits & 1:
    return "encrypted; make the archive without a password"
  if member.external_attr >> 16 & 0o170000 == _LINK:
    return "a link; make the archive of the files themselves (zip -r)"
  if posixpath.isabs(name) or ".." in name.split("/"):
    return "a name that is no path within the archive"
  return ""
