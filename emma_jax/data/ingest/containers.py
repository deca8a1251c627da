"""Containers of rows: files (see `files`), folders and zips of files (see
`folders`), and what is named (`sequences`).

A part is small enough to be done again after a crash and becomes one shard. Its
rows are read one after the other; what cannot be read comes as a BadRecord in
its place, and the rest goes on where the container allows it.
"""

from collections.abc import Iterator
import dataclasses
import os
import posixpath
from typing import Any

from emma_jax.data.ingest import files, folders, limits, sequences, trees
from emma_jax.data.ingest.files import Item, Part
from emma_jax.data.ingest.sequences import Options
from emma_jax.data.pictures.images import BadRecord

# Of a part whose rows are the pictures that an imagefolder's tables lack.
WITHOUT_ROW = "(no row)"
# What the row of a zip's table says: the folder where its paths begin.
FOLDER = "__folder__"
_TREES = ("folder", "zip")


def kind_of(path: str) -> str:
  """The kind of an input; ValueError where its name tells none."""
  head = path.partition(":")[0]
  if head not in sequences.KINDS and os.path.isdir(path):
    return "folder"  # whatever its name ends in
  kind = head if head in sequences.KINDS else files.kind_of(path)
  if kind is None:
    raise ValueError(
      f"{path}: the name ends in none of {sorted(files.SUFFIXES)}, and is "
      "neither a folder nor tfds:NAME:SPLIT nor python:MODULE:FUNCTION nor "
      "records:DIR."
    )
  return kind


def split(path: str, rows: int, options: Options) -> list[Part]:
  """Cuts an input into parts of about `rows` rows.

  Raises OSError, ValueError or ImportError where it cannot be opened.
  """
  kind = kind_of(path)
  if kind in sequences.KINDS:
    return sequences.split(kind, path, rows, options)
  if kind == "zip":
    limits.check_stand_in(path)
  if kind in _TREES:
    return list(_split_tree(kind, path, rows))
  return files.split(kind, path, rows)


def read(part: Part, options: Options) -> Iterator[Item]:
  """The rows of a part, in order."""
  if part.kind in sequences.KINDS:
    yield from sequences.read(part, options)
  elif part.member == WITHOUT_ROW:
    yield from _without_row(part)
  elif part.member:
    yield from _member_rows(part)
  elif part.kind in _TREES:
    yield from folders.read(part.path, part.start, part.stop)
  else:
    yield from files.read(part)


def _split_tree(kind: str, path: str, count: int) -> Iterator[Part]:
  """Of a folder or a zip: its tables' parts, and those of all other rows."""
  found, tree = folders.look(path), trees.opened(path)
  for name in found.tables:
    table = _kind_of_table(tree.path, name)
    if kind == "folder":
      yield from files.split(table, tree.file(name), count)
      continue
    copy = tree.file(name)
    try:
      parts = files.split(table, copy, count)
    except ValueError as error:
      raise ValueError(str(error).replace(copy, f"{path}/{name}")) from error
    for part in parts:
      yield dataclasses.replace(part, path=path, member=name)
  for start in range(0, len(found), count):
    stop = min(start + count, len(found))
    yield Part(
      kind=kind,
      path=path,
      start=start,
      stop=stop,
      first=start,
      rows=stop - start,
    )
  if found.tables and _of_text(found.tables):
    without = len(folders.without_row(path, _named(path)))
    if without:
      yield Part(kind=kind, path=path, rows=without, member=WITHOUT_ROW)


def _kind_of_table(path: str, name: str) -> str:
  kind = files.kind_of(name)
  if kind is None:
    raise ValueError(f"{path}/{name} is no table.")
  return kind


def _of_text(tables: tuple[str, ...]) -> bool:
  """Whether they are read in a moment; Parquet may hold the pictures."""
  return not any(name.lower().endswith(".parquet") for name in tables)


def _named(path: str) -> set[str]:
  """All that the rows of a folder's or zip's tables name, as its members.

  As trees.composed.
  """
  tree, found = trees.opened(path), folders.look(path)
  out: set[str] = set()
  for name in found.tables:
    kind, folder = _kind_of_table(path, name), posixpath.dirname(name)
    for part in files.split(kind, tree.file(name), 2**31):
      for _, row in files.read(part):
        if isinstance(row, dict):
          out |= {
            trees.composed(
              posixpath.normpath(
                posixpath.join(folder, value.replace("\\", "/"))
              )
            )
            for value in _texts(row)
          }
  return out


def _texts(value: Any) -> Iterator[str]:
  if isinstance(value, str):
    yield value
  elif isinstance(value, dict):
    for one in value.values():
      yield from _texts(one)
  elif isinstance(value, list):
    for one in value:
      yield from _texts(one)


def _without_row(part: Part) -> Iterator[Item]:
  for name, reason in folders.without_row(part.path, _named(part.path)):
    where = os.path.join(part.path, name)
    yield where, BadRecord(where, reason)


def _member_rows(part: Part) -> Iterator[Item]:
  """Of a table in a zip, which lies on the disk while it is read."""
  path = trees.opened(part.path).file(part.member)
  name = f"{part.path}/{part.member}"
  folder = posixpath.dirname(part.member)
  for where, row in files.read(dataclasses.replace(part, path=path, member="")):
    where = where.replace(path, name)
    if isinstance(row, BadRecord):
      yield where, BadRecord(where, row.reason.replace(path, name))
    else:
      yield where, row | {FOLDER: folder}
