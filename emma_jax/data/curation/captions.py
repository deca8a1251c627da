"""Captions written anew, and as questions; labels noted of a model's answer."""

from collections.abc import Iterator
import dataclasses
from typing import Any

from emma_jax.data.curation import answers as answers_lib
from emma_jax.data.curation.answers import Answers, Missing
from emma_jax.data.curation.base import Construction, hash64, noted
from emma_jax.data.ingest.job import ConversionError
from emma_jax.data.ingest.part import Converted, Skipped
from emma_jax.data.records import schema
from emma_jax.structs import Drawing, Understanding
from emma_jax.world.language import is_chinese

# What a caption answers; the record's id chooses.
QUESTIONS = (
  "Describe the picture.",
  "What does the picture show?",
  "Describe this image in detail.",
  "Write a caption for the picture.",
  "What can be seen here?",
)
_LONGEST_NOTE = 300  # characters kept of a caption that was there before


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recaption(Construction):
  """Gives pictures with captions new ones.

  Args:
    answers: {"caption": ...}.
    english: a caption in Chinese leaves its record out: drawings are English.
    missing: what becomes of a record without one; "keep" keeps its caption.
  """

  answers: Answers
  english: bool = True
  missing: Missing = "error"

  def step(self, made: Converted, where: str) -> Iterator[Converted | Skipped]:
    """The drawing with its new caption; the old one is noted."""
    record = made.stored.record
    if not isinstance(record, Drawing):
      yield Skipped("no drawing", f"a record of {made.stored.task}")
      return
    found = answers_lib.wanted(
      _Caption(self.answers), made.stored, where, self.missing, "caption"
    )
    if isinstance(found, Skipped):
      yield found
    elif found is None:
      yield made
    elif self.english and is_chinese(found["caption"]):
      yield Skipped("not English", f"the caption {found['caption']:.80}")
    else:
      stored = dataclasses.replace(
        made.stored, record=dataclasses.replace(record, prompt=found["caption"])
      )
      old = record.prompt[:_LONGEST_NOTE]
      yield made._replace(stored=noted(stored, caption_before=old))


@dataclasses.dataclass(frozen=True, kw_only=True)
class AsQuestions(Construction):
  """Captions as answers: drawings become questions about their pictures.

  Args:
    questions: of which a hash of the record's id chooses.
  """

  questions: tuple[str, ...] = QUESTIONS

  def __post_init__(self):
    if not self.questions:
      raise ConversionError("AsQuestions needs a question.")

  def step(self, made: Converted, where: str) -> Iterator[Converted | Skipped]:
    """A conversation of one turn; what is no drawing is left out."""
    record = made.stored.record
    if not isinstance(record, Drawing) or record.picture is None:
      yield Skipped("no drawing", f"a record of {made.stored.task}")
      return
    which = hash64(record.id) % len(self.questions)
    asked = Understanding(
      pictures=(record.picture,),
      turns=((self.questions[which], record.prompt),),
      stem=self.base.stem,
      id=record.id,
    )
    stored = dataclasses.replace(made.stored, record=asked)
    yield made._replace(stored=stored)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Label(Construction):
  """Notes in the provenance which of two kinds a record is of.

  Args:
    name: the answer's key, {"portrait": true}, and the note's.
    answers: true or false.
    words: what is noted for (false, true).
    missing: what becomes of a record without; "keep" leaves it unlabelled.
  """

  name: str
  answers: Answers
  words: tuple[str, str] = ("general", "portrait")
  missing: Missing = "error"

  def step(self, made: Converted, where: str) -> Iterator[Converted | Skipped]:
    """The record with its label."""
    found = answers_lib.wanted(
      _Label(self.answers, self.name),
      made.stored,
      where,
      self.missing,
      self.name,
    )
    if isinstance(found, Skipped):
      yield found
    elif found is None:
      yield made
    else:
      word = self.words[found[self.name]]
      yield made._replace(stored=noted(made.stored, **{self.name: word}))


@dataclasses.dataclass(frozen=True)
class _Caption:
  """Answers without a caption in them are no answers."""

  answers: Answers

  def answer(self, stored: schema.Stored, where: str) -> dict[str, Any]:
    found = answers_lib.text(
      self.answers.answer(stored, where), "caption", where
    )
    if found is None:
      raise answers_lib.NoAnswer(where, "the caption is null")
    return {"caption": found.strip()}


@dataclasses.dataclass(frozen=True)
class _Label:
  answers: Answers
  name: str

  def answer(self, stored: schema.Stored, where: str) -> dict[str, bool]:
    found = self.answers.answer(stored, where)
    return {self.name: answers_lib.truth(found, self.name, where)}
