"""MathVista's questions as models are asked them."""

from collections.abc import Mapping
from typing import Any

from emma_jax.benchmarks.scoring.choice_prompts import DIRECT

_HINTS = {
  "multi_choice": (
    "answer the question and provide the correct option letter, e.g., A, B, C, "
    "D, at the end."
  ),
  "integer": (
    "answer the question requiring an integer answer and provide the final "
    "value, e.g., 1, 2, 3, at the end."
  ),
  "float1": (
    "answer the question requiring a floating-point number with one decimal "
    "place and provide the final value, e.g., 1.2, 1.3, 1.4, at the end."
  ),
  "float2": (
    "answer the question requiring a floating-point number with two decimal "
    "places and provide the final value, e.g., 1.23, 1.34, 1.45, at the end."
  ),
  "list": (
    "answer the question requiring a Python list as an answer and provide the "
    "final list, e.g., [1, 2, 3], [1.2, 1.3, 1.4], at the end."
  ),
}
_FORMATS = {
  "multi_choice": DIRECT,
  "integer": "Answer the question using a single integer number.",
  "float1": (
    "Answer the question using a single floating-point number with one decimal "
    "place."
  ),
  "float2": (
    "Answer the question using a single floating-point number with two decimal "
    "places."
  ),
  "list": "Answer the question using a Python list.",
}
_FREE = ("integer", "float", "list")
_REASON = "First perform reasoning, then finally "
_SELECT = "select the question from the choices"
_IN_FORMAT = " in the following format: Answer: xxx."
SHOT_TYPES = (
  *("solution", "format-prompt", "step-by-step", "reason-first", "direct"),
  "code",
)


def _hint(problem: Mapping[str, Any], shot_type: str) -> str:
  if shot_type == "direct":
    return ""
  if shot_type == "code":
    return "Hint: Please generate a python code to solve the problem"
  kind = problem["answer_type"]
  if problem["question_type"] == "multi_choice":
    if kind != "text":
      raise AssertionError(f"A choice has answers of type text, not {kind}.")
    kind = "multi_choice"
  elif shot_type != "format-prompt" and kind not in _FREE:
    raise AssertionError(f"No free answers of type {kind}.")
  elif kind == "float":
    precision = problem["precision"]
    kind = f"float{precision:g}" if precision in (1, 2) else "float"
  texts = _FORMATS if shot_type == "format-prompt" else _HINTS
  if kind not in texts:  # no branch of the original sets its variable
    raise UnboundLocalError(
      f"No hint for {problem['answer_type']}, precision {problem['precision']}."
    )
  text = texts[kind]
  if shot_type == "format-prompt":
    return text
  if shot_type != "reason-first":
    return f"Hint: Please {text}"
  if kind == "multi_choice":
    return f"{_REASON}{_SELECT}{_IN_FORMAT}"
  return f"{_REASON}{text.removesuffix('.')}{_IN_FORMAT}"


def query(
  problem: Mapping[str, Any],
  shot_type: str = "solution",
  *,
  use_caption: bool = False,
  use_ocr: bool = False,
) -> str:
  """What the answering model is asked, without examples before.

  The column `query` of the published table is the form "solution" without its
  last line, hint first.

  Args:
    problem: "question", "unit", "choices", "caption", "ocr", "precision",
      "question_type", "answer_type".
    shot_type: of SHOT_TYPES; "solution" is the original's, "format-prompt"
      lmms-eval's default.
    use_caption: shows the picture's caption.
    use_ocr: shows the words read off the picture.

  Raises:
    AssertionError: an answer type that does not belong to the question type,
      or an unknown shot type.
    UnboundLocalError: a float with another precision than 1 or 2, as there.
  """
  if shot_type not in SHOT_TYPES:
    raise AssertionError(f"{shot_type=}: one of {', '.join(SHOT_TYPES)}.")
  hint = _hint(problem, shot_type)
  plain = shot_type == "format-prompt"
  question = f"{'' if plain else 'Question: '}{problem['question']}"
  if problem["unit"]:
    question += f" (Unit: {problem['unit']})"
  named = enumerate(problem["choices"] or ())
  if plain:
    choices = [f"{chr(ord('A') + i)}. {text}" for i, text in named]
  else:
    choices = [f"({chr(ord('A') + i)}) {text}" for i, text in named]
    choices[:0] = ["Choices:"] if choices else []
  seen = []
  if use_caption and problem["caption"] != "":
    seen.append(f"Image description: {problem['caption']}")
  if use_ocr and problem["ocr"] != "":
    seen.append(f"Image detected text: {problem['ocr']}")
  parts = [question, *choices, *seen]
  parts = [hint, *parts] if shot_type == "reason-first" else [*parts, hint]
  ends = {"solution": "Solution: ", "code": "Python code: "}
  parts.append(ends.get(shot_type, ""))
  return "\n".join(part for part in parts if part != "").strip()
