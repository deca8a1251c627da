"""From a row of VLMEvalKit's TSV files to an item.

Columns are index, image (base64, or another row's index), question, options A
to Z, answer and more. Texts are taken as they stand: an option "None" is an
option.
"""

import base64
import binascii
from collections.abc import Mapping
import functools
import os
import string

from emma_jax.benchmarks.data.rows import (
  check_columns,
  check_letter,
  circle_of,
  listed,
)
from emma_jax.benchmarks.data.tables import Tsv
from emma_jax.benchmarks.items import (
  BadItem,
  Item,
  Picture,
  content_hash,
  file_inside,
)

# Sets with several questions about a picture, which are not independent.
_BY_PICTURE = (
  *("docvqa", "infovqa", "chartqa", "textvqa", "ocrbench", "ai2d"),
  *("mathvista", "mmvet"),
)
# A shorter "image" is the index of the row that has it.
_REFERENCE = 64


class TsvRows:
  """Items of one of VLMEvalKit's files."""

  def __init__(self, path: str, name: str, split: str):
    """Reads the file once; `split` picks rows where a column says so.

    Raises:
      BadItem: columns that are missing, or two rows of one index.
    """
    self.name = name
    self.table = Tsv(path, keep=("index", "split"))
    check_columns(self.table, ("index", "question"))
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
      group=self._group(row, where),
      question=row["question"],
      pictures=self._pictures(row, where),
      options=options,
      answers=_tsv_answers(self.name, row, options, where),
      meta={
        k: v for k, v in row.items() if k not in ("image", "question", *options)
      },
    )

  def _group(self, row: Mapping[str, str], where: str) -> str:
    if self.name == "mmbench":
      return circle_of(row["index"], where)
    if self.name in _BY_PICTURE:
      image = row.get("image", "")
      if len(image) <= _REFERENCE and image in self._row:
        image = self.table[self._row[image]].get("image", "")
      shown = image or row.get("image_path", "")
      if shown:
        return content_hash(shown.encode())
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
    check_letter(answer, options, where)
  return (answer,) if answer else ()
