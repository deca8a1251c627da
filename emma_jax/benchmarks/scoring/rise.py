"""RISEBench: edits that take reasoning about time, cause, space and logic.

360 edits. A judge gives marks of 1..5 for consistency, reasoning and plausible
looks; logical ones have the first two, as 0 or 1, which become 1 and 5. An edit
is accomplished if all its marks are 5. Source: PhoenixZ810/RISEBench (names no
licence), gpt_eval.py.

The rule changed on 2026-04-13: edits that need not keep the source's looks
("consistency-free") no longer need a consistency of 5, which they had no mark
for, so that they could never be accomplished. `rule` is "new" or "old"; numbers
from before are not comparable.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import math
import re
from typing import Any, Literal

Rule = Literal["new", "old"]

LOGICAL = "logical_reasoning"
CATEGORIES = (
  "temporal_reasoning",
  "causal_reasoning",
  "spatial_reasoning",
  LOGICAL,
)
BEST = 5


@dataclasses.dataclass(frozen=True)
class Marks:
  """1..5 each; consistency is None if it is not asked for, plausibility is None
  of logical edits."""

  consistency: float | None
  reasoning: float
  plausibility: float | None


def extract(reply: str) -> list[int] | None:
  """Numbers after the first "Final Score" that has any; None without one.

  "Final Score: 4, 5" has two. An empty list says that "Final Scores" stands
  there without a number.
  """
  for name in ("Final Score", "Final Scores"):
    found = re.findall(
      rf"\*?\*?{name}\*?\*?:?\s*([\d*\s,\n]*)", reply, re.IGNORECASE
    )
    for text in found:
      numbers = re.findall(r"\d+", text)
      if numbers:
        return list(map(int, numbers))
  return [] if found else None


def marks(
  category: str,
  consistency: str | None,
  reasoning: str,
  plausibility: str | None,
) -> Marks | None:
  """What the judge's replies say; None where one cannot be read.

  Args:
    category: of CATEGORIES.
    consistency: the reply, or None of a consistency-free edit.
    reasoning: the reply.
    plausibility: the reply, or None of a logical edit.

  Raises:
    ValueError: a reply that is asked for is missing, or is there and is not
      asked for.
  """
  if category not in CATEGORIES:
    raise ValueError(f"{category!r} is none of {', '.join(CATEGORIES)}.")
  if (plausibility is None) != (category == LOGICAL):
    raise ValueError(f"{category} with {plausibility=}.")
  if consistency is None and category == LOGICAL:
    raise ValueError("A logical edit needs a reply on its consistency.")
  replies = [consistency, reasoning, plausibility]
  numbers: list[float | None] = []
  for reply in replies[: 2 if category == LOGICAL else 3]:
    if reply is None:
      numbers.append(None)
      continue
    found = extract(reply)
    if not found:
      return None
    numbers.extend(found)
  if category == LOGICAL and len(numbers) == 2:
    kept, sound = (4 * min(x, 1) + 1 for x in numbers if x is not None)
    return Marks(kept, sound, None)
  if len(numbers) != 3 or numbers[1] is None:
    return None  # more numbers than marks; the original stops with an error
  return Marks(numbers[0], numbers[1], numbers[2])


def accomplished(
  category: str, given: Marks, consistency_free: bool, rule: Rule
) -> bool:
  """Whether all marks that are needed are 5."""
  needed = [given.reasoning]
  if category == LOGICAL or not consistency_free or rule == "old":
    needed.append(given.consistency or math.nan)
  if category != LOGICAL:
    needed.append(given.plausibility or math.nan)
  return all(mark == BEST for mark in needed)


def weighted(category: str, given: Marks, consistency_free: bool) -> float:
  """The score beside the accuracy, 1..5; NaN where a mark is missing.

  Reasoning weighs most; at its lowest mark the score is halved, to at least 1.
  """
  kept, looks = (
    math.nan if mark is None else mark
    for mark in (given.consistency, given.plausibility)
  )
  if category == LOGICAL:
    score = 0.3 * kept + 0.7 * given.reasoning
  elif consistency_free:
    score = 0.2 * looks + 0.8 * given.reasoning
  else:
    score = 0.3 * kept + 0.5 * given.reasoning + 0.2 * looks
  if given.reasoning == 1:
    score *= 0.5
    score = 1.0 if score < 1 else score
  return score


def aggregate(
  rows: Sequence[Mapping[str, Any]], rule: Rule, *, official_quirks: bool
) -> dict[str, dict[str, float]]:
  """Overall and per category: accuracy 0..1, score 1..5, and that as 0..100.

  Args:
    rows: one per edit: category; consistency_free, missing or None where it is
      not; judge1 (consistency), judge2 (reasoning), judge3 (plausibility), the
      replies, missing or None where not asked for.
    rule: see the head of this file.
    official_quirks: edits whose replies cannot be read are left out of the
      score, though not of the accuracy; and as soon as one edit of the set is
      consistency-free, all but the logical ones are scored as if they were.
      Otherwise unread edits have the lowest score.

  Returns:
    "overall" and categories -> accuracy, score, percent; NaN without edits.
  """
  free = [row.get("consistency_free") is not None for row in rows]
  done: dict[str, list[float]] = {}
  scores: dict[str, list[float]] = {}
  for row, own in zip(rows, free, strict=True):
    category = row["category"]
    given = marks(category, row.get("judge1"), row["judge2"], row.get("judge3"))
    for name in ("overall", category):
      hit = given and accomplished(category, given, own, rule)
      done.setdefault(name, []).append(float(bool(hit)))
      if given:
        as_free = any(free) if official_quirks else own
        score = weighted(category, given, as_free)
      elif official_quirks:
        continue
      else:
        score = 1.0
      scores.setdefault(name, []).append(score)
  return {
    name: _summary(done.get(name, []), scores.get(name, []))
    for name in ("overall", *CATEGORIES)
  }


def _summary(
  done: Sequence[float], scores: Sequence[float]
) -> dict[str, float]:
  score = sum(scores) / len(scores) if scores else math.nan
  return {
    "accuracy": sum(done) / len(done) if done else math.nan,
    "score": score,
    "percent": 25 * (score - 1),
  }


SCORERS: Mapping[tuple[str, str, str], Callable[..., Any]] = {
  ("RISEBench", "aggregate", "new"): (
    lambda rows: aggregate(rows, "new", official_quirks=True)
  ),
  ("RISEBench", "aggregate", "old"): (
    lambda rows: aggregate(rows, "old", official_quirks=True)
  ),
  ("RISEBench", "judge_parse", "original"): extract,
}
