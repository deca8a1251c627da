"""DocVQA and InfoVQA: average normalised Levenshtein similarity (ANLS).

Per question 1 - edits / length for the best reference, and 0 where less than
half is left. What is normalised, and whether half itself counts, differs:

  vlmevalkit   vlmeval/dataset/utils/vqa_eval.py and
  lmms_eval    0.7.3, api/metrics.py: lower case, white space collapsed. The
               length is the RAW texts', so that padding raises the score.
  pix2struct   pix2struct/metrics.py: lower case alone; half itself is 0.
  mmf_stvqa    facebookresearch/mmf, utils/m4c_evaluators.py: lower case,
               stripped; white space inside stays.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
import math
from typing import Any

from emma_jax.benchmarks.scoring.edit_distance import distance

THRESHOLD = 0.5


def _collapsed(text: str) -> str:
  return " ".join(text.lower().split())


def similarity(references: Sequence[str], prediction: str) -> float:
  """ANLS of one question as VLMEvalKit and lmms-eval count it, 0 to 1.

  >>> similarity(["ITC Ltd", "itc limited"], "ITC  Limited")
  1.0
  >>> similarity(["abcde"], "abxyz"), similarity(["abcde"], "     abxyz     ")
  (0.0, 0.8)

  Args:
    references: right answers, at least one.
    prediction: the answer.

  Raises:
    ValueError: no reference.
  """
  said = _collapsed(prediction)

  def share(reference: str) -> float:
    # Upper case: the length that the originals take ("ß" counts twice).
    length = max(len(reference.upper()), len(prediction.upper()))
    return distance(_collapsed(reference), said) / length if length else 0.0

  score = 1 - min(map(share, references))
  return score if score >= THRESHOLD else 0.0


def pix2struct_similarity(references: Sequence[str], prediction: str) -> float:
  """ANLS of one question, 0 to 1; exactly half is 0.

  Raises:
    ValueError: no reference.
    ZeroDivisionError: a reference and the prediction are empty, as there.
  """
  said = prediction.lower()

  def one(reference: str) -> float:
    wanted = reference.lower()
    share = distance(wanted, said) / max(len(wanted), len(said))
    return 1 - share if share < THRESHOLD else 0.0

  return max(map(one, references))


def stvqa_similarity(references: Sequence[str], prediction: str) -> float:
  """ANLS of one question as ST-VQA's evaluator in mmf counts it, 0 to 1.

  Raises:
    ValueError: no reference.
    ZeroDivisionError: a reference and the prediction are empty, as there.
  """
  said = prediction.lower().strip()

  def one(reference: str) -> float:
    wanted = reference.lower().strip()
    score = 1 - distance(wanted, said) / max(len(wanted), len(said))
    return score if score >= THRESHOLD else 0.0

  return max(map(one, references))


def overall(items: Iterable[Mapping[str, Any]]) -> float:
  """The mean over questions in percent; nan without any.

  Args:
    items: {"answers": references, "prediction": text} each.
  """
  scores = [similarity(i["answers"], i["prediction"]) for i in items]
  return 100 * sum(scores) / len(scores) if scores else math.nan


def _scorer(
  function: Callable[[Sequence[str], str], float],
) -> Callable[..., float]:
  return lambda answers, prediction: function(answers, prediction)


SCORERS: Mapping[tuple[str, str, str], Callable[..., Any]] = {
  (benchmark, metric, impl): _scorer(function)
  for benchmark in ("DocVQA", "InfoVQA")
  for metric in ("anls", "anls_padding")
  for impl, function in (
    ("vlmevalkit", similarity),
    ("lmms_eval", similarity),
    ("pix2struct", pix2struct_similarity),
    ("mmf_stvqa", stvqa_similarity),
  )
} | {
  (benchmark, "anls_overall_x100", "vlmevalkit"): overall
  for benchmark in ("DocVQA", "InfoVQA")
}
