"""From a row of a Hugging Face table, Parquet or Arrow, to an item."""

from collections.abc import Callable, Mapping, Sequence
import re
import string
from typing import Any

from emma_jax.benchmarks.data.rows import (
  check_columns,
  check_letter,
  circle_of,
  listed,
)
from emma_jax.benchmarks.data.tables import Table
from emma_jax.benchmarks.items import BadItem, Item, Picture, content_hash

# What the tables hold where there is no option.
_NO_OPTION = ("", "nan")


class HubRows:
  """Items of a Hugging Face table, Parquet or Arrow."""

  def __init__(self, table: Table, name: str, split: str):
    """Raises BadItem for columns that are missing, or two rows of one id."""
    self.table, self.name = table, name
    self._read, needed, key = _HUB[name]
    check_columns(table, needed)
    self._rows = list(range(len(table)))
    if name == "gedit":
      of = table.column("instruction_language")
      self._rows = [i for i in self._rows if of[i] == split]
    if key:
      seen: dict[str, int] = {}
      values = table.column(key)
      for row in self._rows:
        if str(values[row]) in seen:
          raise BadItem(
            f"{table.where(row)}: {key}={values[row]!r} is also that of "
            f"{table.where(seen[str(values[row])])}; every row needs its own."
          )
        seen[str(values[row])] = row

  def __len__(self) -> int:
    return len(self._rows)

  def __getitem__(self, index: int) -> Item:
    number = self._rows[index]
    return self._read(self.table[number], number, self.table.where(number))


def picture(value: Any, where: str) -> tuple[Picture, ...]:
  """Of a column: {bytes, path}, bytes, or None for none.

  Raises:
    BadItem: a path alone, to a file that the table does not hold.
  """
  path = None
  if isinstance(value, dict):
    value, path = value.get("bytes"), value.get("path")
  if isinstance(value, bytes) and value:
    return (Picture(where, lambda: value),)
  path = path or value
  if path:
    raise BadItem(
      f"{where}: the picture {path!r:.60} is a name, and not in the table. "
      "Download a snapshot whose pictures are inside."
    )
  return ()


def _group_of(pictures: Sequence[Picture], otherwise: str) -> str:
  if not pictures:
    return otherwise
  return content_hash(pictures[0].load())


def _rest(row: Mapping[str, Any], *used: str) -> dict[str, Any]:
  return {k: v for k, v in row.items() if k not in used}


def _chartqa(row: Mapping[str, Any], number: int, where: str) -> Item:
  pictures = picture(row["image"], where)
  return Item(
    id=str(number),
    group=_group_of(pictures, str(number)),
    question=row["question"],
    pictures=pictures,
    answers=listed(row["answer"]),
    meta=_rest(row, "question", "image"),
  )


def _docvqa(row: Mapping[str, Any], number: int, where: str) -> Item:
  pictures = picture(row["image"], where)
  document = row.get("docId")
  return Item(
    id=str(row["questionId"]),
    group=_group_of(pictures, "") if document is None else str(document),
    question=row["question"],
    pictures=pictures,
    answers=listed(row["answers"]) if row.get("answers") is not None else (),
    meta=_rest(row, "question", "image"),
  )


def _textvqa(row: Mapping[str, Any], number: int, where: str) -> Item:
  return Item(
    id=str(row["question_id"]),
    group=str(row["image_id"]),
    question=row["question"],
    pictures=picture(row["image"], where),
    answers=listed(row["answers"]) if row.get("answers") is not None else (),
    meta=_rest(row, "question", "image"),
  )


def _ocrbench(row: Mapping[str, Any], number: int, where: str) -> Item:
  pictures = picture(row["image"], where)
  return Item(
    id=str(number),
    group=_group_of(pictures, str(number)),
    question=row["question"],
    pictures=pictures,
    answers=listed(row["answer"]),
    meta=_rest(row, "question", "image") | {"category": row["question_type"]},
  )


def _mmbench(row: Mapping[str, Any], number: int, where: str) -> Item:
  options = {
    letter: row[letter]
    for letter in "ABCD"
    if row.get(letter) is not None and row[letter] not in _NO_OPTION
  }
  answer = row.get("answer")
  if answer in (None, *_NO_OPTION):
    answer = ""
  else:
    check_letter(answer, options, where)
  hint = row.get("hint")
  return Item(
    id=str(row["index"]),
    group=circle_of(row["index"], where),
    question=row["question"],
    pictures=picture(row["image"], where),
    options=options,
    answers=(answer,) if answer else (),
    meta=_rest(row, "question", "image", *"ABCD")
    | {
      "hint": "" if hint in (None, *_NO_OPTION) else hint,
      "l2-category": row.get("L2-category", row.get("l2-category", "")),
    },
  )


