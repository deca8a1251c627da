"""ChartQA: relaxed accuracy, numbers within five percent.

One rule in three implementations; they differ in what they do to the texts
before it.

  pix2struct   google-research/pix2struct, pix2struct/metrics.py
  lmms_eval    0.7.3, tasks/chartqa/utils.py: the same
  vlmevalkit   vlmeval/dataset/utils/vqa_eval.py: strips the prediction, and an
               answer that reads as a list is several references
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from emma_jax.benchmarks.scoring import literals

TOLERANCE = 0.05  # of the reference; the edge itself is right


def parse(text: str) -> float | None:
  """A number as `float` reads it; "5%" is 0.05; None for anything else.

  >>> parse(" 1e3 "), parse("12%"), parse("1,000"), parse("$5")
  (1000.0, 0.12, None, None)
  """
  try:
    if text.endswith("%"):
      return float(text.rstrip("%")) / 100
    return float(text)
  except ValueError:
    return None


def relaxed_match(reference: str, prediction: str) -> bool:
  """Whether a prediction counts as its reference.

  Two numbers match within TOLERANCE of the reference, other texts whatever
  their case. A reference of 0 is compared as text: there is no share of it, so
  "0.0" is not "0". Nothing is near "inf" or "nan".

  >>> relaxed_match("14", "14.6"), relaxed_match("0", "0.0")
  (True, False)
  """
  number, wanted = parse(prediction), parse(reference)
  if number is None or not wanted:
    return prediction.lower() == reference.lower()
  return abs(number - wanted) / abs(wanted) <= TOLERANCE


def vlmevalkit_matches(column: Any, prediction: str) -> list[bool]:
  """Per reference of an answer column, whether the prediction counts as it.

  A column such as "[2014, 2016]" is two references.
  """
  listed = literals.as_list(column)
  references: Sequence[Any] = [column] if listed is None else listed
  said = prediction.strip()
  return [relaxed_match(str(r), said) for r in references]


def _plain(answer: str, prediction: str) -> float:
  return float(relaxed_match(answer, prediction))


def _vlmevalkit(answer: Any, prediction: str) -> float:
  # Its tables hold the answer as a list of one.
  references = answer if isinstance(answer, list) else [answer]
  return float(max(vlmevalkit_matches(references, prediction)))


def _vlmevalkit_column(answer_column: Any, prediction: str) -> dict[str, Any]:
  matches = vlmevalkit_matches(answer_column, prediction)
  return {"match": matches, "score": float(max(matches))}


SCORERS: Mapping[tuple[str, str, str], Callable[..., Any]] = {
  ("ChartQA", "relaxed_accuracy", "pix2struct"): _plain,
  ("ChartQA", "relaxed_accuracy", "lmms_eval"): _plain,
  ("ChartQA", "relaxed_accuracy", "vlmevalkit"): _vlmevalkit,
  ("ChartQA", "tsv_answer_eval", "vlmevalkit"): _vlmevalkit_column,
}
