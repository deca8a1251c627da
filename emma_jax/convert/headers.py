"""What stands before weights: JSON files, and the headers of safetensors.

All of it comes from other people and may be anything: nothing is allocated by
what a header claims before it agrees with the size of the file.

A safetensors file is eight bytes with the length of a JSON header, the header
(name -> dtype, shape, first and last byte), then the tensors without gaps.
"""

from collections.abc import Iterable
import math
import pathlib
from typing import Any, NamedTuple

import jax.numpy as jnp

from emma_jax.files import instead, parse_json

# numpy knows bfloat16 through jax only.
DTYPES = {
  code: jnp.dtype(name)
  for code, name in (
    ("F64", "float64"),
    ("F32", "float32"),
    ("F16", "float16"),
    ("BF16", "bfloat16"),
    ("I64", "int64"),
    ("I32", "int32"),
    ("I16", "int16"),
    ("I8", "int8"),
    ("U64", "uint64"),
    ("U32", "uint32"),
    ("U16", "uint16"),
    ("U8", "uint8"),
    ("BOOL", "bool"),
  )
}
_HEADER_LIMIT = 100_000_000  # what the format allows
_JSON_LIMIT = 100_000_000  # an index of millions of tensors
_SHOWN = 8


class FolderError(ValueError):
  """A folder that is not a readable Hugging Face model folder."""


class Stored(NamedTuple):
  """Where a tensor lies."""

  file: pathlib.Path
  dtype: str  # numpy's name, such as "bfloat16"
  shape: tuple[int, ...]
  start: int  # first byte, counted from the beginning of the file


def some(items: Iterable) -> str:
  """The first few of a list, and how many more there are."""
  names = [str(i) for i in items]
  more = len(names) - _SHOWN
  shown = ", ".join(names[:_SHOWN]) or "none"
  return shown + (f" and {more} more" if more > 0 else "")


# ---------------------------------------------------------------------- JSON


def read_json(path: pathlib.Path) -> dict[str, Any]:
  """The object in a JSON file of UTF-8.

  Raises:
    FolderError: there is none.
  """
  try:
    if not path.exists() and not path.is_symlink():
      raise FolderError(
        f"{path} is missing; give the folder that holds it, or get it again."
      )
    if not path.is_file():  # a folder, a pipe, or a link to nothing
      raise ValueError("it is no file")
    size = path.stat().st_size
    if size > _JSON_LIMIT:
      raise ValueError(f"it has {size:,} bytes, more than {_JSON_LIMIT:,}")
    content = parse_json(path.read_bytes().decode("utf-8"))
  except FolderError:
    raise
  except UnicodeDecodeError as error:
    raise FolderError(
      f"{path} is not readable JSON (not UTF-8: {error}); save it as UTF-8,"
      " or get it again."
    ) from error
  except (OSError, ValueError) as error:
    found = instead(path)
    raise FolderError(
      f"{path} is not readable JSON: {found}."
      if found
      else f"{path} is not readable JSON ({error}); get it again."
    ) from error
  if not isinstance(content, dict):
    raise FolderError(f"{path} holds no JSON object; get it again.")
  return content


# --------------------------------------------------------------- safetensors


def read_header(path: pathlib.Path) -> dict[str, Stored]:
  """The tensors of one safetensors file, in the order they lie in.

  Raises:
    FolderError: it is cut off, is no such file, contradicts itself, or stores
      tensors in a form that is not read.
  """
  try:
    if not path.is_file():  # a folder, a pipe, or a link to nothing
      raise ValueError("it is no file")
    size = path.stat().st_size
    with open(path, "rb") as file:
      length = int.from_bytes(file.read(8), "little")
      if not 2 <= length <= min(_HEADER_LIMIT, size - 8):
        raise ValueError(f"a header of {length} bytes in a file of {size}")
      header = parse_json(file.read(length).decode("utf-8"))
    if not isinstance(header, dict):
      raise ValueError("its header is no JSON object")
    header.pop("__metadata__", None)
    entries = [_entry(name, entry) for name, entry in header.items()]
    tensors, end = {}, 0
    for start, stop, name, code, shape in sorted(entries, key=lambda e: e[:2]):
      dtype = _dtype(path, name, code)
      if (start, stop) != (end, end + math.prod(shape) * dtype.itemsize):
        raise ValueError(
          f"{name}, {dtype} {shape}, cannot be bytes {start} to {stop}"
        )
      tensors[name] = Stored(path, dtype.name, shape, 8 + length + start)
      end = stop
    if size != 8 + length + end:
      raise ValueError(f"{size} bytes where there must be {8 + length + end}")
  except FolderError:
    raise
  except (OSError, ValueError) as error:
    found = instead(path)
    raise FolderError(
      f"{path} is not a whole safetensors file: {found}."
      if found
      else f"{path} is not a whole safetensors file: {error}. Get it again (a"
      " download that was cut short looks so)."
    ) from error
  return tensors


def _entry(name: str, entry: Any) -> tuple[int, int, str, str, tuple]:
  """(first byte, last, name, dtype, shape); raises ValueError."""
  whole = lambda x: type(x) is int and 0 <= x < 1 << 62
  if not isinstance(entry, dict):
    raise ValueError(f"{name} is described by no object")
  span, shape = entry.get("data_offsets"), entry.get("shape")
  if not isinstance(entry.get("dtype"), str):
    raise ValueError(f"{name} has no dtype")
  if not isinstance(shape, list) or not all(map(whole, shape)):
    raise ValueError(f"{name} has the shape {str(shape)[:80]}")
  if not isinstance(span, list) or len(span) != 2 or not all(map(whole, span)):
    raise ValueError(f"{name} lies at {str(span)[:80]}")
  return span[0], span[1], name, entry["dtype"], tuple(shape)


def _dtype(path: pathlib.Path, name: str, code: str) -> Any:
  if code in DTYPES:
    return DTYPES[code]
  if code.startswith(("F8", "F6", "F4")):
    what = (
      f"{code[1]}-bit floating point, which means nothing without its scales"
      f" (an fp{code[1]} checkpoint)"
    )
  else:
    what = f"and only {', '.join(DTYPES)} are read"
  raise FolderError(
    f"{path}: {name} is stored as {code[:20]}, {what}; get the release in"
    " bfloat16, or dequantise it and save it again."
  )
