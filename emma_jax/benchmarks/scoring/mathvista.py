"""MathVista: an answer is extracted, normalised and compared as text.

original    lupantech/MathVista, evaluation/{build_query,extract_answer,
            calculate_score}.py
lmms_eval   0.7.3, tasks/mathvista/mathvista_evals.py: floats are rounded
            with the table's float64 precision, which fails: all are wrong
vlmevalkit  vlmeval/dataset/utils/mathvista.py: options as in `choice`; whole
            numbers by int("14.0"), which fails; floats are not rounded, and
            lists and texts never match
"""

from collections.abc import Callable, Mapping, Sequence
import operator
import re
from typing import Any

from emma_jax.benchmarks.scoring import choice, literals, prompt_texts
from emma_jax.benchmarks.scoring.edit_distance import distance
from emma_jax.benchmarks.scoring.mathvista_query import query

# -------------------------------------------------------------- extraction

_QUICK = re.compile(r'The answer is "(.*)"\.')


def extract_prompt(
  question: str, response: str, demo: str | None = None
) -> str:
  """What the extracting model is asked.

  Args:
    question: what the answering model was asked.
    response: what it said.
    demo: examples before; None: the authors' own (CC BY-SA 4.0).
  """
  if demo is None:
    demo = prompt_texts.read("mathvista_extract")
  return f"{demo.strip()}\n\n{question}\n\n{response}\n\nExtracted answer: "


def extract_by_rule(
  response: str | None,
  question_type: str,
  answer_type: str,
  choices: Sequence[str] | None,
  quick_extract: bool = False,
) -> str | None:
  """The answer where no model is needed to find it; None where one is.

  An empty response, an option's text, a whole number, a number, or, with
  `quick_extract`, what stands in quotes after "The answer is".

  Raises:
    TypeError: a question of choice without choices.
  """
  if response == "":
    return ""
  if question_type == "multi_choice":
    if choices is None:
      raise TypeError("A question of choice needs choices.")
    if response in choices:
      return response
  kinds: Mapping[str, Callable[[Any], int | float]] = {
    "integer": int,
    "float": float,
  }
  if answer_type in kinds:
    try:
      return str(kinds[answer_type](response))
    except (TypeError, ValueError):
      pass
  if quick_extract and isinstance(response, str):
    found = _QUICK.search(response)
    if found:
      return found[1]
  return None


# ----------------------------------------------------------- normalisation

_LETTER = re.compile(r"\(([a-zA-Z])\)")


def pick_choice(extraction: Any, choices: Sequence[str]) -> str:
  """The option that an extraction means.

  A letter in brackets, whatever its case, or a bare capital; else the option
  with the nearest text, the first of several.

  Raises:
    ValueError: no choices.
  """
  text = extraction.strip() if isinstance(extraction, str) else str(extraction)
  bracketed = _LETTER.findall(text)
  if bracketed:
    text = bracketed[0].upper()
  letters = [chr(ord("A") + i) for i in range(len(choices))]
  if text in letters:
    return choices[letters.index(text)]
  return min(choices, key=lambda option: distance(text, option))


def normalise(
  extraction: Any,
  choices: Sequence[str] | None,
  question_type: str,
  answer_type: str,
  precision: float | None,
  *,
  whole_precision: bool = True,
) -> Any:
  """An extraction in the form of the reference; None if it is not of its type.

  Args:
    extraction: what was extracted.
    choices: texts of the options.
    question_type: "multi_choice" or "free_form".
    answer_type: "text", "integer", "float" or "list".
    precision: decimals of a float.
    whole_precision: takes the precision as a whole number, which lmms-eval
      does not: `round(x, 1.0)` is a TypeError.

  Raises:
    UnboundLocalError: a free answer of another type, where the original has
      no value either; lmms-eval returns it as it is.
  """
  if question_type == "multi_choice":
    if choices is None:
      raise TypeError("A question of choice needs choices.")
    return pick_choice(extraction, choices)
  try:
    if answer_type == "integer":
      return str(int(float(extraction)))
    if answer_type == "float":
      decimals: Any = precision
      if whole_precision:
        decimals = int(decimals)
      return str(round(float(extraction), decimals))
  except (TypeError, ValueError, OverflowError):
    return None
  if answer_type == "list":
    return str(extraction)
  if whole_precision:
    raise UnboundLocalError(f"MathVista has no free answers: {answer_type}.")
  return extraction


def equal_lmms(prediction: Any, answer: Any) -> bool:
  """Whether both read the same, white space at the ends apart.

  The original compares as they are: a choice of " 6 cm" is not "6 cm" there,
  and no answer at all is not the text "None".
  """
  return str(prediction).strip() == str(answer).strip()


