"""DocVQA and InfoVQA: short answers about pages, by edit distance (ANLS).

Prompts and limits:

  vlmevalkit  open-compass/VLMEvalKit, vlmeval/dataset/image_vqa.py,
              `ImageVQADataset.build_prompt`; limits an answer nowhere
  lmms_eval   EvolvingLMMs-Lab/lmms-eval, lmms_eval/tasks/docvqa/
              _default_template_docvqa_yaml and infovqa/
              _default_template_infovqa_yaml: the same text, 32 tokens

Answers of the test splits are on the server of the Robust Reading Competition
(RRC) alone.
"""

from collections.abc import Mapping, Sequence

from emma_jax.benchmarks.data.rows import listed
from emma_jax.benchmarks.items import Item
from emma_jax.benchmarks.protocols import free_answers
from emma_jax.benchmarks.scoring import registry
from emma_jax.benchmarks.suite import Benchmark, Case, Score

_REMEDY = "write a submission with `emma-benchmark export --to rrc`"


def _score(case: Case, title: str) -> Sequence[Score]:
  anls = registry.find(title, "anls", case.impl)
  answers = free_answers.references(case, _REMEDY)
  return free_answers.each(case, lambda text: anls(answers, text))


def _types(item: Item) -> Mapping[str, str]:
  """One column a type, as the RRC's tables: a question may be of several.

  They are "question_types" of DocVQA, "answer_type" of InfoVQA, on the hub.
  """
  column = item.meta.get("question_types") or item.meta.get("answer_type")
  return {kind: "yes" for kind in listed(column or ())}


def _benchmark(name: str, title: str, questions: str) -> Benchmark:
  return Benchmark(
    name=name,
    kind="understanding",
    task="ask",
    # VLMEvalKit's and lmms-eval's rule is one, and what papers print of the
    # validation split; of the test split it is the RRC server's own.
    impls=("vlmevalkit", "lmms_eval", "pix2struct", "mmf_stvqa"),
    prompts={
      "vlmevalkit": free_answers.prompt(after=free_answers.SHORT_ANSWER),
      "lmms_eval": free_answers.prompt(after=free_answers.SHORT_ANSWER),
      "plain": free_answers.prompt(),
    },
    max_tokens=32,
    score=lambda case: _score(case, title),
    categories=_types,
    protocol=(
      f"ANLS on the validation split's {questions}; no judge. Papers print "
      "either that or the RRC server's number of the test split, and EMMA's "
      "says neither which split nor which toolkit it used."
    ),
  )


BENCHMARKS: tuple[Benchmark, ...] = (
  _benchmark("docvqa", "DocVQA", "5,349 questions"),
  _benchmark("infovqa", "InfoVQA", "2,801 questions"),
)
