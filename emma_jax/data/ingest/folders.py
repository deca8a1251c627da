"""What people have: folders, and zips of folders, of pictures with texts.

  metadata.jsonl .csv .tsv .parquet   Hugging Face's imagefolder: a row a
                                      picture, by `file_name`
  source/ target/ *.txt               edits: pictures and texts of one name; the
                                      two may stand in several folders
  a.png + a.txt, .caption, .json      pictures with their captions; the keys of
                                      a JSON object are the row's
  x.csv .tsv .jsonl .json .parquet    one table that names pictures beside it

The first of these that a folder has is what it is. A picture without a caption,
a text without a picture and two texts for one picture are rows that cannot be
used: they are told by name, like all such rows.
"""

from collections.abc import Iterator, Mapping
import dataclasses
import functools
import json
import os
import posixpath
import re
from typing import Any, NamedTuple

from emma_jax.data.ingest import layouts, limits, suffixes, tars, trees
from emma_jax.data.pictures.images import BadRecord

TABLES = ("jsonl", "ndjson", "csv", "tsv", "parquet", "json")
_METADATA = ("jsonl", "csv", "tsv", "parquet")
# Names of the folders of edits, and what may hold their instructions.
_SOURCE = ("source", "input", "control", "before")
_TARGET = ("target", "output", "edited", "after")
_TEXT = ("instruction", "instructions", "prompt", "prompts")

Item = tuple[str, dict[str, Any] | BadRecord]


class Group(NamedTuple):
  """The files of one row, by what they are: see `_COLUMNS`."""

  key: str
  files: Mapping[str, tuple[str, ...]]


@dataclasses.dataclass(frozen=True)
class Found:
  """What a folder holds: tables, or else files that go together.

  `lost` are (file, reason) that no row has.
  """

  tables: tuple[str, ...] = ()
  groups: tuple[Group, ...] = ()
  lost: tuple[tuple[str, str], ...] = ()

  def __len__(self) -> int:
    return len(self.groups) + len(self.lost)


def look(path: str) -> Found:
  """What a folder or a zip holds; ValueError where it is nothing of these."""
  tree: Any = trees.opened(path)  # hashed by what it is, not by content
  return _look(tree)


@functools.lru_cache(maxsize=8)
def _look(tree: Any) -> Found:
  root = _root(tree.names)
  names = [name for name in tree.names if name.startswith(root)]
  metadata = [n for n in names if _is_metadata(n)]
  if metadata:
    _check_metadata(tree, metadata)
    return Found(tuple(metadata), lost=tree.refused)
  groups, outside = _edits(names, root)
  lost = tuple((n, "neither in source/ nor in target/") for n in outside)
  if not groups:
    groups, lost = _captioned(names), ()
  if any(len(group.files) > 1 for group in groups):
    tops = {n.removeprefix(root).split("/")[0] for n in names if "/" in n}
    _check_splits(tree, sorted(tops))
    return Found(groups=tuple(groups), lost=(*tree.refused, *lost))
  tables = [n for n in names if suffixes.of(n) in TABLES]
  if len(tables) == 1 or (tables and len(set(map(_unnumbered, tables))) == 1):
    return Found(tuple(tables), lost=tree.refused)
  raise ValueError(layouts.nothing(tree.path, names, tables, tree.refused))


def _unnumbered(name: str) -> str:
  """The same for the shards of one set, as Hugging Face numbers them.

  >>> _unnumbered("data/train-00001-of-00002.parquet")
  'data/train.parquet'
  """
  return re.sub(r"-\d+-of-\d+(?=\.)", "", name)


def read(path: str, start: int, stop: int) -> Iterator[Item]:
  """Rows `start` to `stop` of a folder of files that go together."""
  tree, found = trees.opened(path), look(path)
  for number in range(start, stop):
    if number < len(found.groups):
      group = found.groups[number]
      where = os.path.join(path, group.key)
      try:
        yield where, _row(tree, group, where)
      except BadRecord as error:
        yield where, BadRecord(where, error.reason)
    else:
      name, reason = found.lost[number - len(found.groups)]
      where = os.path.join(path, name)
      yield where, BadRecord(where, reason)


