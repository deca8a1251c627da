"""Leaves out records by the size of their pictures and by scores."""

from collections.abc import Iterator, Mapping
import dataclasses
from typing import Any

from emma_jax import ranges
from emma_jax.data.curation import answers as answers_lib
from emma_jax.data.curation.answers import Answers, Missing
from emma_jax.data.curation.base import Construction, noted
from emma_jax.data.ingest.job import ConversionError
from emma_jax.data.ingest.part import Converted, Skipped
from emma_jax.data.records import schema
from emma_jax.structs import STEM_GENERAL, STEM_SCIENCE, STEM_UNKNOWN

_LABELS = {"stem": STEM_SCIENCE, "general": STEM_GENERAL}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScoreRule:
  """A score that must lie in a range; null (does not apply) passes."""

  name: str
  answers: Answers
  minimum: float | None = None
  maximum: float | None = None

  def __post_init__(self):
    for name in ("minimum", "maximum"):
      value = getattr(self, name)
      if value is not None and value not in ranges.FINITE:
        raise ConversionError(f"{self.name}: {name}={value} is not finite.")

  def ready(self, first: Any) -> "ScoreRule":
    """The same with answers that are ready."""
    return dataclasses.replace(self, answers=self.answers.ready(first))

  def identity(self) -> Any:
    """JSON of the name, the range and the back end."""
    return {
      "name": self.name,
      "minimum": self.minimum,
      "maximum": self.maximum,
      "answers": self.answers.identity(),
    }

  def value(
    self, stored: schema.Stored, where: str, missing: Missing
  ) -> tuple[bool, float | None]:
    """(is there an answer, the score; None: it does not apply)."""
    found = answers_lib.ask(_Number(self.answers), stored, where, missing)
    return (False, None) if found is None else (True, found["score"])

  def check(
    self, made: Converted, where: str, missing: Missing
  ) -> tuple[Converted, Skipped | None]:
    """The record with its score noted, and why it is to be left out."""
    known, value = self.value(made.stored, where, missing)
    if not known and missing == "drop":
      return made, Skipped(f"no {self.name}", f"it has no {self.name}")
    if value is None:
      return made, None
    made = made._replace(stored=noted(made.stored, **{self.name: value}))
    low, high = self.minimum, self.maximum
    if low is not None and value < low:
      return made, Skipped(self.name, f"{self.name} {value:g} is below {low:g}")
    if high is not None and value > high:
      return made, Skipped(
        self.name, f"{self.name} {value:g} is above {high:g}"
      )
    return made, None


@dataclasses.dataclass(frozen=True)
class _Number:
  """Answers without a number in them are no answers."""

  answers: Answers

  def answer(
    self, stored: schema.Stored, where: str
  ) -> dict[str, float | None]:
    found = self.answers.answer(stored, where)
    return {"score": answers_lib.number(found, "score", where)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Filter(Construction):
  """Keeps records of which every picture, and every score, is in range.

  Args:
    tasks: keeps these alone; empty: all.
    min_side, max_side: pixels of a picture's shorter, longer side.
    min_pixels: of a picture.
    max_aspect: of the longer side over the shorter one.
    noted: key of the provenance -> the value wanted there, as a text.
    stem: "stem" or "general" keeps questions with that label alone.
    scores: in the order in which they are asked for.
    missing: what becomes of a record without a score.
  """

  tasks: tuple[str, ...] = ()
  min_side: int = 0
  max_side: int | None = None
  min_pixels: int = 0
  max_aspect: float | None = None
  noted: Mapping[str, str] = dataclasses.field(default_factory=dict)
  stem: str = ""
  scores: tuple[ScoreRule, ...] = ()
  missing: Missing = "error"

  def __post_init__(self):
    if self.stem not in ("", *_LABELS):
      raise ConversionError(f"stem={self.stem!r} is none of {[*_LABELS]}.")
    if self.max_aspect is not None and self.max_aspect not in ranges.Range(1):
      raise ConversionError(
        f"max_aspect={self.max_aspect}: the longer side over the shorter one "
        "is at least 1."
      )

  def step(self, made: Converted, where: str) -> Iterator[Converted | Skipped]:
    """The record with its scores noted, or the first reason against it."""
    if self.tasks and made.stored.task not in self.tasks:
      yield Skipped("task", f"a record of {made.stored.task}")
      return
    out = self.of_label(made.stored)
    if out:
      yield out
      return
    for y, x in made.sizes:
      out = self.of_size(y, x)
      if out:
        yield out
        return
    for rule in self.scores:
      made, out = rule.check(made, where, self.missing)
      if out:
        yield out
        return
    yield made

  def of_label(self, stored: schema.Stored) -> Skipped | None:
    """Why a record of these notes, and of this label, is not wanted."""
    for key, wanted in self.noted.items():
      value = stored.provenance.get(key)
      if str(value) != wanted:
        return Skipped(key, f"{key} is {value!r}, not {wanted!r}")
    if self.stem:
      label = getattr(stored.record, "stem", STEM_UNKNOWN)
      if label != _LABELS[self.stem]:
        return Skipped("stem", f"it is not labelled {self.stem}")
    return None

  def of_size(self, y: int, x: int) -> Skipped | None:
    """Why a picture of this size is not wanted."""
    short, long = min(y, x), max(y, x)
    if short < self.min_side:
      return Skipped("min_side", f"{x}x{y} has a side below {self.min_side}")
    if self.max_side is not None and long > self.max_side:
      return Skipped("max_side", f"{x}x{y} has a side above {self.max_side}")
    if y * x < self.min_pixels:
      return Skipped("min_pixels", f"{x}x{y} is below {self.min_pixels} pixels")
    if self.max_aspect is not None and long > self.max_aspect * short:
      return Skipped("max_aspect", f"{x}x{y} is above 1:{self.max_aspect:g}")
    return None
