"""RISEBench: 360 edits that take reasoning; a judge asks three questions each.

Is what should stay still there (consistency), is the edit what reasoning asks
for (reasoning), does the picture look real (plausibility)? Accomplished is an
edit with the best mark in all that are needed. Source: PhoenixZ810/RISEBench,
gpt_eval.py (`eval_vanilla`, which asks) and `scoring.rise`, which see.

new  the rule since 2026-04-13, behind all numbers of its page today
old  the rule before: "consistency-free" edits are never accomplished
own  the new rule; the judge is asked in our words, of the same pictures and for
     the same marks, so that its numbers stand beside no published ones

new and old are of the same replies. The repository names no licence: its texts
are the user's to give (`user_prompts`, its utils.py as rise/utils.py).

Odd, and as in the original: where a picture is the reference, it takes the
source's place in the question on consistency too; `reasoning_img` only says
that reasoning is judged beside the source; the judge sees pictures of at most
768 pixels a side, as JPEG. With `quirks` alone: logical edits by a picture are
all judged without their instruction, since the original looks whether the table
has a column `reasoning_wo_ins`, not whether the edit has a value in it; and all
but logical edits are weighted as if they were consistency-free, since one is.
"""

from collections.abc import Mapping
import dataclasses
import re
from typing import Any

from PIL import Image

from emma_jax.benchmarks.items import BadItem, Item, Picture
from emma_jax.benchmarks.protocols import edits, user_prompts
from emma_jax.benchmarks.scoring import prompt_texts, rise
from emma_jax.benchmarks.suite import (
  Benchmark,
  Case,
  Made,
  NoReply,
  Request,
  Score,
  each,
)

_SIDE = 768  # pixels
_OPTIONS = {"temperature": 0, "max_tokens": 4096}

_LOWEST = 0.0
_WITHOUT_INSTRUCTION = "prompt_logical_img_wo_q"

