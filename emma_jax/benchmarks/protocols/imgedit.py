"""ImgEdit-Bench, its basic part: 737 edits of nine types, three marks each.

original   PKU-YuanGroup/ImgEdit, Benchmark/Basic: basic_bench.py asks,
           step1_get_avgscore.py and step2_typescore.py average: the mean mark
           of an edit, of a type, of the nine types
lmms_eval  0.7.3, tasks/imgedit/utils.py: its own reading of the reply, and the
           mean over edits

Marks go from 1 to 5. An edit without marks counts 1, the lowest there is, under
both: the original leaves it out, lmms-eval counts 0, which no judge can give.
Marks beyond 1..5 are none, except with `quirks`. The original rounds to two
decimals on the way: here it does so with `quirks`, and edits alone; means of
types are not rounded.

Its other parts, UGE and multi-turn edits, are not here.
"""

from collections.abc import Mapping, Sequence

from emma_jax.benchmarks.items import Item
from emma_jax.benchmarks.protocols import edits
from emma_jax.benchmarks.scoring import imgedit
from emma_jax.benchmarks.suite import (
  Benchmark,
  Case,
  Made,
  NoReply,
  Request,
  Score,
  each,
)

_LOWEST, _HIGHEST = 1.0, 5.0


def _type(item: Item) -> str:
  name = str(item.meta.get("category", ""))
  return imgedit.RENAMED.get(name, name)


def _plain(item: Item) -> Request:
  _prompt(item, "original")  # an unknown type raises before hours of drawing
  return edits.plain(item)


def _prompt(item: Item, impl: str) -> str:
  edit_type = _type(item)
  text = imgedit.judge_prompt(edit_type, "<edit_prompt>")
  if impl == "lmms_eval" and edit_type == "replace":
    text = text.replace("’", "'")  # the one letter it has otherwise
  return text.replace("<edit_prompt>", item.question)


def _score(case: Case) -> list[Score]:
  return each(case, _one, lowest=_LOWEST)


def _one(case: Case, made: Made) -> Score:
  lmms = case.impl == "lmms_eval"
  reply = edits.ask(
    case,
    made,
    "lmms_marks" if lmms else "marks",
    _prompt(case.item, case.impl),
    [edits.upright(*picture) for picture in edits.both(case, made)],
    **({"max_tokens": 512, "temperature": 0.1} if lmms else {}),
  )
  marks = _lmms_marks(reply) if lmms else _marks(reply)
  if not case.quirks and not all(_LOWEST <= x <= _HIGHEST for x in marks):
    raise NoReply("unparsable", f"marks {marks} in {reply!r:.200}")
  value = sum(marks) / len(marks)
  if case.quirks and not lmms:
    value = round(value, 2)
  named = {f"score{n}": float(x) for n, x in enumerate(marks, 1)}
  return Score(value=value, parts=named if len(marks) == 3 else {})


def _marks(reply: str) -> Sequence[float]:
  """All that the original reads: fewer or more than three marks too."""
  try:
    found = imgedit.marks(reply)
  except ValueError:  # digits that are no number; the original stops
    found = []
  if not found:
    raise NoReply("unparsable", f"no marks in {reply!r:.200}")
  return found


def _lmms_marks(reply: str) -> Sequence[float]:
  found = imgedit.lmms_parse(reply)
  if not any(found):  # how it says that there are none
    raise NoReply("unparsable", f"no three marks in {reply!r:.200}")
  return found


def _categories(item: Item) -> Mapping[str, str]:
  return {"category": _type(item)}


BENCHMARKS: tuple[Benchmark, ...] = (
  Benchmark(
    name="imgedit",
    kind="editing",
    task="edit",
    impls=("original", "lmms_eval"),
    prompts={"plain": _plain},
    score=_score,
    lowest=_LOWEST,
    scale=1.0,
    unit="",
    stratum=lambda item, impl: _type(item) if impl == "original" else "",
    categories=_categories,
    judge="rating",
    protocol=(
      "Published numbers are the original's, 1..5, by GPT-4.1 as its paper "
      "says, by gpt-4o as its script does, or by gpt-4o-2024-08-06 as its "
      "authors first did; lmms-eval's pages are by Qwen2.5-VL-72B-AWQ; rows "
      "that do not name their judge, and rows of two judges, must not be "
      "compared, and of two revisions of the instructions 57 differ."
    ),
  ),
)
