"""Tar archives of strangers: looked through before anything is taken from them.

Python's tarfile ends without a word at a damaged header or a second archive,
and never looks at a compressed archive's checksum. Here headers are all read
first, by their checksums, and compressed data to the end, where theirs stands.
"""

import bz2
from collections.abc import Iterator
import contextlib
import functools
import gzip
import lzma
import os
import tarfile
from typing import IO, Any, NamedTuple
import zlib

from emma_jax.data.ingest import limits

_COMPRESSED: dict[bytes, Any] = {
  b"\x1f\x8b": gzip.open,
  b"BZh": bz2.open,
  b"\xfd7zXZ\0": lzma.open,
}
_BLOCK = 2**20
# A header that is itself a file: long names and the like.
_MAX_EXTENDED = 2**20
_EXTENDED = (
  tarfile.XHDTYPE,
  tarfile.XGLTYPE,
  tarfile.SOLARIS_XHDTYPE,
  tarfile.GNUTYPE_LONGNAME,
  tarfile.GNUTYPE_LONGLINK,
)
_tarfile: Any = tarfile  # the types of its headers' errors are not public
_DAMAGE = (tarfile.TarError, OSError, EOFError, zlib.error, lzma.LZMAError)


class Member(NamedTuple):
  """A file in an archive."""

  name: str
  start: int  # of its bytes, in the archive that is not compressed
  size: int
  sparse: bool


class Found(NamedTuple):
  """What an archive holds.

  Args:
    members: files that are whole.
    damage: what is wrong, "" where nothing is.
    compressed: by gzip, bzip2 or xz.
    size: bytes that were read, decompressed.
  """

  members: list[Member]
  damage: str
  compressed: bool
  size: int


@contextlib.contextmanager
def opened(path: str) -> Iterator[IO[bytes]]:
  """The archive, decompressed as it is read."""
  with open(path, "rb") as file:
    opener = _opener(file)
    if opener is None:
      yield file
    else:
      with opener(file) as inner:
        yield inner


def copy(source: IO[bytes], target: IO[bytes]) -> None:
  """All bytes of one file to another."""
  source.seek(0)
  while block := source.read(_BLOCK):
    target.write(block)


def scan(path: str) -> Found:
  """Reads every header, and a compressed archive to its end.

  Where a checksum is wrong that is of all, none of the members can be relied
  on, and none is given. Files of a Mac that only describe others (`._a.jpg`,
  `__MACOSX/`) are passed over, and so is what is no file. Raises OSError where
  it cannot be opened.
  """
  state = os.stat(path)
  return _scan(path, state.st_size, state.st_mtime_ns)


@functools.lru_cache(maxsize=2)  # once to find the format, once for the rows
def _scan(path: str, size: int, time: int) -> Found:
  del time  # of the key alone
  with open(path, "rb") as file:
    opener = _opener(file)
    if opener is None:
      members, damage = _members(file, "r:")
      return Found(members, damage, False, size)
    with opener(file) as inner:
      counted = _Counted(inner, file)
      members, damage = _members(counted, "r|")
      with contextlib.suppress(*_DAMAGE, limits.Bomb):
        while counted.read(_BLOCK):
          pass  # to the checksum
    failed = counted.failed
    if failed is not None:
      damage = _words(failed)
      # Cut short: what stands before is sound. Else nobody knows what is, but
      # bzip2 checks each block before it gives it.
      if not isinstance(failed, EOFError) and opener is not bz2.open:
        members = []
    return Found(members, damage, True, counted.at)


def _opener(file: IO[bytes]) -> Any:
  head = file.read(6)
  file.seek(0)
  for magic, opener in _COMPRESSED.items():
    if head.startswith(magic):
      return opener
  return None


def _words(error: BaseException) -> str:
  if isinstance(error, limits.Bomb):
    return str(error)
  if isinstance(error, EOFError):
    return "the archive breaks off: its compressed data end too early"
  return (
    f"the archive is damaged: {error}; none of what no checksum confirms is "
    "used. Get it anew"
  )


