"""MathVista: an answer is extracted, by rules or a judge, and compared.

  vlmevalkit  VLMEvalKit, vlmeval/dataset/utils/mathvista.py
  original    lupantech/MathVista, evaluation/{extract_answer,calculate_score}
  lmms_eval   0.7.3, tasks/mathvista/mathvista_evals.py: all floats are wrong

VLMEvalKit's table has the question with its hint ("Hint: ...\\nQuestion: ..."),
the hub's has it as column `query`, and the bare question beside.
"""

from collections.abc import Mapping, Sequence
import math
import operator
import re
import string
from typing import Any

from emma_jax.benchmarks.items import Item
from emma_jax.benchmarks.protocols import matching
from emma_jax.benchmarks.scoring import literals, mathvista
from emma_jax.benchmarks.scoring.mathvista_query import query
from emma_jax.benchmarks.suite import (
  Benchmark,
  Case,
  Made,
  NoReply,
  Request,
  Score,
  each,
)

_HINT = "Hint: "
_PLACES = re.compile(r"with (one|two) decimal place")

# ------------------------------------------------------------------ problems


def _field(item: Item, name: str) -> Any:
  of = item.meta.get("metadata")
  value = of.get(name) if isinstance(of, Mapping) else None
  return item.meta.get(name) if value is None else value


def _choices(item: Item) -> list[str]:
  if item.options:
    return list(item.options.values())
  listed = literals.as_list(item.meta.get("choices"))
  return [str(text) for text in listed or ()]


def _precision(item: Item) -> float:
  """Decimals of a float: of the column, of the hint, or of the reference.

  A float, as the hub's table has it, which is what lmms-eval stumbles over.
  """
  try:
    found = float(item.meta.get("precision") or math.nan)
  except ValueError:
    found = math.nan
  if not math.isnan(found):
    return found
  hint = _PLACES.search(item.question)
  if hint:
    return 1.0 if hint[1] == "one" else 2.0
  return float(len("".join(item.answers).partition(".")[2]))


def problem(item: Item) -> dict[str, Any]:
  """An item as `mathvista_query.query` takes it, its question without hint."""
  choices, question = _choices(item), item.question
  unit = item.meta.get("unit") or ""
  if question.startswith(_HINT):
    unit = ""  # the question says it
    question = question.partition("\n")[2].removeprefix("Question: ")
    if choices:
      question = question.rpartition("\nChoices:\n")[0] or question
  return {
    "question": question,
    "unit": unit,
    "choices": choices,
    "precision": _precision(item),
    "question_type": item.meta["question_type"],
    "answer_type": item.meta["answer_type"],
  }


def _hint_first(item: Item) -> str:
  """The column `query`: hint, question, choices."""
  if item.meta.get("query"):
    return item.meta["query"]
  if item.question.startswith(_HINT):
    return item.question
  body, _, hint = query(problem(item), "step-by-step").rpartition("\n")
  return f"{hint}\n{body}"


def _vlmevalkit(item: Item) -> Request:
  return Request(text=_hint_first(item), pictures=item.pictures)


def _lmms(item: Item) -> Request:
  text = query(problem(item), "format-prompt")
  return Request(text=text, pictures=item.pictures)


def _lmms_cot(item: Item) -> Request:
  text = query(problem(item), "step-by-step")
  return Request(text=text, pictures=item.pictures)


def _original(item: Item) -> Request:
  return Request(text=query(problem(item)), pictures=item.pictures)


# -------------------------------------------------------------------- scores

_TYPES = ("integer", "float", "list")
# An extraction that is no answer of the kind is wrong, as in all three: the
# judge has read the response, and found none in it.
_NO_ANSWER = Score(value=0.0)


def _asked(case: Case, made: Made, part: str, prompt: str) -> str:
  return case.ask(part, prompt, repeat=made.prediction.repeat).text.strip()


