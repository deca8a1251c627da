"""Edits made: an instruction for a picture, and an editing model's result.

  a drawing's picture
    -> an instruction    a model's (Propose), or of the words that OCR reads
                         (ProposeText: replace one, or remove it)
    -> an editing model  (ApplyEdits): the record of an edit
    -> judge, face, OCR, reversed    edits.EditPairs

What is proposed is noted in the drawing's provenance, "instruction" and
"reverse_instruction", where ApplyEdits and EditPairs look for it.
"""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
from typing import Any

from emma_jax import ranges
from emma_jax.data.curation import answers as answers_lib
from emma_jax.data.curation import instructions, words
from emma_jax.data.curation.answers import Answers, Missing, NoAnswer, Refused
from emma_jax.data.curation.base import Construction, hash64, noted
from emma_jax.data.curation.painter import Painter
from emma_jax.data.ingest.job import ConversionError
from emma_jax.data.ingest.part import Converted, Skipped
from emma_jax.data.records import schema
from emma_jax.structs import Drawing, Editing
from emma_jax.world.language import is_chinese

INSTRUCTION, REVERSE = "instruction", "reverse_instruction"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Propose(Construction):
  """Notes an instruction for the picture, and what undoes it.

  Args:
    answers: {"instruction": ..., "reverse": ...}; the second may be missing.
    missing: what becomes of a picture without ("keep" is no answer here).
  """

  answers: Answers
  missing: Missing = "error"

  def __post_init__(self):
    _not_kept(self.missing, "an instruction")

  def step(self, made: Converted, where: str) -> Iterator[Converted | Skipped]:
    """The drawing with the instruction noted, or why there is none."""
    if not isinstance(made.stored.record, Drawing):
      yield Skipped("no drawing", f"a record of {made.stored.task}")
      return
    found = answers_lib.wanted(
      _Proposal(self.answers), made.stored, where, self.missing, INSTRUCTION
    )
    assert found is not None  # __post_init__
    if isinstance(found, Skipped):
      yield found
    elif any(map(is_chinese, found.values())):
      yield Skipped("not English", f"the instruction {found[INSTRUCTION]:.80}")
    else:
      yield made._replace(stored=noted(made.stored, **found))


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProposeText(Construction):
  """Notes an edit of one of the picture's texts: replaced, or removed.

  The record's id chooses text, edit and new words, so the same pictures give
  the same edits.

  Args:
    answers: {"texts": [...]}, the words read in the picture.
    phrases: new words; the one whose length is nearest to the old words' is
      taken, so that it has room.
    remove: share of the texts that are removed, not replaced.
    max_words: longer texts are not edited: their letters are small.
    missing: what becomes of a picture that nobody has read.
  """

  answers: Answers
  phrases: tuple[str, ...] = words.PHRASES["en"]
  remove: float = 0.3
  max_words: int = 5
  missing: Missing = "error"

  def __post_init__(self):
    _not_kept(self.missing, "words")
    if len(self.phrases) < 2 or not 0 <= self.remove <= 1:
      raise ConversionError(
        f"ProposeText needs two phrases, not {len(self.phrases)}, and "
        f"{self.remove=} of 0 to 1."
      )

  def step(self, made: Converted, where: str) -> Iterator[Converted | Skipped]:
    """The drawing with the edit noted, or why there is none."""
    if not isinstance(made.stored.record, Drawing):
      yield Skipped("no drawing", f"a record of {made.stored.task}")
      return
    found = answers_lib.wanted(
      Texts(self.answers), made.stored, where, self.missing, "text read"
    )
    assert found is not None  # __post_init__
    if isinstance(found, Skipped):
      yield found
      return
    fit = [text for text in found["texts"] if self.fits(text, found["texts"])]
    if fit:
      edit = self.edit(fit, made.stored.record.id)
      yield made._replace(stored=noted(made.stored, **edit))
    else:
      kind = "no text to edit" if found["texts"] else "no text"
      yield Skipped(kind, f"read was {found['texts']!r:.200}")

  def fits(self, text: str, texts: Sequence[str]) -> bool:
    """Whether a text can be named: short, English, once in the picture."""
    return (
      0 < len(text.split()) <= self.max_words
      and any(c.isalpha() for c in text)
      and not is_chinese(text)
      and not set(text) & set("\"“”'‘’「」\n")
      and sum(instructions.contains([other], text) for other in texts) == 1
    )

  def edit(self, texts: Sequence[str], name: str) -> dict[str, str]:
    """What is noted: {"instruction": ..., "reverse_instruction": ...}."""
    old = texts[hash64(f"text {name}") % len(texts)]
    if hash64(f"remove {name}") < self.remove * 2**64:
      said = f'Remove the text "{old}".'
    else:
      said = f'Replace the text "{old}" with "{self.other(old, name)}".'
    undo = instructions.reverse(said)
    assert undo is not None  # its own rules made it
    return {INSTRUCTION: said, REVERSE: undo}

  def other(self, old: str, name: str) -> str:
    """New words of about the same length."""
    free = [
      p
      for p in self.phrases
      if not instructions.contains([p], old)
      and not instructions.contains([old], p)
    ]
    return min(
      free,
      key=lambda p: (abs(len(p) - len(old)), hash64(f"{p} {name}")),
      default=self.phrases[0],
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ApplyEdits(Construction):
  """Makes records of edits: an editing model carries the instructions out.

  Args:
    painter: the editing model.
    max_stretch: a result whose aspect ratio is more times another than the
      source's shows something else, or shows it cut.
    missing: what becomes of a picture that was not edited.
  """

  painter: Painter
  max_stretch: float = 1.05
  missing: Missing = "error"

  def __post_init__(self):
    _not_kept(self.missing, "a result")
    if self.max_stretch not in ranges.Range(1):
      raise ConversionError(f"{self.max_stretch=} must be at least 1.")

  def step(self, made: Converted, where: str) -> Iterator[Converted | Skipped]:
    """The edit, or why there is none."""
    record = made.stored.record
    said = made.stored.provenance.get(INSTRUCTION)
    if not isinstance(record, Drawing) or not isinstance(said, str):
      yield Skipped("no instruction", f"{made.stored.task} without one noted")
      return
    source = made.stored.pictures[0]
    try:
      target, size = self.painter.edit(source, said, where)
    except NoAnswer as error:
      yield lost(error, self.missing, "result")
      return
    (y, x), (v, u) = made.sizes[0], size
    stretch = max(y * u, v * x) / min(y * u, v * x)
    if stretch > self.max_stretch:
      yield Skipped("aspect ratio", f"{x}x{y} became {u}x{v}")
      return
    edit = Editing(
      sources=(source,), instruction=said, target=target, id=record.id
    )
    stored = dataclasses.replace(made.stored, record=edit)
    stored = noted(stored, edited_by=self.painter.model)
    yield Converted(stored, [made.sizes[0], size])


def lost(error: NoAnswer, missing: Missing, name: str) -> Skipped:
  """Why a record goes that no picture was made for; or the run ends."""
  if missing == "error":
    raise ConversionError(
      f"{error}. Say what becomes of such records: --missing drop leaves "
      "them out."
    ) from error
  kind = "refused" if isinstance(error, Refused) else f"no {name}"
  return Skipped(kind, error.reason)


def _not_kept(missing: Missing, what: str) -> None:
  if missing == "keep":
    raise ConversionError(
      f"A record without {what} makes no edit: --missing drop leaves it out."
    )


@dataclasses.dataclass(frozen=True)
class Texts:
  """Answers without a list of texts in them are no answers."""

  answers: Answers

  def answer(
    self, stored: schema.Stored, where: str
  ) -> Mapping[str, list[str]]:
    """{"texts": [...]}, without blank ones."""
    found = self.answers.answer(stored, where)
    texts = answers_lib.texts(found, "texts", where)
    return {"texts": [t.strip() for t in texts if t.strip()]}


@dataclasses.dataclass(frozen=True)
class _Proposal:
  answers: Answers

  def answer(self, stored: schema.Stored, where: str) -> dict[str, Any]:
    found = self.answers.answer(stored, where)
    said = answers_lib.text(found, "instruction", where)
    if said is None:
      raise NoAnswer(where, "nothing is proposed (null)")
    out = {INSTRUCTION: said.strip()}
    if found.get("reverse") is not None:
      undo = answers_lib.text(found, "reverse", where)
      out[REVERSE] = str(undo).strip()
    return out
