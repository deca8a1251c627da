"""AI2D and MMStar: one letter a question.

vlmevalkit  VLMEvalKit, vlmeval/dataset/image_mcq.py (`build_prompt`,
            `evaluate_heuristic`) and utils/multiple_choice.py: rules, else
            a judge; the mean over all
lmms_eval   0.7.3, tasks/{ai2d,mmstar}/utils.py: rules alone; MMStar is the
            mean over its 18 l2-categories of their means
original    MMStar-Benchmark/MMStar, eval/vlmeval/evaluate/mmstar.py: rules
            alone; its prompt is VLMEvalKit's
"""

from collections.abc import Mapping, Sequence
import re
import string

from emma_jax.benchmarks.items import Item
from emma_jax.benchmarks.protocols import matching
from emma_jax.benchmarks.scoring import choice, choice_prompts
from emma_jax.benchmarks.scoring.missing import NA_TEXTS
from emma_jax.benchmarks.suite import Benchmark, Case, Made, Request, Score

# lmms-eval's of MMBench. For AI2D it stops at 16, which its own rule does not
# notice, but a sentence that ends with the letter would lose it.
MAX_TOKENS = 1024

# ------------------------------------------------------------------- prompts


def vlmevalkit_text(
  question: str, options: Mapping[str, str], hint: str = ""
) -> str:
  """VLMEvalKit's text of a question, its loss of options "None" included."""
  return choice_prompts.vlmevalkit(
    {
      "question": question,
      "hint": None if hint in NA_TEXTS else hint,
      **matching.pandas_options(options),
    }
  )


def _ai2d_vlmevalkit(item: Item) -> Request:
  text = vlmevalkit_text(item.question, item.options)
  return Request(text=text, pictures=item.pictures)


def _ai2d_lmms(item: Item) -> Request:
  text = choice_prompts.ai2d_lmms(item.question, list(item.options.values()))
  return Request(text=text, pictures=item.pictures)


_HEADER = re.compile(r"\n\s*(?:Options|Choices):\s*")


def split_options(text: str) -> tuple[str, dict[str, str]]:
  """The question and the options of MMStar's text on the hub.

  VLMEvalKit's table has them apart.

  >>> split_options("Which?\\nOptions: A: red, B: light blue")
  ('Which?', {'A': 'red', 'B': 'light blue'})

  Returns:
    The whole text and no options, where fewer than two are found.
  """
  headers = list(_HEADER.finditer(text))
  if not headers:
    return text, {}
  listed = text[headers[-1].end() :]
  marks: list[re.Match[str]] = []
  for letter in string.ascii_uppercase:
    mark = re.compile(rf"(?:^|(?<=[\s,]))\(?{letter}[:.)]\s*").search(
      listed, marks[-1].end() if marks else 0
    )
    if not mark:
      break
    marks.append(mark)
  if len(marks) < 2:
    return text, {}
  ends = [*(mark.start() for mark in marks[1:]), len(listed)]
  return text[: headers[-1].start()], {
    letter: listed[mark.end() : end].strip().rstrip(",")
    for letter, mark, end in zip(string.ascii_uppercase, marks, ends)
  }


def _mmstar_parts(item: Item) -> tuple[str, Mapping[str, str]]:
  if item.options:
    return item.question, item.options
  return split_options(item.question)


def _mmstar_vlmevalkit(item: Item) -> Request:
  text = vlmevalkit_text(*_mmstar_parts(item))
  return Request(text=text, pictures=item.pictures)


def _mmstar_lmms(item: Item) -> Request:
  text = item.question
  if item.options:  # as the hub's table has them
    options = ", ".join(f"{k}: {v}" for k, v in item.options.items())
    text = f"{text}\nOptions: {options}"
  after = "\n" + choice_prompts.DIRECT.removesuffix(".")  # theirs has no period
  text = choice_prompts.mmstar_lmms(text, {"post_prompt": after})
  return Request(text=text, pictures=item.pictures)


# ------------------------------------------------------------------- scores


def _ai2d(case: Case, made: Made) -> Score:
  answer = matching.reference(case.item)
  if case.impl == "vlmevalkit":
    return matching.by_vlmevalkit(case, made, answer, case.item.options)
  exact_match = choice.SCORERS["AI2D", "exact_match", "lmms_eval"]
  return Score(value=exact_match(answer, made.text)["score"])


def _mmstar(case: Case, made: Made) -> Score:
  answer = matching.reference(case.item)
  if case.impl == "vlmevalkit":
    question, options = _mmstar_parts(case.item)
    # Options of a form that is not known here are read by their letters alone.
    options = options or {letter: f"({letter})" for letter in "ABCD"}
    return matching.by_vlmevalkit(case, made, answer, options, question)
  metric = choice.SCORERS["MMStar", "letter_match", case.impl]
  return Score(value=float(metric(answer, made.text)))


def _score_ai2d(case: Case) -> Sequence[Score]:
  return [_ai2d(case, made) for made in case.made]


def _score_mmstar(case: Case) -> Sequence[Score]:
  return [_mmstar(case, made) for made in case.made]


# --------------------------------------------------------------- aggregates


def l2_category(item: Item) -> str:
  """Its name, "" without one; tables write the column either way."""
  value = item.meta.get("l2-category") or item.meta.get("l2_category")
  return str(value or "")


def two_categories(item: Item) -> Mapping[str, str]:
  """The columns l2-category and category, as far as an item has them."""
  found = {
    "category": str(item.meta.get("category") or ""),
    "l2-category": l2_category(item),
  }
  return {column: value for column, value in found.items() if value}


BENCHMARKS = (
  Benchmark(
    name="ai2d",
    kind="understanding",
    task="ask",
    # Papers print VLMEvalKit's AI2D_TEST.
    impls=("vlmevalkit", "lmms_eval"),
    prompts={"vlmevalkit": _ai2d_vlmevalkit, "lmms_eval": _ai2d_lmms},
    max_tokens=MAX_TOKENS,
    score=_score_ai2d,
    judge="choice",
    fallback=True,
    protocol=(
      "Pictures with masked labels (AI2D_TEST), greedy answers; VLMEvalKit "
      "asks gpt-4o-mini, at temperature 0, what its rules cannot read."
    ),
  ),
  Benchmark(
    name="mmstar",
    kind="understanding",
    task="ask",
    # Papers print VLMEvalKit's; MMStar's own script takes "An apple" for A.
    impls=("vlmevalkit", "original", "lmms_eval"),
    prompts={
      "vlmevalkit": _mmstar_vlmevalkit,
      "lmms_eval": _mmstar_lmms,
      "original": _mmstar_vlmevalkit,
    },
    max_tokens=MAX_TOKENS,
    score=_score_mmstar,
    stratum=lambda item, impl: l2_category(item) if impl == "lmms_eval" else "",
    categories=two_categories,
    judge="choice",
    fallback=True,
    protocol=(
      "1,500 questions, greedy answers; VLMEvalKit asks gpt-4o-mini, at "
      "temperature 0, what its rules cannot read. lmms-eval averages over "
      "l2-categories."
    ),
  ),
)
