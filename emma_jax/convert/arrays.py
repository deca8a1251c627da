"""Arrays of an .npz file: what is in it is known before any of it is read.

A file may come from anywhere. `numpy.load` takes a text for a pickle and
advises to run it, gives the bytes of what is no array, and makes room for
whatever shape is claimed.
"""

from collections.abc import Iterator, Mapping
import contextlib
import math
import os
import pathlib
from typing import IO
import zipfile
import zlib

import numpy as np

_END = ".npy"
_TOLD = "make it with numpy.savez(FILE, name=array, ...)"
_KINDS = "fiub"
_RATIO = 1100  # deflate makes nothing smaller than to a 1032nd


class ArraysError(ValueError):
  """A file that is no .npz of plain arrays."""


class Arrays(Mapping[str, np.ndarray]):
  """Name -> array of an .npz file, each read when it is asked for.

  Attributes:
    shapes: name -> shape, of all of them.

  Raises:
    FileNotFoundError: no such file.
    ArraysError: no .npz, damaged, or with what is no array of numbers.
  """

  def __init__(self, path: str | os.PathLike):
    self.path = pathlib.Path(path)
    if not self.path.exists():
      raise FileNotFoundError(f"{self.path} does not exist; {_TOLD}.")
    if not self.path.is_file() or not zipfile.is_zipfile(self.path):
      raise ArraysError(f"{self.path} is no .npz file; {_TOLD}.")
    self.shapes: dict[str, tuple[int, ...]] = {}
    self._dtypes: dict[str, np.dtype] = {}
    with _opened(self.path) as file:
      for info in file.infolist():
        name = info.filename.removesuffix(_END)
        if name == info.filename or name in self.shapes:
          raise ArraysError(
            f"{self.path}: {info.filename!r} is no array of its own; {_TOLD}."
          )
        if info.file_size > _RATIO * (info.compress_size + 1):
          raise ArraysError(
            f"{self.path}: {name} claims {info.file_size:,} bytes of"
            f" {info.compress_size:,} compressed ones; {_TOLD}."
          )
        with file.open(info) as member:
          self._read_header(name, member, info.file_size)

  def __getitem__(self, name: str) -> np.ndarray:
    if name not in self.shapes:
      raise KeyError(name)
    if self._dtypes[name].kind not in _KINDS:
      raise ArraysError(
        f"{self.path}: {name} is of {self._dtypes[name]}, not of numbers; dump"
        " it as float32 or as integers."
      )
    with _opened(self.path) as file, file.open(name + _END) as member:
      # There are as many bytes as the array takes: no room is made for more.
      return np.lib.format.read_array(member, allow_pickle=False)

  def __contains__(self, name: object) -> bool:
    return name in self.shapes  # without reading it, as Mapping would

  def __iter__(self) -> Iterator[str]:
    return iter(self.shapes)

  def __len__(self) -> int:
    return len(self.shapes)

  def _read_header(self, name: str, member: IO[bytes], size: int) -> None:
    """Keeps what a member claims, once its length agrees."""
    version = np.lib.format.read_magic(member)
    if version != (1, 0):  # later ones have headers of any length
      raise ValueError(f"{name} has the .npy version {version}")
    shape, _, dtype = np.lib.format.read_array_header_1_0(member)
    length = member.tell() + math.prod(shape) * dtype.itemsize
    if dtype.kind in _KINDS and length != size:
      raise ValueError(f"{name} has {size} bytes, which {shape} does not take")
    self.shapes[name], self._dtypes[name] = shape, dtype


@contextlib.contextmanager
def _opened(path: pathlib.Path) -> Iterator[zipfile.ZipFile]:
  """A zip file; what is wrong with it is an ArraysError."""
  # What zipfile, zlib and numpy raise of damage, and of encrypted members.
  damage = (OSError, ValueError, EOFError, RuntimeError, zlib.error)
  try:
    with zipfile.ZipFile(path) as file:
      yield file
  except ArraysError:
    raise
  except (*damage, zipfile.BadZipFile) as error:
    reason = str(error).split("\n")[0][:200] or type(error).__name__
    raise ArraysError(
      f"{path} is no sound .npz file: {reason}. Copy it again, or {_TOLD}."
    ) from error
