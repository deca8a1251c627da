"""Pairs of edits: checked, and turned around.

  an edit (source, instruction, result)
    -> judge      does the result follow the instruction?
    -> OCR        of edits of text: the old words are gone, the new ones there
    -> face       with people: are they the same persons?
    -> the pair, and (result, the instruction reversed, source)

The reversed instruction is the row's own (column "reverse_instruction"), or of
the rules in instructions.py, or a model's. Each check is asked of the pair; a
reverse pair shows the same two pictures, so only its judge is asked again. An
edit with several sources has no reverse, nor what these checks are asked of: it
is left out, and counted as that.
"""

from collections.abc import Iterator, Mapping
import dataclasses
from typing import Any

from emma_jax.data.curation import answers as answers_lib
from emma_jax.data.curation import instructions
from emma_jax.data.curation.answers import Answers, Missing
from emma_jax.data.curation.base import Ask, Construction, need_editing, noted
from emma_jax.data.curation.filters import ScoreRule
from emma_jax.data.ingest.part import Converted, Skipped
from emma_jax.data.records import schema
from emma_jax.structs import Editing

# A reverse pair's id is the pair's with this behind it.
REVERSED = "-reversed"
_COLUMN = "reverse_instruction"


@dataclasses.dataclass(frozen=True, kw_only=True)
class EditPairs(Construction):
  """Keeps edits that pass the checks, and adds their reverse.

  Args:
    reverse: also write the reverse pair.
    reversals: gives {"instruction": ...} where neither row nor rules do; null:
      the edit cannot be undone.
    judge: score of an edit; of its reverse, too, by the reverse's id.
    ocr: reads {"source": [...], "target": [...]}; asked of edits of text only.
    face: score of an edit; null where there are no people.
    missing: what becomes of a pair without an answer.
  """

  reverse: bool = True
  reversals: Answers | None = None
  judge: ScoreRule | None = None
  ocr: Answers | None = None
  face: ScoreRule | None = None
  missing: Missing = "error"

  def asks(self) -> Iterator[Ask]:
    """Both pictures are shown; the judge sees the reverse pair, too."""
    for one in super().asks():
      twice = self.reverse and self.judge and one.remote is self.judge.answers
      yield Ask(one.remote, 2 if twice else 1, 2)

  def make(
    self, row: Mapping[str, Any], where: str, path: str
  ) -> Iterator[Converted | Skipped]:
    """The pairs of a row; `reverse_instruction` is taken where it has one."""
    for made in self.base.make(row, where, path):
      if isinstance(made, Skipped):
        yield made
      else:
        given = row.get(_COLUMN) or made.stored.provenance.get(_COLUMN)
        yield from self.pair(made, where, given)

  def pair(
    self, made: Converted, where: str, given: str | None = None
  ) -> Iterator[Converted | Skipped]:
    """The pair and its reverse, or why not; `given`: reversed instruction."""
    record = need_editing(made, where)
    if len(record.sources) > 1:
      yield Skipped(
        "several sources",
        f"{len(record.sources)} sources: checks and reverses are of one",
      )
      return
    out = self.misread(made.stored, where)
    for rule in (self.face, self.judge):
      if rule and not out:
        made, out = rule.check(made, where, self.missing)
    if out:
      yield out
      return
    yield made
    if not self.reverse or record.id.endswith(REVERSED):
      return
    instruction, by = self.reversed_instruction(made.stored, where, given)
    if not instruction:
      yield Skipped("no reversal", f"nothing undoes {record.instruction!r}")
      return
    back = turned(made, instruction, by)
    out = None
    if self.judge:
      back, out = self.judge.check(back, where, self.missing)
    yield out._replace(kind=f"reverse: {out.kind}") if out else back

  def reversed_instruction(
    self, stored: schema.Stored, where: str, given: str | None = None
  ) -> tuple[str | None, str]:
    """(what undoes the edit, if anything; what says so)."""
    if given:
      return given, "row"
    found = instructions.reverse(_edit(stored).instruction)
    if found:
      return found, "rules"
    if self.reversals is None:
      return None, ""
    answer = answers_lib.ask(
      _Instruction(self.reversals), stored, where, self.missing
    )
    return (answer or {}).get("instruction"), "answer"

  def misread(self, stored: schema.Stored, where: str) -> Skipped | None:
    """Why the pictures' words are not those of an edit of text."""
    edit = instructions.text_edit(_edit(stored).instruction)
    if self.ocr is None or edit is None:
      return None
    read = answers_lib.ask(_Words(self.ocr), stored, where, self.missing)
    if read is None:
      if self.missing == "keep":
        return None
      return Skipped("no ocr", "nobody has read its pictures")
    for words, side, there in (
      (edit.old, "source", True),
      (edit.old, "target", False),
      (edit.new, "source", False),
      (edit.new, "target", True),
    ):
      if words and instructions.contains(read[side], words) != there:
        # "a b" to "a b c": the new words hold the old ones.
        if not there and self._inside(edit, words):
          continue
        verb = "lacks" if there else "still has" if side == "target" else "has"
        return Skipped("ocr", f"the {side} {verb} {words!r}: {read[side]}")
    return None

  def _inside(self, edit: instructions.TextEdit, words: str) -> bool:
    other = edit.new if words == edit.old else edit.old
    return instructions.contains([other], words) if other else False


def turned(made: Converted, instruction: str, by: str) -> Converted:
  """The reverse pair; the checks' scores are the pair's."""
  record = _edit(made.stored)
  assert record.target is not None  # a stored edit has both pictures
  back = Editing(
    sources=(record.target,),
    instruction=instruction,
    target=record.source,
    id=f"{record.id}{REVERSED}",
  )
  stored = dataclasses.replace(made.stored, record=back)
  stored = noted(stored, reversed_of=record.id, reversed_by=by)
  return Converted(stored, list(made.sizes)[::-1])


def _edit(stored: schema.Stored) -> Editing:
  """The record of a pair, which EditPairs has looked at."""
  assert isinstance(stored.record, Editing)
  return stored.record


@dataclasses.dataclass(frozen=True)
class _Instruction:
  answers: Answers

  def answer(self, stored: schema.Stored, where: str) -> dict[str, str | None]:
    found = self.answers.answer(stored, where)
    return {"instruction": answers_lib.text(found, "instruction", where)}


@dataclasses.dataclass(frozen=True)
class _Words:
  answers: Answers

  def answer(self, stored: schema.Stored, where: str) -> dict[str, list[str]]:
    found = self.answers.answer(stored, where)
    return {
      side: answers_lib.texts(found, side, where)
      for side in ("source", "target")
    }