def _compare(
  same: Callable[[Any, Any], bool], *, whole_precision: bool
) -> Callable[..., dict[str, Any]]:
  def scorer(
    extraction: Any,
    choices: Sequence[str] | None,
    question_type: str,
    answer_type: str,
    precision: float | None,
    answer: str,
  ) -> dict[str, Any]:
    normalised = normalise(
      extraction,
      choices,
      question_type,
      answer_type,
      precision,
      whole_precision=whole_precision,
    )
    return {"correct": same(normalised, answer), "normalized": normalised}

  return scorer


# -------------------------------------------------------------- VLMEvalKit


def vlmevalkit_read(line: Mapping[str, Any], reply: Any) -> tuple[Any, Any]:
  """(what a reply means, the reference) in a type that both can be read as.

  Where one of them cannot be, the two have different types and never match.

  Args:
    line: "question_type", "answer_type", "answer"; of a choice "choices" (a
      list written as text) and "answer_option".
    reply: of the model, or what was extracted of it.
  """
  if line["question_type"] == "multi_choice":
    options = literals.evaluate(line["choices"])
    named = {chr(ord("A") + i): text for i, text in enumerate(options)}
    return choice.infer(reply, named) or False, line["answer_option"]
  kinds: Mapping[str, Callable[[Any], Any]] = {"integer": int, "float": float}
  kind = kinds.get(line["answer_type"])
  if kind is None:
    # Of a list or a text it never looks at the reply.
    return str(None), str(line["answer"])
  read = None
  try:
    read = kind(reply)
    return read, kind(line["answer"])
  except ValueError:
    return read, line["answer"]


def vlmevalkit_right(line: Mapping[str, Any]) -> bool:
  """Whether the extracted answer `line["res"]` is right."""
  read, wanted = vlmevalkit_read(line, line["res"])
  return read == wanted


def vlmevalkit_prefetch(line: Mapping[str, Any]) -> Any:
  """What `line["prediction"]` means without a judge; False if none can say.

  Of a choice the letter, right or wrong; of a number only the right one.
  """
  read, wanted = vlmevalkit_read(line, line["prediction"])
  if line["question_type"] == "multi_choice" or read == wanted:
    return read
  return False


def vlmevalkit_extract_prompt(question: str, prediction: Any) -> str:
  """What VLMEvalKit asks its extracting model ("respone" is theirs)."""
  examples = prompt_texts.read("mathvista_extract_vlmevalkit")
  return f"{examples}{question}\nModel respone: {prediction}Extracted answer:"


def vlmevalkit_table(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
  """VLMEvalKit's accuracies in percent, over all, per skill and per task.

  Args:
    rows: as of `vlmevalkit_right`, with "task", "skills" (a list written as
      text; text that is no Python is one skill) and "log".

  Returns:
    {"Task&Skill", "tot", "prefetch", "hit", "prefetch_rate", "acc"} each, in
    the order in which the names occur.

  Raises:
    NameError: skills of one word that is no literal, as there.
  """
  counts: dict[str, dict[str, int]] = {}
  for row in rows:
    try:
      skills = list(literals.evaluate(row["skills"]))
    except SyntaxError:
      skills = [row["skills"]]
    fetched = row["log"] == "Prefetch succeed"
    hit = vlmevalkit_right(row)
    for name in ("Overall", *skills, row["task"]):
      count = counts.setdefault(name, {"tot": 0, "prefetch": 0, "hit": 0})
      count["tot"] += 1
      count["prefetch"] += fetched
      count["hit"] += hit
  return [
    {
      "Task&Skill": name,
      **count,
      "prefetch_rate": count["prefetch"] / count["tot"] * 100,
      "acc": count["hit"] / count["tot"] * 100,
    }
    for name, count in counts.items()
  ]


# ------------------------------------------------------------------- scorers


def _extract_rules(**inputs: Any) -> dict[str, Any]:
  found = extract_by_rule(**inputs)
  if found is None:
    return {"extraction": "LLM", "llm_calls": 1}
  return {"extraction": found, "llm_calls": 0}


def _extract_prompt(**inputs: str) -> str:
  # "DEMO" stands for the examples.
  return extract_prompt(inputs["query"], inputs["response"], "DEMO")


def _post_check(choices: Sequence[str] | None, **line: Any) -> bool:
  return vlmevalkit_right({**line, "choices": str(choices)})


SCORERS: Mapping[tuple[str, str, str], Callable[..., Any]] = {
  ("MathVista", "normalize_and_compare", "original"): _compare(
    operator.eq, whole_precision=True
  ),
  ("MathVista", "normalize_and_compare", "lmms_eval"): _compare(
    equal_lmms, whole_precision=False
  ),
  ("MathVista", "post_check", "vlmevalkit"): _post_check,
  ("MathVista", "extract_rules", "original"): _extract_rules,
  ("MathVista", "extract_prompt", "original"): _extract_prompt,
  ("MathVista", "query", "original"): lambda problem: query(problem),
  ("MathVista", "query", "lmms_eval"): lambda problem: query(
    problem, "format-prompt"
  ),
  ("MathVista", "aggregate", "vlmevalkit"): vlmevalkit_table,
}
