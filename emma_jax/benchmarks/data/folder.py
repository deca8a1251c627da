"""The folder of test sets: what is there, what is missing, where to get it.

`DIR/<name>/` holds what its user downloaded, under its own names; the first
shape that fits is taken. `DIR` may also be VLMEvalKit's LMUData, whose files
lie side by side.

A folder with a file rehearsal.json holds made-up items in these shapes: its
sets are never complete, and numbers of them are partial, in no comparison.
"""

from collections.abc import Sequence
import dataclasses
import functools
import glob
import hashlib
import importlib.resources
import os
import re
from typing import Any, Literal

from emma_jax.benchmarks.data import (
  columns,
  extras,
  hub_rows,
  prompts,
  sets,
  tsv_rows,
  wise_rows,
)
from emma_jax.benchmarks.items import BadItem, Item, Missing

OWN = "items.jsonl"
# What a value of another kind than was published makes of reading it.
_ODD = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
REHEARSAL = "rehearsal.json"
PACKAGE = "package:"
Status = Literal[
  "complete", "incomplete", "missing", "damaged", "unknown", "rehearsal"
]


def located(path: str) -> str:
  """A path; of "package:smoke/files", where that is installed.

  What follows PACKAGE is in `emma_jax.benchmarks`, whose files configs can name
  so.
  """
  if not path.startswith(PACKAGE):
    return path
  root = importlib.resources.files("emma_jax.benchmarks")
  return str(root.joinpath(path.removeprefix(PACKAGE)))


def is_rehearsal(folder: str) -> bool:
  """Whether a folder says that its items are made up."""
  return os.path.exists(os.path.join(folder, REHEARSAL))


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Source:
  """A split of a set, opened.

  Args:
    name, split: of the set.
    format: tsv, parquet, arrow, lines or repository.
    files: it is read from.
    items: by number.
    rehearsal: they are made up.
  """

  name: str
  split: str
  format: str
  files: tuple[str, ...]
  items: Sequence[Item] | Any
  rehearsal: bool = False

  def __len__(self) -> int:
    return len(self.items)

  def __getitem__(self, index: int) -> Item:
    """Raises BadItem for a row that is no item, whatever it lacks."""
    if not -len(self) <= index < len(self):
      raise IndexError(index)  # the end, for whoever goes through all
    try:
      item = self.items[index]
      if not (isinstance(item.id, str) and isinstance(item.group, str)):
        raise TypeError(f"the id {item.id!r} is no text")
      return item
    except BadItem:
      raise
    except _ODD as error:
      raise BadItem(
        f"{', '.join(self.files)}: item {index} is not as {self.name} has them "
        f"({type(error).__name__}: {error}). The row is damaged, or of another "
        "revision; mend it or download the data again."
      ) from error

  @functools.cached_property
  def groups(self) -> dict[str, str]:
    """Each item's id -> its group, in order; goes through all items once.

    Raises:
      BadItem: a row that is no item; two items of one id.
    """
    found: dict[str, str] = {}
    for i in range(len(self)):
      item = self[i]
      if item.id in found:
        raise BadItem(
          f"Two items of {self.name} have the id {item.id!r}; every row needs "
          "its own. Mend or download the data again."
        )
      found[item.id] = item.group
    return found


def open_set(folder: str, name: str, split: str = "") -> Source:
  """The set as it lies in `folder`.

  Raises:
    ValueError: no set or split of that name.
    Missing: none of the shapes is there.
    BadItem: the file is damaged, or of another set.
  """
  found, split = sets.find(name, split)
  own = os.path.join(folder, name)
  for attempt in (_tsv, _hub, _repository, _lines):
    source = attempt(folder, own, found, split)
    if source is not None:
      return dataclasses.replace(source, rehearsal=is_rehearsal(folder))
  raise Missing(
    f"{found.title} ({split}) is not in {own}: {remedy(found, split)}"
  )


def remedy(found: sets.TestSet, split: str) -> str:
  """What to download for a split, and in which shapes it is read."""
  of = found.splits[split]
  ways = []
  for name, sums in of.tsv.items():
    known = f" (md5 {', '.join(x + '...' for x in sums)})" if sums else ""
    ways.append(f"VLMEvalKit's {name}.tsv{known}")
  if found.hub and of.hub:
    config = f", config {of.config}" if of.config else ""
    old = f", once {', '.join(found.hub[1:])}" if found.hub[1:] else ""
    ways.append(f"a snapshot of {found.hub[0]}{config}{old}")
  if found.files:
    ways.append("its repository's " + " or ".join(found.files))
  ways.append(f"{OWN} of your own")
  return f"give {'; or '.join(ways)}. Licence of the data: {found.licence}."


def _tsv(
  folder: str, own: str, found: sets.TestSet, split: str
) -> Source | None:
  for name in found.splits[split].tsv:
    for place in (own, folder):
      path = os.path.join(place, f"{name}.tsv")
      if os.path.exists(path):
        part = split if found.name == "mmmu" else ""
        items = tsv_rows.TsvRows(path, found.name, part)
        return _source(found, split, "tsv", (path,), items)
  return None


