"""From a row of a table to an item, for the sets that are tables.

Two shapes: VLMEvalKit's TSV (index, image as base64 or as another row's index,
question, options A to Z, answer, ...) and the columns of the Hugging Face data
sets. Texts are taken as they stand: an option "None" is an option.
"""

import ast
import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
import functools
import json
import os
import re
import string
from typing import Any

from emma_jax.benchmarks.data.tables import Table, Tsv
from emma_jax.benchmarks.items import (
  BadItem,
  Item,
  Picture,
  content_hash,
  file_inside,
)

# Of VLMEvalKit: a shorter "image" is the index of the row that has it.
_REFERENCE = 64
_ROLL = 1_000_000  # circular copies of a question follow by that
# What the hub's tables hold where there is no option.
_NO_OPTION = ("", "nan")


def listed(text: Any) -> tuple[str, ...]:
  """References: a list, the text of a Python or JSON list, or one text.

  >>> listed("['a', 'b']"), listed("[1]"), listed("a [b]"), listed(["x"])
  (('a', 'b'), ('1',), ('a [b]',), ('x',))
  """
  if isinstance(text, (list, tuple)):
    return tuple(str(x) for x in text)
  text = str(text)
  if text.startswith("[") and text.endswith("]"):
    for read in (ast.literal_eval, json.loads):
      try:
        found = read(text)
      except (ValueError, SyntaxError):
        continue
      if isinstance(found, list):
        return tuple(str(x) for x in found)
  return (text,)


# -------------------------------------------------------------- VLMEvalKit


class TsvRows:
  """Items of one of VLMEvalKit's files."""

  def __init__(self, path: str, name: str, split: str):
    """Reads the file once; `split` picks rows where a column says so.

    Raises:
      BadItem: columns that are missing, or two rows of one index.
    """
    self.name = name
    self.table = Tsv(path, keep=("index", "split"))
    _need(self.table, ("index", "question"))
    if not {"image", "image_path"} & set(self.table.columns):
      raise BadItem(f"{path} has neither a column image nor image_path.")
    numbers = self.table.column("index")
    self._row: dict[str, int] = {}
    for row, number in enumerate(numbers):
      if number in self._row:
        raise BadItem(
          f"{self.table.where(row)}: the index {number!r} is also that of "
          f"{self.table.where(self._row[number])}; every row needs its own."
        )
      self._row[number] = row
    self._rows = list(range(len(self.table)))
    if split and "split" in self.table.columns:
      wanted = {"val": "validation"}.get(split, split)
      of = self.table.column("split")
      self._rows = [i for i in self._rows if of[i] == wanted]
      if not self._rows:
        raise BadItem(
          f"{path} has no row of the split {wanted!r}; it has "
          f"{', '.join(sorted(set(of)))}."
        )

  def __len__(self) -> int:
    return len(self._rows)

  def __getitem__(self, index: int) -> Item:
    number = self._rows[index]
    row, where = self.table[number], self.table.where(number)
    options = {
      letter: row[letter]
      for letter in string.ascii_uppercase
      if row.get(letter, "") != ""
    }
    return Item(
      id=row["index"],
      group=self._group(row),
      question=row["question"],
      pictures=self._pictures(row, where),
      options=options,
      answers=_tsv_answers(self.name, row, options, where),
      meta={
        k: v for k, v in row.items() if k not in ("image", "question", *options)
      },
    )

  def _group(self, row: Mapping[str, str]) -> str:
    if self.name == "mmbench":
      return str(int(row["index"]) % _ROLL)
    if self.name in ("docvqa", "infovqa", "chartqa", "textvqa"):
      image = row.get("image", "")
      if len(image) <= _REFERENCE and image in self._row:
        image = self.table[self._row[image]].get("image", "")
      return content_hash((image or row.get("image_path", "")).encode())
    return row["index"]

  def _pictures(
    self, row: Mapping[str, str], where: str
  ) -> tuple[Picture, ...]:
    raw = row.get("image", "")
    parts = listed(raw) if raw else ()
    if not parts:
      folder = os.path.join(os.path.dirname(self.table.path), "images")
      return tuple(
        Picture(where, file_inside(folder, os.path.join(folder, name), where))
        for name in listed(row.get("image_path", ""))
        if name
      )
    return tuple(
      Picture(where, functools.partial(self._decoded, part, where))
      for part in parts
    )

  def _decoded(self, text: str, where: str) -> bytes:
    if len(text) <= _REFERENCE:
      other = self._row.get(text)
      if other is None:
        raise BadItem(
          f"{where}: the picture is that of row {text!r}, which the file does "
          "not have."
        )
      text, *more = listed(self.table[other].get("image", ""))
      if more or len(text) <= _REFERENCE:
        raise BadItem(
          f"{where}: its picture is that of {self.table.where(other)}, which "
          "has none of its own, or several."
        )
    if text.lstrip()[:1] == "<":
      return text.encode()  # HTML, which Picture.bytes tells
    try:
      return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
      raise BadItem(
        f"{where}: the picture is no base64 ({error}); the file is damaged, "
        "download it again."
      ) from error


def _tsv_answers(
  name: str, row: Mapping[str, str], options: Mapping[str, str], where: str
) -> tuple[str, ...]:
  answer = row.get("answer", "")
  if name in ("docvqa", "infovqa", "textvqa", "ocrbench", "chartqa"):
    return listed(answer) if "answer" in row else ()
  if options and answer:
    _letter(answer, options, where)
  return (answer,) if answer else ()


def _letter(answer: str, options: Mapping[str, str], where: str) -> None:
  if len(answer) == 1 and answer.isupper() and answer not in options:
    raise BadItem(
      f"{where}: the answer is {answer!r}, but the options are "
      f"{', '.join(options)}; the row is damaged."
    )


# -------------------------------------------------------------- Hugging Face


class HubRows:
  """Items of a Hugging Face table, Parquet or Arrow."""

  def __init__(self, table: Table, name: str, split: str):
    """Raises BadItem for columns that are missing, or two rows of one id."""
    self.table, self.name = table, name
    self._read, needed, key = _HUB[name]
    _need(table, needed)
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


def _need(table: Table, names: Sequence[str]) -> None:
  missing = [name for name in names if name not in table.columns]
  if missing:
    raise BadItem(
      f"{table.path} lacks the columns {', '.join(missing)}; it has "
      f"{', '.join(table.columns)}. It is of another set or revision."
    )


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
  return Item(
    id=str(number),
    group=str(number),
    question=row["question"],
    pictures=picture(row["image"], where),
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
    _letter(answer, options, where)
  hint = row.get("hint")
  return Item(
    id=str(row["index"]),
    group=str(int(row["index"]) % _ROLL),
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
    _letter(answers[0], options, where)
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
    group=str(row["pid"]),
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
  return Item(
    id=str(number),
    group=str(number),
    question=row["question"],
    pictures=picture(row["image"], where),
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
  return Item(
    id=str(row["question_id"]),
    group=str(row["question_id"]),
    question=row["question"],
    pictures=picture(row["image"], where),
    answers=(row["answer"],),
    meta=_rest(row, "question", "image") | {"category": row["capability"]},
  )


def _gedit(row: Mapping[str, Any], number: int, where: str) -> Item:
  return Item(
    id=str(row["key"]),
    group=str(row["key"]),
    question=row["instruction"],
    pictures=picture(row.get("input_image_raw") or row["input_image"], where),
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
