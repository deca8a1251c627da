"""One question of a test set, whatever file it came from."""

from collections.abc import Callable, Mapping
import dataclasses
import hashlib
import os
from typing import Any


class BadItem(ValueError):
  """A row that is no item; the message names file, row and remedy."""


class Missing(BadItem):
  """A set, or a file of it, is not there; the message says what helps."""


def is_page(start: bytes) -> bool:
  """Whether something begins as a page of HTML does."""
  head = start.lstrip()[:16].lower()
  return head.startswith((b"<!doctype", b"<html", b"<?xml", b"<head"))


@dataclasses.dataclass(frozen=True)
class Picture:
  """A picture that is read when it is needed.

  Args:
    where: file and row, for messages.
    load: gives the file's bytes.
  """

  where: str
  load: Callable[[], bytes]

  def bytes(self) -> bytes:
    """The picture's file, unopened.

    Raises:
      BadItem: nothing, or a page of HTML where a picture should be.
    """
    data = self.load()
    if not data:
      raise BadItem(f"{self.where}: the picture is empty.")
    if is_page(data[:256]):
      raise BadItem(
        f"{self.where}: a page of HTML stands where a picture should: the "
        "download failed. Download the file again."
      )
    return data


@dataclasses.dataclass(frozen=True)
class Item:
  """A question, or what is to be drawn or edited.

  Args:
    id: unique in its set, as text.
    group: items that are not independent of each other have one: rolls of a
      question, questions about a page. What a bootstrap draws.
    question: as the set has it, before any prompt template.
    pictures: shown with it, in order.
    options: letter -> text, of a choice; in the file's order.
    answers: references, or () where the set has none.
    meta: further columns that prompts, scorers or tables look at.
  """

  id: str
  group: str
  question: str
  pictures: tuple[Picture, ...] = ()
  options: Mapping[str, str] = dataclasses.field(default_factory=dict)
  answers: tuple[str, ...] = ()
  meta: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def file_inside(folder: str, path: str, where: str) -> Callable[[], bytes]:
  """Reads a file that a row names; BadItem where it cannot be, or lies outside
  of the folder: a downloaded table must not name other files."""

  def read() -> bytes:
    if not os.path.realpath(path).startswith(os.path.realpath(folder) + os.sep):
      raise BadItem(f"{where}: the picture {path} lies outside of {folder}.")
    try:
      with open(path, "rb") as file:
        return file.read()
    except OSError as error:
      raise BadItem(f"{where}: its picture cannot be read: {error}.") from error

  return read


def content_hash(data: bytes) -> str:
  """Of a picture's bytes, or of their text: names a group of questions."""
  return hashlib.blake2b(data, digest_size=8).hexdigest()