def _members(file: Any, mode: Any) -> tuple[list[Member], str]:
  """(files that are whole, damage)."""
  members: list[Member] = []
  places: dict[str, Member] = {}
  try:
    with _Tar.open(
      fileobj=file, mode=mode, tarinfo=_Info, bufsize=_BLOCK
    ) as tar:
      assert isinstance(tar, _Tar)
      for member in tar:
        tar.members = []  # type: ignore[attr-defined]  # else all are kept
        if member.islnk() and member.linkname in places:
          found = places[member.linkname]._replace(name=member.name)
        elif member.isfile():
          found = Member(
            member.name, member.offset_data, member.size, member.issparse()
          )
        else:
          continue
        places[member.name] = found
        if not _of_a_mac(member.name):
          members.append(found)
      return members, tar.damage or _behind(file, tar.offset)
  except limits.Bomb as error:
    return [], str(error)
  except _DAMAGE as error:
    if not places:
      return [], f"no tar: {error}"
    # The last one was announced and did not come.
    last = list(places.values())[-1]
    whole = [m for m in members if m.start + m.size < last.start + last.size]
    return whole, f"the archive breaks off here: {error}"


def _behind(file: Any, end: int) -> str:
  """What stands behind the end mark: zeros fill the last record."""
  extra = 0
  try:
    file.seek(end)
    while block := file.read(_BLOCK):
      extra += len(block.strip(b"\0"))
  except (*_DAMAGE, limits.Bomb):
    return ""  # said by the caller
  if not extra:
    return ""
  return (
    f"{extra:,} bytes behind the end of the archive are not read: another "
    "archive, perhaps. Join archives by tar -A"
  )


def _of_a_mac(name: str) -> bool:
  folder, base = os.path.split(name)
  return base.startswith("._") or "__MACOSX" in folder.split("/")


class _Counted:
  """Bytes as they are decompressed, no more than so many times of the file."""

  def __init__(self, file: Any, stored: IO[bytes]):
    self._file, self._stored = file, stored
    self._last = b""  # the reader above has a buffer of its own
    self._again = b""
    self.at = 0
    self.failed: BaseException | None = None

  def read(self, count: int) -> bytes:
    """Raises Bomb where it expands too much, and what the format raises."""
    if self._again:
      data, self._again = self._again, b""
      return data
    try:
      # What stands before damage is given before it is met.
      data = self._file.read1(count)
    except _DAMAGE as error:
      self.failed = self.failed or error
      raise
    self.at += len(data)
    if data:
      self._last = (self._last + data)[-2 * _BLOCK :]
    if self.at > limits.FREE + limits.RATIO * self._stored.tell():
      self.failed = limits.Bomb(
        f"the archive expands to more than {limits.RATIO} times its size: a "
        "bomb"
      )
      raise self.failed
    return data

  def seek(self, place: int) -> None:
    """Back by a block or two."""
    start = self.at - len(self._last)
    self._again = self._last[place - start :] if place >= start else b""


class _Info(tarfile.TarInfo):
  """A header that says where the archive is damaged."""

  @classmethod
  def fromtarfile(cls, tarfile_):
    try:
      found = super().fromtarfile(tarfile_)
      if found.size < 0:
        raise _tarfile.InvalidHeaderError("a negative size")
      return found
    except _tarfile.EOFHeaderError:
      raise  # the end mark
    except tarfile.HeaderError as error:
      tarfile_.damage = (
        f"the archive breaks off at byte {tarfile_.offset:,}: {error}; what "
        "stands behind it is lost"
      )
      raise

  def _proc_member(self, tarfile_):
    if self.type in _EXTENDED and self.size > _MAX_EXTENDED:
      raise limits.Bomb(
        f"a header of {self.size:,} bytes; {_MAX_EXTENDED:,} are read"
      )
    return super()._proc_member(tarfile_)  # type: ignore[misc]


class _Tar(tarfile.TarFile):
  damage = ""