def _normalised(case: Case, made: Made) -> Score:
  """The original's way, and lmms-eval's."""
  item, lmms = case.item, case.impl == "lmms_eval"
  answer = matching.reference(item)
  kind, answer_type = item.meta["question_type"], item.meta["answer_type"]
  choices, precision = _choices(item), _precision(item)
  response = made.text.strip() if lmms else made.text
  found = mathvista.extract_by_rule(response, kind, answer_type, choices)
  if found is None:
    # Both show the column `query`, the form of their examples.
    prompt = mathvista.extract_prompt(_hint_first(item), response)
    found = _asked(case, made, "extract", prompt)
  if not found:
    raise NoReply("unparsable", "an extraction without a word")

  def normalise(whole_precision: bool) -> Any:
    return mathvista.normalise(
      found,
      choices,
      kind,
      answer_type,
      precision,
      whole_precision=whole_precision,
    )

  # Of a free text, which the published set does not have, the original's
  # script ends; it is compared as it stands.
  text = kind != "multi_choice" and answer_type not in _TYPES
  if normalise(not text) is None:
    return _NO_ANSWER
  value = normalise(not (text or lmms))
  same = mathvista.equal_lmms if lmms else operator.eq
  return Score(value=float(same(value, answer)))


def _vlmevalkit_score(case: Case, made: Made) -> Score:
  item = case.item
  answer = matching.reference(item)
  choices = _choices(item)
  letters = zip(string.ascii_uppercase, choices)
  line = {
    "question_type": item.meta["question_type"],
    "answer_type": item.meta["answer_type"],
    "answer": answer,
    "choices": str(choices),
    "answer_option": item.meta.get("answer_option")
    or next((letter for letter, text in letters if text == answer), ""),
    "prediction": matching.pandas_cell(made.text),
  }
  free = line["question_type"] != "multi_choice"
  if free and line["answer_type"] not in ("integer", "float"):
    return Score(value=0.0)  # whatever a judge says: see `vlmevalkit_read`
  found = mathvista.vlmevalkit_prefetch(line)
  # There a right 0 counts as not found, and goes to a judge, who confirms it.
  if found is False:
    prompt = mathvista.vlmevalkit_extract_prompt(
      _hint_first(item), line["prediction"]
    )
    found = _asked(case, made, "extract_vlmevalkit", prompt)
    if not found:
      raise NoReply("unparsable", "an extraction without a word")
    read, _ = mathvista.vlmevalkit_read(line, found)
    if read is None or read is False:
      return _NO_ANSWER
  return Score(value=float(mathvista.vlmevalkit_right({**line, "res": found})))


def _score(case: Case) -> Sequence[Score]:
  one = _vlmevalkit_score if case.impl == "vlmevalkit" else _normalised
  return each(case, one)


# ---------------------------------------------------------------- categories


def _categories(item: Item) -> Mapping[str, str]:
  """Task, and a column for each skill: a question may need several."""
  skills = _field(item, "skills")
  if isinstance(skills, str):
    skills = literals.as_list(skills) or [skills]
  task = _field(item, "task")
  columns = {"task": str(task)} if task else {}
  return columns | {
    f"skill: {name}": str(name) for name in skills or () if name
  }


BENCHMARKS = (
  Benchmark(
    name="mathvista",
    kind="understanding",
    task="ask",
    # Papers print VLMEvalKit's MathVista_MINI.
    impls=("vlmevalkit", "original", "lmms_eval"),
    prompts={
      "vlmevalkit": _vlmevalkit,
      "lmms_eval": _lmms,
      "lmms_eval_cot": _lmms_cot,
      "original": _original,
    },
    # VLMEvalKit's for models behind an API; the original's 512 to 1,024 and
    # lmms-eval's 16,384 are for other models' habits.
    max_tokens=2048,
    score=_score,
    categories=_categories,
    judge="extraction",
    fallback=True,
    protocol=(
      "testmini (1,000), greedy answers; extraction at temperature 0 by "
      "gpt-4o-mini, 128 tokens (VLMEvalKit), or gpt-4o-2024-11-20, 256 tokens "
      "(lmms-eval)."
    ),
  ),
)
