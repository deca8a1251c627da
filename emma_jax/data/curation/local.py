"""Answers of models on this machine, by the extra `scorers`: no server.

ocr    {"source": [...], "target": [...]}, texts of an edit's two pictures
read   {"texts": [...]}, texts of the first picture
face   {"score": 0.9}, how alike the persons of an edit are; null without any
"""

from collections.abc import Mapping
import dataclasses
from typing import Any

from emma_jax.data.curation import base
from emma_jax.data.curation.answers import NoAnswer
from emma_jax.data.ingest.job import ConversionError
from emma_jax.data.ingest.part import FirstPass
from emma_jax.data.records import schema
from emma_jax.scorers import faces, ocr
from emma_jax.scorers.packages import ScorerError

KINDS = ("ocr", "read", "face")


@dataclasses.dataclass(frozen=True)
class Local:
  """Reads texts, or compares faces.

  Args:
    kind: of KINDS.

  Raises:
    ConversionError: another kind, or the extra is not installed.
  """

  kind: str

  def __post_init__(self):
    if self.kind not in KINDS:
      raise ConversionError(
        f"{self.kind} cannot be answered on this machine, only "
        f"{', '.join(KINDS)}."
      )
    self.identity()

  def identity(self) -> Any:
    """JSON of the models and their packages."""
    try:
      found = faces.identity() if self.kind == "face" else ocr.identity()
    except ScorerError as error:
      raise ConversionError(f"{self.kind}=local: {error}") from error
    return {"local": self.kind, **found}

  def ready(self, first: FirstPass) -> "Local":
    """Itself: nothing is made beforehand."""
    return self

  def answer(self, stored: schema.Stored, where: str) -> Mapping[str, Any]:
    """About a record's pictures; NoAnswer where it has too few."""
    wanted = 1 if self.kind == "read" else 2
    if len(stored.pictures) < wanted:
      raise NoAnswer(
        where, f"{self.kind} is of {wanted}, it has {len(stored.pictures)}"
      )
    first = base.pixels(stored.pictures[0], where)
    if self.kind == "read":
      return {"texts": _texts(first)}
    last = base.pixels(stored.pictures[-1], where)
    if self.kind == "face":
      return {"score": faces.similarity(first, last)}
    return {"source": _texts(first), "target": _texts(last)}


def _texts(pixels: Any) -> list[str]:
  # One thread: records are made in as many processes as there are cores.
  return [line.text for line in ocr.read_words(pixels, threads=1)]