# The original's texts -> our own, prompts/own_rise_*.txt.
_TEXTS = {
  "prompt_consist": "consistency",
  "prompt_spatial_cons": "consistency",
  "prompt_logical_cons": "logical_consistency",
  "prompt_logical_cons_ans": "logical_consistency",
  "prompt_reasoning": "reasoning",
  "prompt_reasoning_w_input": "reasoning_beside_source",
  "prompt_spatial_ref": "reasoning",
  "prompt_spatial_ref_w_input": "reasoning_beside_source",
  "prompt_spatial_ref_img": "reasoning_by_picture",
  "prompt_logical_txt": "logical_by_text",
  "prompt_logical_img": "logical_by_picture",
  _WITHOUT_INSTRUCTION: "logical_by_picture",
  "prompt_generation": "plausibility",
  "prompt_spatial_qual": "plausibility",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Questions:
  """What the judge is asked of an edit.

  Args:
    before: the picture the edited one is compared with.
    reference: what the edit should show, in words.
    consistency, reasoning, plausibility: names of texts; "" is not asked.
    beside: whether `before` is shown with `reasoning` too.
  """

  before: Picture
  reference: str
  consistency: str
  reasoning: str
  plausibility: str
  beside: bool


def _category(item: Item) -> str:
  name = str(item.meta.get("category", ""))
  full = name if name.endswith("_reasoning") else f"{name}_reasoning"
  if full not in rise.CATEGORIES:
    raise BadItem(
      f"Edit {item.id!r}: {name!r} is no category of RISEBench; those are "
      f"{', '.join(rise.CATEGORIES)}."
    )
  return full


def _has(item: Item, column: str) -> bool:
  """Whether there is a value, whatever it is: not None, and not NaN."""
  value = item.meta.get(column)
  return value is not None and value == value


def _text(item: Item, column: str) -> str:
  if not _has(item, column):
    raise BadItem(
      f"Edit {item.id!r} has no {column}, which it is judged by. Give what the "
      "original's JSON has."
    )
  return str(item.meta[column])


def _reference_picture(item: Item) -> Picture:
  """The item's second."""
  named = _text(item, "reference_img")
  if len(item.pictures) < 2:
    raise BadItem(
      f"Edit {item.id!r} is judged by the picture {named!r}, which the item "
      "does not have. Give it as the item's second picture."
    )
  return item.pictures[1]


def _free(item: Item) -> bool:
  """Whether the source's looks need not be kept; never of logical edits."""
  return _category(item) != rise.LOGICAL and _has(item, "consistency_free")


def _questions(item: Item, quirks: bool) -> _Questions:
  category, source = _category(item), item.pictures[0]
  if category == rise.LOGICAL:
    return _logical(item, quirks)
  spatial = category == "spatial_reasoning"
  common: dict[str, Any] = {
    "consistency": "prompt_spatial_cons" if spatial else "prompt_consist",
    "plausibility": "prompt_spatial_qual" if spatial else "prompt_generation",
  }
  if _free(item):
    common["consistency"] = ""
  if spatial and _has(item, "reference_img"):
    return _Questions(
      before=_reference_picture(item),
      reference="",
      reasoning="prompt_spatial_ref_img",
      beside=True,
      **common,
    )
  beside = _has(item, "reasoning_img")
  name = "prompt_spatial_ref" if spatial else "prompt_reasoning"
  return _Questions(
    before=source,
    reference=_text(item, "reference"),
    reasoning=f"{name}_w_input" if beside else name,
    beside=beside,
    **common,
  )


def _logical(item: Item, quirks: bool) -> _Questions:
  if _has(item, "reference_txt"):
    return _Questions(
      before=item.pictures[0],
      reference=_text(item, "reference_txt"),
      consistency="prompt_logical_cons_ans",
      reasoning="prompt_logical_txt",
      plausibility="",
      beside=False,
    )
  alone = quirks or _has(item, "reasoning_wo_ins")
  return _Questions(
    before=_reference_picture(item),
    reference="",
    consistency="prompt_logical_cons",
    reasoning=_WITHOUT_INSTRUCTION if alone else "prompt_logical_img",
    plausibility="",
    beside=True,
  )


def _plain(item: Item) -> Request:
  _questions(item, False)  # before hours of drawing, not after
  return edits.plain(item)


def _score(case: Case) -> list[Score]:
  return each(case, _one, lowest=_LOWEST)


def _one(case: Case, made: Made) -> Score:
  category, free = _category(case.item), _free(case.item)
  given = rise.marks(category, *_replies(case, made))
  if given is None or not _possible(given):
    raise NoReply("unparsable", f"no marks of a {category} edit: {given}")
  rule: rise.Rule = "old" if case.impl == "old" else "new"
  as_free = free or (case.quirks and category != rise.LOGICAL)
  marks = {
    "consistency": given.consistency,
    "reasoning": given.reasoning,
    "plausibility": given.plausibility,
    "score": rise.weighted(category, given, as_free),
  }
  return Score(
    value=float(rise.accomplished(category, given, free, rule)),
    # As the original prints them beside the accuracy: 1..5 becomes 0..100 %.
    parts={k: (x - 1) / 4 for k, x in marks.items() if x is not None},
  )


def _possible(given: rise.Marks) -> bool:
  marks = (given.consistency, given.reasoning, given.plausibility)
  return all(1 <= mark <= rise.BEST for mark in marks if mark is not None)


def _replies(case: Case, made: Made) -> tuple[str | None, str, str | None]:
  """On consistency, reasoning and plausibility; None where it is not asked."""
  asked = _questions(case.item, case.quirks)
  before = _shown(asked.before.bytes(), asked.before.where)
  after = _shown(*edits.edited(case, made))
  values = {"instruct": case.item.question, "reference": asked.reference}
  own = case.impl == "own"

  def reply(part: str, name: str, *pictures: bytes) -> str:
    text = (
      prompt_texts.read(f"own_rise_{_TEXTS[name]}")
      if own
      else user_prompts.text(f"rise/{name}", "utils.py of RISEBench")
    )
    # In one pass: braces of an instruction stay.
    text = re.sub(r"\{(instruct|reference)\}", lambda m: values[m[1]], text)
    name = f"own_{part}" if own else part
    return edits.ask(case, made, name, text, pictures, **_OPTIONS)

  kept, looks = asked.consistency, asked.plausibility
  beside = (before, after) if asked.beside else (after,)
  alone = "_alone" if asked.reasoning == _WITHOUT_INSTRUCTION else ""
  return (
    reply("consistency", kept, before, after) if kept else None,
    reply(f"reasoning{alone}", asked.reasoning, *beside),
    reply("plausibility", looks, after) if looks else None,
  )


def _shown(data: bytes, where: str) -> bytes:
  picture: Image.Image = edits.decode(data, where)
  picture.thumbnail((_SIDE, _SIDE))
  return edits.encode(picture, "JPEG")


def _categories(item: Item) -> Mapping[str, str]:
  columns = {"category": _category(item).removesuffix("_reasoning")}
  if _has(item, "subtask"):
    columns["subtask"] = str(item.meta["subtask"])
  return columns


BENCHMARKS: tuple[Benchmark, ...] = (
  Benchmark(
    name="rise",
    kind="editing",
    task="edit",
    impls=("new", "old", "own"),
    prompts={"plain": _plain},
    score=_score,
    lowest=_LOWEST,
    categories=_categories,
    judge="rating",
    protocol=(
      "Published numbers are the accuracy over all edits, by "
      "gpt-4.1-2025-04-14 in the script and GPT-4o in the paper, under the new "
      "rule since 2026-04-23 and the old one before, by the original's texts, "
      "which show the pictures after them; rows of another rule or judge, of "
      "our own texts and of rewritten instructions must not be compared."
    ),
  ),
)
