"""Containers of rows: files (see `files`) and what is named (`sequences`).

A part is small enough to be done again after a crash and becomes one shard. Its
rows are read one after the other; what cannot be read comes as a BadRecord in
its place, and the rest goes on where the container allows it.
"""

from collections.abc import Iterator

from emma_jax.data.ingest import files, sequences
from emma_jax.data.ingest.files import Item, Part
from emma_jax.data.ingest.sequences import Options


def kind_of(path: str) -> str:
  """The kind of an input; ValueError where its name tells none."""
  head = path.partition(":")[0]
  kind = head if head in sequences.KINDS else files.kind_of(path)
  if kind is None:
    raise ValueError(
      f"{path}: the name ends in none of {sorted(files.SUFFIXES)}, and is "
      "neither tfds:NAME:SPLIT nor python:MODULE:FUNCTION nor records:DIR."
    )
  return kind


def split(path: str, rows: int, options: Options) -> list[Part]:
  """Cuts an input into parts of about `rows` rows.

  Raises OSError, ValueError or ImportError where it cannot be opened.
  """
  kind = kind_of(path)
  if kind in sequences.KINDS:
    return sequences.split(kind, path, rows, options)
  return files.split(kind, path, rows)


def read(part: Part, options: Options) -> Iterator[Item]:
  """The rows of a part, in order."""
  if part.kind in sequences.KINDS:
    yield from sequences.read(part, options)
  else:
    yield from files.read(part)