def without_row(path: str, named: set[str]) -> tuple[tuple[str, str], ...]:
  """(picture, why) of those of an imagefolder that no row has named.

  `named`: as trees.composed.
  """
  tree, (first, *_) = trees.opened(path), look(path).tables
  return tuple(
    (name, f"no row of {posixpath.basename(first)} names this picture")
    for name in tree.names
    if suffixes.is_picture(name) and trees.composed(name) not in named
  )


# ------------------------------------------------------------------ kinds


def _root(names: tuple[str, ...]) -> str:
  """The folder within that everything is in: of zips, often the one zipped."""
  root = posixpath.commonprefix([posixpath.dirname(n) + "/" for n in names])
  root = root[: root.rfind("/") + 1]
  return "" if root == "/" else root


def _is_metadata(name: str) -> bool:
  base = posixpath.basename(name).lower()
  return base in {f"metadata.{end}" for end in _METADATA}


def _check_metadata(tree: trees.Tree, metadata: list[str]) -> None:
  """ValueError for two tables of one folder, or several splits."""
  folders = [posixpath.dirname(name) for name in metadata]
  twice = [f for f in folders if folders.count(f) > 1]
  if twice:
    both = [n for n in metadata if posixpath.dirname(n) == twice[0]]
    raise ValueError(f"{tree.path} has {' and '.join(both)}; keep one of them.")
  _check_splits(tree, folders)


def _check_splits(tree: trees.Tree, folders: list[str]) -> None:
  """ValueError for folders of which several are named as splits."""
  splits = [
    f for f in folders if posixpath.basename(f).lower() in layouts.SPLITS
  ]
  if len(splits) > 1:
    raise ValueError(layouts.several_splits(tree.path, splits))


def _edits(names: list[str], root: str) -> tuple[list[Group], list[str]]:
  """Groups of source/, target/ and texts, and pictures of no such folders.

  Without such folders there are no groups. `root`: what keys leave out.
  """
  homes = _homes(names)
  found: dict[str, dict[str, list[str]]] = {}
  outside = []
  for name in names:
    home = next((h for h in homes if name.startswith(h)), None)
    if home is None:
      outside += [name] * suffixes.is_picture(name)
      continue
    source, target = homes[home]
    top, _, below = name.removeprefix(home).partition("/")
    top = top.lower()
    if suffixes.is_picture(name) and top in (source, target):
      column = "source" if top == source else "target"
    elif _is_text(name):
      column = "json" if suffixes.of(name) == "json" else "instruction"
      if top not in (*_TEXT, source, target):
        below = name.removeprefix(home)  # beside those folders
    else:
      continue
    key = trees.composed(home.removeprefix(root) + os.path.splitext(below)[0])
    found.setdefault(key, {}).setdefault(column, []).append(name)
  # A JSON beside no picture may be of the whole folder.
  sound = {k: v for k, v in found.items() if set(v) != {"json"}}
  return _groups(sound), outside


def _homes(names: list[str]) -> dict[str, tuple[str, str]]:
  """Folder -> its names of the folders of sources and of targets.

  Of folders within each other the outer one: what is below may have any name.
  """
  inside: dict[str, set[str]] = {}
  for name in names:
    *folders, _ = name.split("/")
    for i, folder in enumerate(folders):
      home = "/".join(folders[:i]) + "/" * bool(i)
      inside.setdefault(home, set()).add(folder.lower())
  found: dict[str, tuple[str, str]] = {}
  for home in sorted(inside, key=len):
    source = next((f for f in _SOURCE if f in inside[home]), None)
    target = next((f for f in _TARGET if f in inside[home]), None)
    if source and target and not any(home.startswith(h) for h in found):
      found[home] = source, target
  return found


def _is_text(name: str) -> bool:
  """Whether it may be the text of a picture."""
  end = suffixes.of(name)
  return end == "json" or (
    end in suffixes.TEXTS and not suffixes.is_about(name)
  )