def _hub(
  folder: str, own: str, found: sets.TestSet, split: str
) -> Source | None:
  del folder
  if found.name not in hub_rows.HUB_SETS or not found.splits[split].hub:
    return None
  for suffix in ("parquet", "arrow"):
    paths = _shards(own, found, split, suffix)
    if paths:
      items = hub_rows.HubRows(columns.Columns(paths), found.name, split)
      return _source(found, split, suffix, tuple(paths), items)
  return None


def _shards(
  own: str, found: sets.TestSet, split: str, suffix: str
) -> list[str]:
  """A split's files in a snapshot, of no other split and no other config.

  Folders and file names say which they are of: "DocVQA/validation-0-of-4",
  "validation/0000"; a file that names no split is of the one there is.
  """
  pattern = os.path.join(glob.escape(own), "**", f"*.{suffix}")
  every = sorted(glob.glob(pattern, recursive=True))
  of = found.splits[split]
  words = {p: _words(os.path.relpath(p, own)) for p in every}
  configs = {
    s.config
    for other in sets.SETS.values()
    if set(other.hub) & set(found.hub)
    for s in other.splits.values()
  } - {"", of.config}
  every = [p for p in every if not words[p] & configs]
  if of.config and any(of.config in words[p] for p in every):
    every = [p for p in every if of.config in words[p]]
  if not of.split:
    return every
  mine = [p for p in every if of.split in words[p]]
  return mine or [p for p in every if not words[p] & _SPLITS]


# What snapshots call their splits.
_SPLITS = {"train", "training", "validation", "val", "dev", "test", "testmini"}


def _words(path: str) -> set[str]:
  return set(re.split(r"[^A-Za-z0-9]+", path))


_REPOSITORIES = {
  **prompts.PROMPT_SETS,
  **extras.EXTRA_SETS,
  **wise_rows.WISE_SETS,
}


def _repository(
  folder: str, own: str, found: sets.TestSet, split: str
) -> Source | None:
  del folder
  if found.name not in _REPOSITORIES:
    return None
  read, patterns = _REPOSITORIES[found.name]
  place = glob.escape(own)
  files = [
    p for x in patterns for p in sorted(glob.glob(os.path.join(place, x)))
  ]
  if not files:
    return None
  try:
    items = read(own, split)
  except Missing:  # of this split; there may be lines of one's own
    return None
  return _source(found, split, "repository", tuple(files), items)


def _lines(
  folder: str, own: str, found: sets.TestSet, split: str
) -> Source | None:
  del folder
  path = os.path.join(own, OWN)
  if not os.path.exists(path):
    return None
  return _source(found, split, "lines", (path,), prompts.own(path))


def _source(
  found: sets.TestSet, split: str, kind: str, files: tuple[str, ...], items: Any
) -> Source:
  return Source(
    name=found.name, split=split, format=kind, files=files, items=items
  )


# --------------------------------------------------------------- inventory


@dataclasses.dataclass(frozen=True, kw_only=True)
class Entry:
  """What is there of a split.

  `status` is unknown where the file's md5 sum is none that is known, or the
  number of rows is not; rehearsal where the items are made up.
  """

  name: str
  split: str
  status: Status
  rows: int
  expected: int
  format: str
  files: tuple[str, ...]
  md5: str
  licence: str
  advice: str


def inventory(folder: str, wanted: Sequence[tuple[str, str]]) -> list[Entry]:
  """Of each (set, split): all problems, each with what helps."""
  return [inspect(folder, name, split)[0] for name, split in wanted]


def inspect(folder: str, name: str, split: str) -> tuple[Entry, Source | None]:
  """What is there of a split, and it, opened; None where it cannot be."""
  found, split = sets.find(name, split)
  expected = found.splits[split].rows
  base: dict[str, Any] = dict(
    name=name, split=split, expected=expected, licence=found.licence
  )
  try:
    source = open_set(folder, name, split)
  except (BadItem, OSError, ImportError) as error:
    entry = Entry(
      **base,
      status="missing" if isinstance(error, Missing) else "damaged",
      rows=0,
      format="",
      files=(),
      md5="",
      advice=str(error),
    )
    return entry, None
  md5, advice = "", ""
  status: Status = "complete"
  if source.format == "tsv":
    (path,) = source.files
    md5 = _md5(path)
    known = found.splits[split].tsv[os.path.splitext(os.path.basename(path))[0]]
    if not any(md5.startswith(x) for x in known):
      status = "unknown"
      advice = (
        f"{path} has the md5 sum {md5}, none that is known"
        + (f" ({', '.join(known)})" if known else "")
        + ": another revision. Numbers of it name this sum."
      )
  if source.rehearsal:
    status = "rehearsal"
    advice = "Made up, for a rehearsal: scores of it mean nothing."
  elif expected and len(source) < expected:
    status = "incomplete"
    advice = f"{len(source):,} rows of {expected:,}; {remedy(found, split)}"
  elif expected and len(source) > expected and not advice:
    status = "unknown"
    advice = f"{len(source):,} rows instead of {expected:,}: another revision."
  elif not expected and status == "complete":
    status, advice = (
      "unknown",
      "How many rows it should have is not known here.",
    )
  entry = Entry(
    **base,
    status=status,
    rows=len(source),
    format=source.format,
    files=source.files,
    md5=md5,
    advice=advice,
  )
  return entry, source


def _md5(path: str) -> str:
  with open(path, "rb") as file:
    return hashlib.file_digest(file, "md5").hexdigest()
