"""WebDataset tar files: members of one key are one row.

`000123.jpg`, `000123.txt` and `000123.json` make

  {"__key__": "000123", "image": bytes, "caption": text, ...}

where the JSON's own keys come last and win, but for pictures. A key ends at the
first dot behind which only words follow; what stands between it and the last
dot names a picture or a text: `000123.source.png` is the key "source",
`v1.2.jpg` the key "v1.2" of its row. A folder belongs to the key. A member that
repeats begins a new row.

An archive is looked through before a row of it is read: what is damaged or a
bomb is known by then, and which members belong together. Where those do not
stand together they are looked up one by one, out of a plain archive or a small
compressed one.
"""

import codecs
from collections.abc import Iterator
import dataclasses
import json
import os
import re
import tempfile
from typing import IO, Any

from emma_jax import files
from emma_jax.data.ingest import archives, limits, suffixes, trees
from emma_jax.data.ingest.archives import Member
from emma_jax.data.pictures import budget, stand_ins
from emma_jax.data.pictures.images import BadRecord

# The first dot behind which only words stand.
_NAME = re.compile(r"(.*?)((?:\.[a-z_][\w-]*)+)", re.IGNORECASE | re.DOTALL)
_MARKS = {
  codecs.BOM_UTF32_LE: "utf-32",
  codecs.BOM_UTF32_BE: "utf-32",
  codecs.BOM_UTF16_LE: "utf-16",
  codecs.BOM_UTF16_BE: "utf-16",
}
# What a compressed archive may expand to for its members to be looked up.
_SORTED = 2**30

Item = tuple[str, dict[str, Any] | BadRecord]


@dataclasses.dataclass
class Group:
  """The members of a row, by what follows their key."""

  key: str
  members: dict[str, Member]
  last: int  # place of the last one among all members
  torn: bool = False  # others stand between them


def read(path: str) -> Iterator[Item]:
  """(where, row or BadRecord) of each row, by where it begins in the file."""
  found = archives.scan(path)
  groups = _groups(found.members)
  torn = any(group.torn for group in groups)
  with archives.opened(path) as file, tempfile.TemporaryFile() as sorted_file:
    if torn and found.compressed and found.size <= _SORTED:
      archives.copy(file, sorted_file)
      file = sorted_file
    elif torn and found.compressed:
      for group in groups:
        group.members = {} if group.torn else group.members
    for group in groups:
      where = f"{path}:{group.key}"
      size = sum(m.size for kind, m in group.members.items() if _is_read(kind))
      with budget.holding(size):
        yield where, _row(file, group, size, where)
  if found.damage:
    yield _lost(path, found.damage)


def key_of(name: str) -> tuple[str, str]:
  """Of a member's name: (key, what follows its dot, in lower case).

  >>> key_of("a/000123.source.PNG"), key_of("v1.2.jpg"), key_of("readme")
  (('a/000123', 'source.png'), ('v1.2', 'jpg'), ('readme', ''))
  """
  folder, base = os.path.split(name)
  found = _NAME.fullmatch(base)
  stem, kind = (found[1], found[2][1:]) if found else (base, "")
  return os.path.join(folder, stem), kind.lower()


def _is_read(kind: str) -> bool:
  """Not .npy, .cls and the like."""
  return kind.rpartition(".")[2] in suffixes.MEMBERS


def _groups(members: list[Member]) -> list[Group]:
  """Rows in the order of their first members."""
  newest: dict[str, Group] = {}
  order: list[Group] = []
  for place, member in enumerate(members):
    key, kind = key_of(trees.composed(member.name))
    group = newest.get(key)
    if group is None or kind in group.members:
      group = newest[key] = Group(key, {}, place - 1)
      order.append(group)
    group.torn |= group.last != place - 1
    group.members[kind], group.last = member, place
  return order


def _lost(path: str, damage: str) -> tuple[str, BadRecord]:
  where = f"{path}:?"
  return where, BadRecord(where, damage)


def _row(
  file: IO[bytes], group: Group, size: int, where: str
) -> dict[str, Any] | BadRecord:
  if not group.members:
    return BadRecord(
      where,
      "members of a sample must stand together in a large compressed archive; "
      "unpack it, or make it anew in the order of the names (tar --sort=name)",
    )
  if len(group.members) > limits.MEMBERS:
    return BadRecord(
      where, f"{len(group.members)} members; {limits.MEMBERS} are the most"
    )
  if size > limits.ROW:
    return BadRecord(
      where, f"its members have {size:,} bytes; {limits.ROW:,} are read"
    )
  row: dict[str, Any] = {"__key__": group.key}
  fields: dict[str, Any] = {}  # of JSON: they come last
  for kind, member in group.members.items():
    bad = _add(row, fields, kind, member, file) if _is_read(kind) else ""
    if bad:
      return BadRecord(where, bad)
  # A picture that is here is not looked for by the path it once had.
  named = fields.get("images")
  if isinstance(row.get("image"), bytes) and _is_one_path(named):
    del fields["images"]
  row |= {k: v for k, v in fields.items() if not isinstance(row.get(k), bytes)}
  row.setdefault("id", group.key)
  return row


def _is_one_path(value: Any) -> bool:
  return (
    isinstance(value, list) and len(value) == 1 and isinstance(value[0], str)
  )


def _add(
  row: dict[str, Any],
  fields: dict[str, Any],
  kind: str,
  member: Member,
  file: IO[bytes],
) -> str:
  """Puts a member into the row; returns what is wrong with it."""
  name, _, last = kind.rpartition(".")
  if member.sparse:
    return f"{member.name} is a sparse file; make the archive without --sparse"
  is_text = last not in suffixes.PICTURES
  if is_text and name in suffixes.PICTURES:  # 7.jpg.txt is of 7.jpg
    name = ""
  if is_text and member.size > limits.TEXT:
    return f"{member.name}: {limits.too_long(member.size)}"
  file.seek(member.start)
  data = file.read(member.size)
  if len(data) < member.size:
    return f"{member.name} breaks off"
  if last == "json":
    return _add_fields(fields, data, member.name)
  column = name or (suffixes.TEXTS[last] if is_text else "image")
  if column in row:
    return f"several members give {column!r}, the last is {member.name}"
  if not is_text:
    row[column] = data
    return ""
  try:
    row[column] = text_of(data)
  except ValueError as error:
    return f"{member.name}: {error}"
  return ""


def _add_fields(fields: dict[str, Any], data: bytes, name: str) -> str:
  try:
    value = json.loads(_decoded(data))
  except (ValueError, RecursionError) as error:
    return f"{name}: {error}"
  if not isinstance(value, dict):
    return f"{name} is a {type(value).__name__}, not an object"
  value = {k: v for k, v in value.items() if v is not None}
  differ = sorted(k for k in value if fields.get(k, value[k]) != value[k])
  if differ:
    return f"two members of JSON differ in {differ[0]!r}, the last is {name}"
  fields |= value
  return ""


def text_of(data: bytes) -> str:
  """Of a text file: UTF-8, or what a byte order mark says; ends of lines as LF.

  >>> text_of("﻿ a\\r\\nb\\n".encode())
  'a\\nb'

  Raises ValueError for any other encoding, and for what is another's pointer.
  """
  if files.is_pointer(data):
    raise ValueError(f"it is {stand_ins.told(data)}")
  text = _decoded(data).lstrip("\ufeff")  # some editors put a second one
  return text.replace("\r\n", "\n").replace("\r", "\n").strip()


def _decoded(data: bytes) -> str:
  for mark, name in _MARKS.items():
    if data.startswith(mark):
      return data.decode(name)
  return data.decode("utf-8-sig")
