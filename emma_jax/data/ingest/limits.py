"""How much of a stranger's file may be in memory, whatever it claims.

Containers ask before they read, by decompressed sizes, and read a row at a
time; what all workers hold together is the matter of `budget`.
"""

from collections.abc import Iterator
import os
from typing import IO, Any

from emma_jax import files
from emma_jax.data.pictures import stand_ins
from emma_jax.data.pictures.bad_record import MAX_BYTES

# Decompressed bytes of a row with all its pictures.
ROW = MAX_BYTES
# A text: a line of JSON, a member of an archive. As Python's objects it may
# take twenty times as much.
TEXT = 16 * 2**20
# Members of an archive that are one row.
MEMBERS = 1000
# An archive that expands more than so many times, once it has given more than
# FREE bytes, is a bomb: pictures hardly shrink, texts ten times.
RATIO, FREE = 50, 64 * 2**20
# Of a text in another encoding: in the wrong one it would become other words.
ICONV = "iconv -f ENCODING -t UTF-8, of its own encoding: LATIN1, GB18030, ..."


class Bomb(ValueError):
  """An input that would take more memory or time than its size tells."""


def row_bytes(row: Any) -> int:
  """Of texts and pictures in a row; other values count as nothing.

  >>> row_bytes({"image": {"bytes": b"12"}, "texts": ["345"], "n": 6})
  5
  """
  if isinstance(row, dict):
    return sum(map(row_bytes, row.values()))
  if isinstance(row, (list, tuple)):
    return sum(map(row_bytes, row))
  if isinstance(row, (bytes, bytearray, memoryview, str)):
    return len(row)
  return getattr(row, "nbytes", 0)


def lines(
  file: IO[bytes], stop: int | None = None
) -> Iterator[tuple[int, bytes | None]]:
  """(bytes of the file, the line) of each; None for one above TEXT.

  `file`: at a line's begin. `stop`: bytes to read, in whole lines.
  """
  at = 0
  while stop is None or at < stop:
    line: bytes | None = file.readline(TEXT + 1)
    if not line:
      return
    size = len(line)
    if size > TEXT and not line.endswith(b"\n"):
      line = None
      while more := file.readline(2**20):
        size += len(more)
        if more.endswith(b"\n"):
          break
    at += size
    yield size, line


def too_long(size: int) -> str:
  """Why a text of so many bytes is not read."""
  return (
    f"a text of {size:,} bytes is above the {TEXT:,} that are read; a row "
    "names its pictures, or they stand in a tar or Parquet"
  )


def check_encoding(path: str, by_lines: bool) -> None:
  """Raises ValueError for a text file that is not UTF-8 with LF or CRLF."""
  with open(path, "rb") as file:
    head = file.read(2**16)
  if head.startswith((b"\xff\xfe", b"\xfe\xff")) or (
    head[:2].strip(b"\0") in (b"[", b"{") and b"\0" in head[:4]
  ):
    raise ValueError(
      f"{path} is UTF-16 or UTF-32; save it as UTF-8 (iconv -t UTF-8)."
    )
  if by_lines and b"\n" not in head and b"\r" in head.strip():
    raise ValueError(
      f"{path} ends its lines in CR alone; make that LF (tr '\\r' '\\n')."
    )


def check_stand_in(path: str) -> None:
  """ValueError for what was downloaded in a file's place, and is not it."""
  if not os.path.isfile(path):
    return  # who opens it says so
  with open(path, "rb") as file:
    head = file.read(files.HEAD)
  # An archive without files is zeros.
  instead = stand_ins.told(head) if head.strip(b"\0") else ""
  if instead:
    raise ValueError(f"{path} is {instead}.")