def _captioned(names: list[str]) -> list[Group]:
  """Groups of pictures and the texts beside them."""
  found: dict[str, dict[str, list[str]]] = {}
  others: dict[str, str] = {}
  pictures = {trees.composed(n) for n in names if suffixes.is_picture(n)}
  for name in names:
    key, end = os.path.splitext(trees.composed(name))
    end = end[1:].lower()
    if key in pictures and end not in suffixes.PICTURES:  # a.png.txt
      key = os.path.splitext(key)[0]
    if end in suffixes.PICTURES:
      column = "image"
    elif end in suffixes.TEXTS and not suffixes.is_about(name):
      column = "caption"
    elif end == "json":
      column = "json"
    else:
      if end not in TABLES:  # a table is of the whole folder
        others[key] = name
      continue
    found.setdefault(key, {}).setdefault(column, []).append(name)
  for key in set(found) & set(others):
    if "image" not in found[key]:
      found[key]["other"] = [others[key]]
  if any("image" in files for files in found.values()):
    # A JSON beside no picture may be of the whole folder.
    found = {k: v for k, v in found.items() if set(v) != {"json"}}
  return _groups(found)


def _groups(found: Mapping[str, Mapping[str, list[str]]]) -> list[Group]:
  return [
    Group(
      key, {column: tuple(names) for column, names in sorted(files.items())}
    )
    for key, files in sorted(found.items())
  ]


# ------------------------------------------------------------------ rows


def _row(tree: trees.Tree, group: Group, where: str) -> dict[str, Any]:
  """The row of a group; BadRecord says what is missing, or too much."""
  files = group.files
  pictures = ("source", "target") if _is_edit(files) else ("image",)
  text = "instruction" if _is_edit(files) else "caption"
  row: dict[str, Any] = {}
  for column in pictures:
    row[column] = _one(files, column, group.key, where)
  texts = {name: _text(tree, name, where) for name in files.get(text, ())}
  if len(set(texts.values())) > 1:
    raise BadRecord(
      where, f"two {text}s, {' and '.join(texts)}, that differ; keep one"
    )
  if texts:
    row[text] = next(iter(texts.values()))
  fields = _fields(tree, files, text, where)
  if text in row and fields.get(text, row[text]) != row[text]:
    raise BadRecord(
      where, f"two {text}s, of {next(iter(texts))} and the JSON, that differ"
    )
  row |= {k: v for k, v in fields.items() if k not in pictures}
  if not texts and not fields:
    ends = ", ".join(f".{end}" for end in suffixes.TEXTS)
    raise BadRecord(
      where, f"no {text}: a text of this name ({ends} or .json) is missing"
    )
  row.setdefault("id", group.key)
  return row


def _is_edit(files: Mapping[str, Any]) -> bool:
  return bool({"source", "target", "instruction"} & set(files))


def _one(
  files: Mapping[str, tuple[str, ...]], column: str, key: str, where: str
) -> str:
  """The only picture of a column."""
  found = files.get(column, ())
  if len(found) == 1:
    return found[0]
  if found:
    raise BadRecord(where, f"two pictures, {' and '.join(found)}; keep one")
  if "other" in files:
    raise BadRecord(
      where,
      f"{files['other'][0]} is of no format that is read; save it as one of "
      f"{', '.join(suffixes.PICTURES)}",
    )
  inside = "" if column == "image" else f" in {column}/"
  raise BadRecord(where, f"no picture{inside} of this name, {key}.*")


def _text(tree: trees.Tree, name: str, where: str) -> str:
  data = tree.read(name, limits.TEXT)
  try:
    return tars.text_of(data)
  except UnicodeDecodeError as error:
    raise BadRecord(
      where,
      f"{name} is not UTF-8 (byte {data[error.start]:#x}); save it as UTF-8 "
      f"({limits.ICONV})",
    ) from error
  except ValueError as error:
    raise BadRecord(where, f"{name}: {error}") from error


def _fields(
  tree: trees.Tree, files: Mapping[str, tuple[str, ...]], text: str, where: str
) -> dict[str, Any]:
  """The keys of the JSON beside a picture; `text`: the column of a string."""
  out: dict[str, Any] = {}
  for name in files.get("json", ()):
    said = _text(tree, name, where)
    try:
      value = json.loads(said)
    except (ValueError, RecursionError) as error:
      raise BadRecord(where, f"{name}: no JSON: {error}") from error
    if isinstance(value, str):
      value = {text: value}
    if not isinstance(value, dict):
      raise BadRecord(
        where, f"{name} is a {type(value).__name__}, not an object"
      )
    value = {k: v for k, v in value.items() if v is not None}
    differ = sorted(k for k in value if out.get(k, value[k]) != value[k])
    if differ:
      both = " and ".join(files["json"])
      raise BadRecord(where, f"{both} differ in {differ[0]!r}; keep one")
    out |= value
  return out
