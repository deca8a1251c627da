"""MM-Vet: a judge fills in the last cell of a table, 0.0 to 1.0.

original    yuweihao/MM-Vet, mm-vet_evaluator.py: the reply's first word
vlmevalkit  vlmeval/dataset/utils/mmvet.py: the whole reply has to be a number
lmms_eval   0.7.3, tasks/mmvet/utils.py: the original's table, its first
            column called "gpt_query_prompt"
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
import hashlib
from typing import Any

from emma_jax.benchmarks.scoring import prompt_texts

CAPABILITIES = ("rec", "ocr", "know", "gen", "spat", "math")
TRIES = 5
WARMER = 0.5  # temperature, from try to try

# ------------------------------------------------------------------ prompts


def _cells(question: str, answer: Any, prediction: Any) -> list[str]:
  wanted = str(answer).replace("<AND>", " <AND> ").replace("<OR>", " <OR> ")
  return [question, wanted, str(prediction)]


def vlmevalkit_prompt(question: str, answer: Any, prediction: Any) -> str:
  """What VLMEvalKit asks its judge; ends with " | "."""
  table = prompt_texts.read("mmvet_judge_vlmevalkit")
  row = " | ".join([*_cells(question, answer, prediction), ""])
  return f"{table}\n{row}"


def lmms_prompt(question: str, answer: Any, prediction: Any) -> str:
  """What lmms-eval asks its judge; ends with " |"."""
  table = prompt_texts.read("mmvet_judge").replace(
    "\n\nQuestion |", "\ngpt_query_prompt |"
  )
  return f"{table}\n{' | '.join(_cells(question, answer, prediction))} |"


# ------------------------------------------------------------------ replies


def whole_number(reply: str) -> float | None:
  """VLMEvalKit's reading of a reply: 0 to 1 or "nan", else None.

  >>> whole_number(" 0.7\\n"), whole_number("0.7 | good"), whole_number("1.5")
  (0.7, None, None)
  """
  try:
    score = float(reply)
  except ValueError:
    return None
  return None if score < 0 or score > 1 else score  # "nan" passes both


def first_word(reply: str) -> float | None:
  """MM-Vet's own reading: the first word, 0 to 1, else None.

  >>> first_word("0.7 | good"), first_word("good")
  (0.7, None)
  """
  return whole_number(reply.split(" ")[0].strip())


def score(
  judge: Callable[[float], str], read: Callable[[str], float | None]
) -> tuple[float, list[float], bool]:
  """Asks up to five times, half a degree warmer each time.

  Args:
    judge: temperature -> reply.
    read: reply -> score or None.

  Returns:
    (score, the temperatures asked at, whether a reply was read); a sample
    whose judge never gives a number scores 0.
  """
  temperatures = []
  for attempt in range(TRIES):
    temperatures.append(attempt * WARMER)
    found = read(judge(temperatures[-1]))
    if found is not None:
      return found, temperatures, True
  return 0.0, temperatures, False


# --------------------------------------------------------------- aggregates


def vlmevalkit_tables(
  rows: Iterable[Mapping[str, Any]],
) -> dict[str, list[dict[str, Any]]]:
  """VLMEvalKit's two tables in percent: per capability, per integration.

  Both count into one dictionary, so that a sample with a single capability
  counts twice in that capability's row; "Overall" is right.

  Args:
    rows: "category" (capabilities joined by commas), "score" (0 to 1) each.

  Returns:
    {"capability", "integration": rows {"Category", "tot", "acc"}}; "ocr,rec"
    and "rec,ocr" are two integrations.

  Raises:
    ZeroDivisionError: no sample has some capability.
  """
  count: dict[str, int] = {}
  total: dict[str, float] = {}
  integrations: list[str] = []
  for row in rows:
    integration = row["category"].replace(",", "_")
    if integration not in integrations:
      integrations.append(integration)
    named = [name for name in CAPABILITIES if name in row["category"]]
    for name in (*named, "Overall", integration):
      count[name] = count.get(name, 0) + 1
      total[name] = total.get(name, 0.0) + float(row["score"])

  def table(names: Sequence[str]) -> list[dict[str, Any]]:
    return [
      {
        "Category": name,
        "tot": count.get(name, 0),
        "acc": total.get(name, 0.0) / count.get(name, 0) * 100,
      }
      for name in names
    ]

  return {
    "capability": table([*CAPABILITIES, "Overall"]),
    "integration": table([*integrations, "Overall"]),
  }


def overall(results: Sequence[Mapping[str, Any]]) -> float:
  """The mean score in percent.

  Args:
    results: "score" (0 to 1) each.

  Raises:
    ZeroDivisionError: no results.
  """
  return sum(result["score"] for result in results) / len(results) * 100


# ------------------------------------------------------------------ scorers


def _judged(
  read: Callable[[str], float | None],
) -> Callable[..., dict[str, Any]]:
  def scorer(judge_outputs: Sequence[str]) -> dict[str, Any]:
    replies = iter(judge_outputs)
    found, temperatures, _ = score(lambda _: next(replies, ""), read)
    return {
      "calls": len(temperatures),
      "score": found,
      "temperatures": temperatures,
    }

  return scorer


def _prompt_tail(question: str, answer: Any, prediction: Any) -> str:
  text = vlmevalkit_prompt(question, answer, prediction)
  return text.rpartition("\n")[2]


def _prompt_digest() -> str:
  text = prompt_texts.read("mmvet_judge")
  return hashlib.sha256(text.encode()).hexdigest()


SCORERS: Mapping[tuple[str, str, str], Callable[..., Any]] = {
  ("MM-Vet", "judge_prompt_sha256", "original"): _prompt_digest,
  ("MM-Vet", "judge_prompt_tail", "vlmevalkit"): _prompt_tail,
  ("MM-Vet", "judge_parse", "vlmevalkit"): _judged(whole_number),
  ("MM-Vet", "judge_parse", "original"): _judged(first_word),
  ("MM-Vet", "aggregate", "vlmevalkit"): vlmevalkit_tables,
  ("MM-Vet", "aggregate_missing_capability", "vlmevalkit"): vlmevalkit_tables,
  ("MM-Vet", "aggregate", "lmms_eval"): overall,
}
