"""Files that are there whole or not at all, also after a loss of power.

And what is said of files that are not what their names promise: see `instead`.
"""

import collections
from collections.abc import Iterator
import contextlib
import functools
import hashlib
import json
import os
import pathlib
from typing import IO, Any, Literal
import uuid

TEMPORARY = ".tmp"  # the end of a name whose file is not complete


@contextlib.contextmanager
def atomic_write(
  path: str | os.PathLike,
  mode: Literal["w", "wb", "w+b"] = "wb",
  shared: bool = False,
) -> Iterator[IO[Any]]:
  """A file to write; it appears at `path` when the block ends without an error.

  What was at `path` before stays until then, and for good if anything is
  raised. The content, and the folder that names it, are on the disk before this
  returns. Texts are UTF-8 with "\\n". The folder is made if missing.

  shared: several processes may write the file at once, each to a name of its
    own; else what a killed process left is written over.

  Halves of characters, as names that are no UTF-8 have, become escapes, which
  JSON reads back.
  """
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  own = f".{uuid.uuid4().hex}" if shared else ""
  temporary = path.with_name(f"{path.name}{own}{TEMPORARY}")
  encoding, errors, newline = None, None, None
  if "b" not in mode:
    encoding, errors, newline = "utf-8", "backslashreplace", "\n"
  try:
    with open(
      temporary, mode, encoding=encoding, errors=errors, newline=newline
    ) as file:
      yield file
    replace(temporary, path)
  except BaseException as error:
    with contextlib.suppress(OSError):
      temporary.unlink(missing_ok=True)
    if isinstance(error, OSError) and error.errno and error.filename is None:
      error.filename = str(path)  # a write does not say where
    raise


def replace(temporary: str | os.PathLike, path: str | os.PathLike) -> None:
  """Gives a complete file its name, once its content is on the disk."""
  with open(temporary, "rb+") as file:
    os.fsync(file.fileno())
  os.replace(temporary, path)
  sync_folder(pathlib.Path(path).parent)


def lines(path: str | os.PathLike) -> list[bytes]:
  """Of a file that is written line by line, each with its newline.

  Only a newline ends a line. Texts of JSON may hold what else str.splitlines
  takes for an end, such as U+2028.
  """
  with open(path, "rb") as file:
    return list(file)


def write_text(path: str | os.PathLike, text: str) -> None:
  """Writes a whole text file by `atomic_write`."""
  with atomic_write(path, "w") as file:
    file.write(text)


def sync_folder(path: str | os.PathLike) -> None:
  """Brings what was renamed in a folder to the disk."""
  try:
    folder = os.open(path, os.O_RDONLY)
  except OSError:  # a system that opens no folders
    return
  try:
    os.fsync(folder)
  except OSError:  # a file system that cannot, as some on networks
    pass
  finally:
    os.close(folder)


def sha256(path: str | os.PathLike) -> str:
  """Of a file's content; computed once as long as the file stays the same."""
  state = os.stat(path)
  return _sha256(os.path.abspath(path), state.st_size, state.st_mtime_ns)


@functools.lru_cache(maxsize=256)
def _sha256(path: str, size: int, time: int) -> str:
  del size, time  # of the key alone
  with open(path, "rb") as file:
    return hashlib.file_digest(file, "sha256").hexdigest()


# ------------------------------------------------- what comes from elsewhere

HEAD = 512  # bytes that tell what a file is


def parse_json(text: str) -> Any:
  """JSON as its standard has it, whatever Python adds to it.

  Raises:
    ValueError: no JSON, NaN or Infinity, a key twice in one object, or objects
      within objects beyond all measure.
  """

  def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) < len(pairs):
      (twice, _), *_ = collections.Counter(n for n, _ in pairs).most_common(1)
      raise ValueError(f"{twice!r} stands in it twice")
    return out

  def constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")

  try:
    return json.loads(text, object_pairs_hook=once, parse_constant=constant)
  except RecursionError:
    raise ValueError("it is nested too deeply") from None


def instead(path: str | os.PathLike) -> str:
  """What lies at a path in place of the file that was meant; "" if unknown.

  For the error of who could not read it; with what to do about it. Downloads
  leave links to what was not copied, pointers of git-lfs, pages for people
  and answers of a server, all under the name of the file.
  """
  path = pathlib.Path(path)
  if path.is_symlink() and not path.exists():
    return (
      f"it is a link to {os.readlink(path)}, which is not there; copy folders"
      " with links by `cp -rL`, or download them again"
    )
  try:
    if not path.is_file():
      return ""
    size = path.stat().st_size
    with open(path, "rb") as file:
      head = file.read(HEAD)
  except OSError:
    return ""
  if not size:
    return "it is empty; download it again"
  if found := stand_in(head):
    return f"it is {found}"
  if head.lstrip().startswith(b"<?xml"):
    return "it is a text in XML, as servers answer; download it again"
  return ""


def is_pointer(head: bytes) -> bool:
  """Whether it is Git LFS's word for a file: a text like any other."""
  return head.startswith(b"version https://git-lfs")


def stand_in(head: bytes) -> str:
  """What a download left in place of a file, and what to do; "" if unknown.

  >>> stand_in(b"version https://git-lfs.github.com/spec/v1")
  'a Git LFS pointer; `git lfs pull` in its folder gets the file'

  Args:
    head: the first `HEAD` bytes of it.
  """
  if is_pointer(head):
    return "a Git LFS pointer; `git lfs pull` in its folder gets the file"
  text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
  if text.lower().startswith((b"<!doctype", b"<html")):
    return (
      "a web page, saved in its place; log in where it is from, and get it anew"
    )
  if text.startswith((b'{"error', b"Entry not found")):
    answer = text[:200].decode("utf-8", "replace")
    return f"a server's answer, {answer!r}; get it anew"
  if head and not head.strip(b"\0"):
    return "zeros, as of a download that was not finished; get it anew"
  return ""
