"""TextVQA: short answers about text in photographs, as ten people gave them.

Prompts and limits:

  vlmevalkit  open-compass/VLMEvalKit, vlmeval/dataset/image_vqa.py,
              `ImageVQADataset.build_prompt`; limits an answer nowhere
  lmms_eval   EvolvingLMMs-Lab/lmms-eval, lmms_eval/tasks/textvqa/
              _default_template_textvqa_yaml and utils.py: the question with
              its first letter alone in upper case; an answer ends at
              "ASSISTANT:", its length is left to the model's class, 128 tokens
              in lmms_eval/models/simple/qwen3_vl.py
"""

from collections.abc import Sequence

from emma_jax.benchmarks.items import Item
from emma_jax.benchmarks.protocols import free_answers
from emma_jax.benchmarks.scoring import registry, vqa
from emma_jax.benchmarks.suite import Benchmark, Case, Request, Score

PEOPLE = 10
_REMEDY = "score the validation split, whose answers are public"


def _lmms_eval(item: Item) -> Request:
  told = {"post_prompt": free_answers.SHORT_ANSWER}
  return Request(
    text=vqa.lmms_prompt(item.question, told), pictures=item.pictures
  )


def _score(case: Case) -> Sequence[Score]:
  accuracy = registry.find("TextVQA", "vqa_accuracy", case.impl)
  answers = free_answers.references(case, _REMEDY)
  if len(answers) != PEOPLE:
    # With few of them a right answer could not score 1.
    raise ValueError(
      f"{case.set_name}, item {case.item.id}: {len(answers)} answers, not "
      f"{PEOPLE}; the file is damaged or of another set, download it again."
    )
  return free_answers.each(case, lambda text: accuracy(answers, text))


BENCHMARKS: tuple[Benchmark, ...] = (
  Benchmark(
    name="textvqa",
    kind="understanding",
    task="ask",
    # The rows that EMMA compares with are VLMEvalKit's; mmf's rule is that of
    # the set's authors. GT-Vision's script, the official one of VQA, scores no
    # TextVQA: it needs columns that the set has not.
    impls=("vlmevalkit", "mmf", "lmms_eval"),
    prompts={
      "vlmevalkit": free_answers.prompt(after=free_answers.SHORT_ANSWER),
      "lmms_eval": _lmms_eval,
      "plain": free_answers.prompt(),
    },
    max_tokens=128,
    stop=("ASSISTANT:",),
    score=_score,
    protocol=(
      "VQA accuracy against ten people on the validation split's 5,000 "
      "questions, without the set's OCR tokens; no judge. EMMA's paper names "
      "neither toolkit nor prompt; two rows it compares with are VLMEvalKit's."
    ),
  ),
)
