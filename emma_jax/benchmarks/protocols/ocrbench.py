"""OCRBench: 1,000 questions, right where the answer contains a reference.

Prompts and limits:

  vlmevalkit  open-compass/VLMEvalKit, vlmeval/dataset/image_vqa.py, `OCRBench`
              with `ImageBaseDataset.build_prompt` of image_base.py: the
              question as it is; limits an answer nowhere
  lmms_eval   EvolvingLMMs-Lab/lmms-eval, lmms_eval/tasks/ocrbench/utils.py and
              ocrbench.yaml: without white space about it, 128 tokens
"""

from collections.abc import Mapping, Sequence

from emma_jax.benchmarks.items import Item
from emma_jax.benchmarks.protocols import free_answers
from emma_jax.benchmarks.scoring import registry
from emma_jax.benchmarks.scoring.containment import FORMULAE, RECOGNITION
from emma_jax.benchmarks.suite import Benchmark, Case, Request, Score

_REMEDY = "score a copy of the set that has its column of answers"


def _category(item: Item) -> str:
  return str(item.meta.get("category", ""))


def _dataset(item: Item) -> str:
  """Where the question is from; VLMEvalKit's file does not say.

  What matters of it is whether it is HME100k, the one with all the formulae
  and nothing else.
  """
  formula = _category(item) == FORMULAE
  return str(item.meta.get("dataset") or ("HME100k" if formula else ""))


def _lmms_eval(item: Item) -> Request:
  return Request(text=item.question.strip(), pictures=item.pictures)


def _score(case: Case) -> Sequence[Score]:
  contains = registry.find("OCRBench", "contains", case.impl)
  answers = list(free_answers.references(case, _REMEDY))
  return free_answers.each(
    case,
    lambda text: float(
      contains(
        dataset=_dataset(case.item),
        question_type=_category(case.item),
        answers=answers,
        prediction=text,
      )
    ),
  )


def _groups(item: Item) -> Mapping[str, str]:
  """The leaderboard's five groups, and the six parts of its first."""
  name = _category(item)
  if name in RECOGNITION:
    return {"group": "Text Recognition", "recognition": name}
  return {"group": name} if name else {}


BENCHMARKS: tuple[Benchmark, ...] = (
  Benchmark(
    name="ocrbench",
    kind="understanding",
    task="ask",
    # The rows that EMMA compares with are VLMEvalKit's; on the set's own file
    # its rule is the original's.
    impls=("vlmevalkit", "original", "lmms_eval"),
    prompts={
      "vlmevalkit": free_answers.prompt(),
      "lmms_eval": _lmms_eval,
      "plain": free_answers.prompt(),
    },
    max_tokens=128,
    score=_score,
    scale=1000.0,
    unit="",
    categories=_groups,
    protocol=(
      "Answers that contain a reference, of 1,000 questions; no judge. EMMA's "
      "paper prints a tenth of it, 89.0, and names no toolkit; two rows it "
      "compares with are VLMEvalKit's."
    ),
  ),
)
