"""OCRBench: an answer is right if it contains a reference.

Formulae (HME100k) are compared without spaces and with their case, all other
texts in lower case with newlines as spaces. Scores are counts of 1,000.

  original     Yuliang-Liu/MultimodalOCR, OCRBench/example.py: formulae are
               told by the data set's name
  lmms_eval    0.7.3, tasks/ocrbench/utils.py: the same, and full-width ASCII
               becomes plain; the score is a share of 1,000
  vlmevalkit   vlmeval/dataset/image_vqa.py: formulae are told by the category;
               references are a Python list in a column of text
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from emma_jax.benchmarks.scoring import literals

RECOGNITION = (
  "Regular Text Recognition",
  "Irregular Text Recognition",
  "Artistic Text Recognition",
  "Handwriting Recognition",
  "Digit String Recognition",
  "Non-Semantic Text Recognition",
)
FORMULAE = "Handwritten Mathematical Expression Recognition"
OTHERS = (
  "Scene Text-centric VQA",
  "Doc-oriented VQA",
  "Key Information Extraction",
  FORMULAE,
)
# U+FF01 to U+FF5E are ASCII's 0x21 to 0x7E at full width; U+3000 is a space.
_FULL_WIDTH = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)} | {
  0x3000: 0x20
}


def _formula(text: str) -> str:
  return text.strip().replace("\n", " ").replace(" ", "")


def _plain(text: str) -> str:
  return text.lower().strip().replace("\n", " ")


def _folded(text: str) -> str:
  return _plain(text.translate(_FULL_WIDTH))


def contains(
  references: Sequence[str] | str,
  prediction: str,
  normalise: Callable[[str], str],
) -> bool:
  """Whether any reference is in the prediction, both normalised.

  An empty reference is in everything.
  """
  if isinstance(references, str):
    references = [references]
  # Once per reference: without any nobody looks at the prediction.
  return any(normalise(r) in normalise(prediction) for r in references)


def _by_dataset(plain: Callable[[str], str]) -> Callable[..., int]:
  """A scorer that tells formulae by the data set they are of."""

  def score(
    dataset: str,
    answers: Sequence[str] | str,
    prediction: str,
    question_type: str = "",
  ) -> int:
    del question_type
    normalise = _formula if dataset == "HME100k" else plain
    return int(contains(answers, prediction, normalise))

  return score


def _lmms(prediction: str, **case: Any) -> int:
  # Stripped first, also where there is no reference.
  return _by_dataset(_folded)(prediction=prediction.strip(), **case)


def _vlmevalkit(
  question_type: str,
  answers: Sequence[str] | str,
  prediction: Any,
  dataset: str = "",
) -> int:
  if isinstance(answers, str):
    # Of a text within the text every character is a reference.
    answers = list(literals.evaluate(answers))
  normalise = _formula if question_type == FORMULAE else _plain
  return int(contains(answers, str(prediction), normalise))


def vlmevalkit_scores(rows: Iterable[Mapping[str, Any]]) -> dict[str, float]:
  """Hits per group, in all ("Final Score", of 1,000) and a tenth of it.

  Args:
    rows: {"prediction", "answer": a list written as text, "category"} each.

  Raises:
    KeyError: a hit of a category that OCRBench does not have.
  """
  hits = dict.fromkeys((*RECOGNITION, *OTHERS), 0)
  for row in rows:
    if _vlmevalkit(row["category"], row["answer"], row["prediction"]):
      hits[row["category"]] += 1
  groups: dict[str, float] = {
    "Text Recognition": sum(hits[name] for name in RECOGNITION)
  }
  groups |= {name: hits[name] for name in OTHERS}
  total = sum(groups.values())
  return groups | {"Final Score": total, "Final Score Norm": total / 10}


def lmms_score(results: Iterable[Mapping[str, Any]]) -> float:
  """Hits of 1,000 as a share, however many rows there are.

  The original counts in a dictionary of its module, which grows if it is
  called twice; here every call counts anew.

  Args:
    results: {"question_type", "score": 0 or 1} each.

  Raises:
    KeyError: a question type that OCRBench does not have.
  """
  hits = dict.fromkeys((*RECOGNITION, *OTHERS), 0)
  for result in results:
    hits[result["question_type"]] += result["score"]
  return sum(hits.values()) / 1000


SCORERS: Mapping[tuple[str, str, str], Callable[..., Any]] = {
  ("OCRBench", "contains", "original"): _by_dataset(_plain),
  ("OCRBench", "contains", "lmms_eval"): _lmms,
  ("OCRBench", "contains", "vlmevalkit"): _vlmevalkit,
  ("OCRBench", "aggregate", "vlmevalkit"): vlmevalkit_scores,
  ("OCRBench", "aggregate", "lmms_eval"): lmms_score,
}
