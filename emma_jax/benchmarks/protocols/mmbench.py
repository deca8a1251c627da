"""MMBench: a question counts if all its rolls are right.

The rows of one question are its rolls, the options moved on by one each time;
they are asked and scored one by one, and merged.

  vlmevalkit         VLMEvalKit, vlmeval/dataset/utils/multiple_choice.py
                     (`mcq_circular_eval`): rules, else a judge
  ms_vlmeval_0.0.20  the same, with that package's older rules
  lmms_eval          0.7.3, tasks/mmbench/mmbench_evals.py (`eval_result`):
                     its own rules, else a judge
  lmms_eval_static   0.7.3, its task mmbench_en_dev_static: without a judge

Where a roll is wrong by rules the originals ask no judge about the others. The
result is the same here; only calls are saved there.
"""

from collections.abc import Sequence
import dataclasses
from typing import Any

from emma_jax.benchmarks.items import Item
from emma_jax.benchmarks.protocols import matching
from emma_jax.benchmarks.protocols.choice import (
  MAX_TOKENS,
  two_categories,
  vlmevalkit_text,
)
from emma_jax.benchmarks.records import BadRun, Outcome
from emma_jax.benchmarks.scoring import choice_judge, choice_prompts, circular
from emma_jax.benchmarks.suite import Benchmark, Case, Made, Request, Score

_REMEDY = (
  "The copies on the hub have none for MMBench's test splits; the TSV files of "
  "VLMEvalKit (MMBench_TEST_EN_V11.tsv and so on, of June 2026 or later) have."
)
_LETTERS = "ABCD"  # lmms-eval looks at no others
_DIRECT_CN = "请直接使用所提供的选项字母作为答案回答。"


def _vlmevalkit(item: Item) -> Request:
  hint = str(item.meta.get("hint") or "")
  text = vlmevalkit_text(item.question, item.options, hint)
  return Request(text=text, pictures=item.pictures)


def _lmms(item: Item, after: str = choice_prompts.DIRECT) -> Request:
  doc = {
    "question": item.question,
    "hint": item.meta.get("hint") or None,
    **item.options,
  }
  # Its post_prompt begins with a line break of its own.
  text = choice_prompts.mmbench_lmms(doc, f"\n{after}")
  return Request(text=text, pictures=item.pictures)


def _lmms_cn(item: Item) -> Request:
  # "There are several options:" is English in its Chinese task, too.
  return _lmms(item, _DIRECT_CN)


def _lmms_row(item: Item, made: Made) -> dict[str, Any]:
  # Its table says "nan" for no option, which it takes for an option's text.
  options = {x: item.options.get(x, "nan") for x in _LETTERS}
  return {
    **options,
    "question": item.question,
    "answer": item.answers[0],
    "prediction": made.text.strip(),
  }


def _roll(case: Case, made: Made) -> Score:
  item = case.item
  answer = matching.reference(item, _REMEDY)
  if case.impl in matching.RULES:
    return matching.by_vlmevalkit(case, made, answer, item.options)
  row = _lmms_row(item, made)
  if case.impl == "lmms_eval_static":
    return Score(value=float(circular.all_right_lmms([row])))
  return matching.judged(
    case,
    made,
    answer,
    (*_LETTERS, "E"),  # none of them
    lambda judge: choice_judge.resolve_lmms(row, judge),
    "match_lmms",
  )


def _score(case: Case) -> Sequence[Score]:
  number = {"options": float(len(case.item.options))}
  scores = [_roll(case, made) for made in case.made]
  return [
    dataclasses.replace(score, parts={**score.parts, **number})
    for score in scores
  ]


def merge(rolls: Sequence[Outcome]) -> Outcome:
  """The outcome of a question: right if all its rolls are.

  A failed roll makes it wrong, and a failure; of several the first roll's kind
  is told. Categories are those of the question's own row, as in VLMEvalKit.

  Args:
    rolls: of one group, repeat and implementation, in any order.

  Raises:
    BadRun: a roll is missing, or there twice: a question has as many as it has
      options.
  """
  rolls = sorted(rolls, key=lambda roll: int(roll.id))
  first = rolls[0]
  numbers = [int(roll.id) // circular.ROLL for roll in rolls]
  # A roll whose prediction failed was never looked at, and has no parts.
  known = [int(r.parts["options"]) for r in rolls if "options" in r.parts]
  wanted = max(known, default=len(rolls))
  if numbers != list(range(wanted)):
    raise BadRun(
      f"Question {first.cluster} of MMBench has the rolls {numbers} of "
      f"0 to {wanted - 1}, one for each option. The table is incomplete, or a "
      "limit cut it within a question: give the whole file, or limit it to "
      "whole questions."
    )
  failure = next((roll.failure for roll in rolls if roll.failure), "")
  right = [roll.score == 1 and not roll.failure for roll in rolls]
  parts = {"rolls": float(len(rolls)), "right": float(sum(right))}
  guessed = sum(roll.parts.get("guessed", 0.0) for roll in rolls)
  if guessed:
    parts["guessed"] = guessed
  return dataclasses.replace(
    first,
    id=first.cluster,
    score=float(all(right)),
    parts=parts,
    failure=failure,
  )


BENCHMARKS = (
  Benchmark(
    name="mmbench",
    kind="understanding",
    task="ask",
    # Papers print VLMEvalKit's, or the old server's, which ran its code.
    impls=("vlmevalkit", "lmms_eval", "lmms_eval_static", "ms_vlmeval_0.0.20"),
    prompts={
      "vlmevalkit": _vlmevalkit,
      "lmms_eval": _lmms,
      "lmms_eval_cn": _lmms_cn,
    },
    max_tokens=MAX_TOKENS,
    stop=("ASSISTANT:",),  # lmms-eval's
    score=_score,
    categories=two_categories,
    merge=merge,
    judge="choice",
    fallback=True,
    protocol=(
      "Circular, greedy answers; what rules cannot read goes to gpt-4o-mini "
      "(VLMEvalKit) or gpt-4o-2024-11-20 (lmms-eval) at temperature 0. Four "
      "splits, two versions: a number says little without their names."
    ),
  ),
)