def _mmmu(row: Mapping[str, Any], number: int, where: str) -> Item:
  choices = listed(row["options"]) if row["options"] != "[]" else ()
  options = dict(zip(string.ascii_uppercase, choices))
  answers = listed(row["answer"])
  if row["question_type"] == "multiple-choice" and answers[0] != "?":
    check_letter(answers[0], options, where)
  pictures: list[Picture] = []
  for k in range(1, 8):
    pictures += picture(row.get(f"image_{k}"), where)
  return Item(
    id=row["id"],
    group=row["id"],
    question=row["question"],
    pictures=tuple(pictures),
    options=options,
    answers=answers,
    meta=_rest(row, "question", *(f"image_{k}" for k in range(1, 8))),
  )


def _mathvista(row: Mapping[str, Any], number: int, where: str) -> Item:
  choices = row.get("choices")
  pictures = picture(row.get("decoded_image"), where)
  return Item(
    id=str(row["pid"]),
    group=_group_of(pictures, str(row["pid"])),
    question=row["question"],
    pictures=pictures,
    options=dict(
      zip(string.ascii_uppercase, () if choices is None else choices)
    ),
    answers=(str(row["answer"]),) if row.get("answer") is not None else (),
    meta=_rest(row, "question", "image", "decoded_image"),
  )


def _ai2d(row: Mapping[str, Any], number: int, where: str) -> Item:
  options = dict(zip(string.ascii_uppercase, row["options"]))
  index = str(row["answer"])
  if not re.fullmatch(r"\d+", index) or int(index) >= len(options):
    raise BadItem(
      f"{where}: the answer is {index!r}, but there are {len(options)} options."
    )
  pictures = picture(row["image"], where)
  return Item(
    id=str(number),
    group=_group_of(pictures, str(number)),
    question=row["question"],
    pictures=pictures,
    options=options,
    answers=(string.ascii_uppercase[int(index)],),
  )


def _mmstar(row: Mapping[str, Any], number: int, where: str) -> Item:
  return Item(
    id=str(row["index"]),
    group=str(row["index"]),
    question=row["question"],
    pictures=picture(row["image"], where),
    answers=(row["answer"],),
    meta=_rest(row, "question", "image"),
  )


def _mmvet(row: Mapping[str, Any], number: int, where: str) -> Item:
  pictures = picture(row["image"], where)
  return Item(
    id=str(row["question_id"]),
    group=_group_of(pictures, str(row["question_id"])),
    question=row["question"],
    pictures=pictures,
    answers=(row["answer"],),
    meta=_rest(row, "question", "image") | {"category": row["capability"]},
  )


def _gedit(row: Mapping[str, Any], number: int, where: str) -> Item:
  return Item(
    id=str(row["key"]),
    group=str(row["key"]),
    question=row["instruction"],
    # The model edits the first; the judge is shown the last.
    pictures=(
      *picture(row.get("input_image_raw"), where),
      *picture(row["input_image"], where),
    ),
    meta=_rest(row, "instruction", "input_image", "input_image_raw")
    | {"category": row["task_type"]},
  )


def _emu_edit(row: Mapping[str, Any], number: int, where: str) -> Item:
  return Item(
    id=f"{row['idx']}-{number}",
    group=str(row.get("hash") or row["idx"]),
    question=row["instruction"],
    pictures=picture(row["image"], where),
    meta=_rest(row, "instruction", "image") | {"category": row["task"]},
  )


# name -> (reader, columns it needs, the column that is unique).
_Reader = Callable[[Mapping[str, Any], int, str], Item]
_HUB: dict[str, tuple[_Reader, tuple[str, ...], str]] = {
  "chartqa": (_chartqa, ("question", "answer", "image"), ""),
  "docvqa": (_docvqa, ("questionId", "question", "image"), "questionId"),
  "infovqa": (_docvqa, ("questionId", "question", "image"), "questionId"),
  "textvqa": (
    _textvqa,
    ("question_id", "image_id", "question", "image"),
    "question_id",
  ),
  "ocrbench": (_ocrbench, ("question", "question_type", "answer", "image"), ""),
  "mmbench": (_mmbench, ("index", "question", "A", "B", "image"), "index"),
  "mmmu": (
    _mmmu,
    ("id", "question", "options", "answer", "question_type", "image_1"),
    "id",
  ),
  "mathvista": (
    _mathvista,
    ("pid", "question", "question_type", "answer_type", "metadata"),
    "pid",
  ),
  "ai2d": (_ai2d, ("question", "options", "answer", "image"), ""),
  "mmstar": (_mmstar, ("index", "question", "answer", "image"), "index"),
  "mmvet": (
    _mmvet,
    ("question_id", "question", "answer", "capability", "image"),
    "question_id",
  ),
  "gedit": (
    _gedit,
    ("key", "task_type", "instruction", "instruction_language", "input_image"),
    "",
  ),
  "emu_edit": (_emu_edit, ("idx", "instruction", "task", "image"), ""),
}
HUB_SETS = tuple(_HUB)
