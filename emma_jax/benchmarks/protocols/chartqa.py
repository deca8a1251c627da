"""ChartQA: short answers about charts, numbers within five percent.

Prompts and limits:

  vlmevalkit  open-compass/VLMEvalKit, vlmeval/dataset/image_vqa.py,
              `ImageVQADataset.build_prompt`; limits an answer nowhere
  lmms_eval   EvolvingLMMs-Lab/lmms-eval, lmms_eval/tasks/chartqa/chartqa.yaml:
              16 tokens. Its harness's stop string, an empty line, is none of
              the task's (its qwen2_5_vl.py leaves it out): not taken over.
"""

from collections.abc import Mapping, Sequence

from emma_jax.benchmarks.items import Item
from emma_jax.benchmarks.protocols import free_answers
from emma_jax.benchmarks.scoring import registry
from emma_jax.benchmarks.suite import Benchmark, Case, Score

_REMEDY = "score a copy of the set that has its column of answers"


def _answers(case: Case) -> Sequence[str]:
  """References; VLMEvalKit alone takes "[2014, 2016]" for two of them."""
  found = free_answers.references(case, _REMEDY)
  if case.impl == "vlmevalkit":
    # A cell with one text can be lost, a list is never taken for missing.
    return [free_answers.as_read(case, found[0])] if len(found) == 1 else found
  column = case.item.meta.get("answer")
  # Of several that the file has as one text; a list of one is a text anyway.
  return [column] if len(found) > 1 and isinstance(column, str) else found


def _score(case: Case) -> Sequence[Score]:
  relaxed = registry.find("ChartQA", "relaxed_accuracy", case.impl)
  answers = _answers(case)
  return free_answers.each(
    case, lambda text: max(relaxed(a, text) for a in answers)
  )


def _half(item: Item) -> Mapping[str, str]:
  """Questions by people, or made from their captions by a model.

  The column is "split" (test_human) in VLMEvalKit's file, "type" (human_test)
  on the hub.
  """
  name = f"{item.meta.get('split', '')} {item.meta.get('type', '')}".lower()
  for half in ("human", "augmented"):
    if half in name:
      return {"half": half}
  return {}


BENCHMARKS: tuple[Benchmark, ...] = (
  Benchmark(
    name="chartqa",
    kind="understanding",
    task="ask",
    # The rows that EMMA compares with are VLMEvalKit's; pix2struct's rule, from
    # which all come, differs from it by white space and lists alone.
    impls=("vlmevalkit", "pix2struct", "lmms_eval"),
    prompts={
      "vlmevalkit": free_answers.prompt(after=free_answers.SHORT_ANSWER),
      "lmms_eval": free_answers.prompt(
        after="\nAnswer the question with a single word."
      ),
      "plain": free_answers.prompt(),
    },
    max_tokens=16,
    score=_score,
    categories=_half,
    protocol=(
      "Relaxed accuracy (5%) on the test split's 2,500 questions, which is the "
      "mean of its human and augmented halves of 1,250; no judge. EMMA's paper "
      "names neither toolkit nor prompt; two rows it compares with are "
      "VLMEvalKit's."
    ),
  ),
)
