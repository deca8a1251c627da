"""WISE: does a picture show what a prompt means, where that takes knowledge?

1,000 prompts, one picture each. One name, three scales: never compare them.

verified: since April 2026; about 200 prompts changed; Qwen3.5-35B-A3B says 0 or
  1 (calculate_verified.py, vllm_eval.py).
legacy: GPT-4o-2024-05-13 gives consistency, realism and aesthetic quality, 0..2
  each (WISE_legacy/Calculate.py, gpt_eval.py).
lmms_eval: the legacy one in lmms-eval 0.7.3 (MIT), where failures count as 0
  and missing categories are left out of the weights.

Source: PKU-YuanGroup/WISE, which names no licence: nothing of it is shipped.
"""

from collections.abc import Callable, Mapping, Sequence
import math
import re
from typing import Any, Literal

Version = Literal["verified", "legacy"]

# category -> (prompt_id of its first prompt, of its last, weight)
CATEGORIES: Mapping[Version, Mapping[str, tuple[int, int, float]]] = {
  "verified": {
    "CULTURE": (1, 400, 0.4),
    "TIME": (401, 520, 0.12),
    "SPACE": (521, 640, 0.12),
    "BIOLOGY": (641, 760, 0.12),
    "PHYSICS": (761, 880, 0.12),
    "CHEMISTRY": (881, 1000, 0.12),
  },
  "legacy": {
    "CULTURE": (1, 400, 0.4),
    "TIME": (401, 567, 0.167),
    "SPACE": (568, 700, 0.133),
    "BIOLOGY": (701, 800, 0.1),
    "PHYSICS": (801, 900, 0.1),
    "CHEMISTRY": (901, 1000, 0.1),
  },
}
PROMPTS = range(1, 1001)
MARKS = ("consistency", "realism", "aesthetic_quality")


def category_of(prompt_id: int, version: Version) -> str | None:
  """The category of a prompt; None beyond 1..1000."""
  for name, (first, last, _) in CATEGORIES[version].items():
    if first <= prompt_id <= last:
      return name
  return None


def without_thoughts(text: str) -> str:
  """A reply without what the judge thought aloud, between two tags.

  Of thoughts that no tag opens, the closing tag alone is taken out.
  """
  text = re.sub(r"<think>.*?</think>\s*", "", text, flags=re.DOTALL)
  return re.sub(r"</think>\s*", "", text).strip()


def parse_verified(text: str) -> float | None:
  """0 or 1 of the verified judge's reply; None where it cannot be read.

  "Score: 1", or a single line that is 0 or 1.
  """
  found = re.search(r"\*{0,2}Score\*{0,2}\s*:?\s*([01])\b", text, re.IGNORECASE)
  if found:
    return float(found.group(1))
  alone = re.findall(r"(?m)^\s*([01])\s*$", text)
  return float(alone[0]) if len(alone) == 1 else None


def parse_legacy(text: str) -> dict[str, float] | None:
  """The three marks of MARKS; None where one is missing.

  "Consistency: 2" and so on, one digit each and not checked to be 0..2; of two
  marks of one name the later counts. Without any name, the first three lines
  that are 0, 1 or 2.
  """
  named = re.findall(
    r"\*{0,2}(Consistency|Realism|Aesthetic Quality)\*{0,2}\s*:?\s*(\d)",
    text,
    re.IGNORECASE,
  )
  marks = {k.lower().replace(" ", "_"): float(v) for k, v in named}
  if not marks:
    alone = re.findall(r"(?m)^\s*([0-2])\s*$", text)[:3]
    marks = dict(zip(MARKS, map(float, alone)))
  return marks if set(marks) >= set(MARKS) else None


def wiscore(
  consistency: float, realism: float, aesthetic_quality: float
) -> float:
  """The legacy score of one picture, 0..1, from marks of 0..2."""
  return (0.7 * consistency + 0.2 * realism + 0.1 * aesthetic_quality) / 2


def aggregate(
  scores: Mapping[int, float | None], version: Version, *, official_quirks: bool
) -> dict[str, Any]:
  """Categories' means and their weighted sum, 0..1.

  Args:
    scores: prompt_id -> score, 0..1; None where the reply could not be read.
    version: "verified" or "legacy".
    official_quirks: prompts without a score are left out of the means. The
      overall score is None unless all 1,000 prompt_ids are there, and each
      category has a score. Otherwise a prompt without a score is 0.

  Returns:
    overall; categories: name -> mean, NaN without prompts; failed: prompt_ids
    without a score.

  Raises:
    ValueError: a verified score that is neither 0 nor 1, unless it is left out
      by `official_quirks`.
  """
  failed = [number for number in PROMPTS if scores.get(number) is None]
  found: dict[str, list[float]] = {name: [] for name in CATEGORIES[version]}
  for number in PROMPTS:
    score = scores.get(number)
    if score is not None and version == "verified" and score not in (0, 1):
      if not official_quirks:
        raise ValueError(f"{score=} of prompt {number} is neither 0 nor 1.")
      failed.append(number)
      score = None
    if score is None and official_quirks:
      continue
    name = category_of(number, version)
    assert name is not None
    found[name].append(0.0 if score is None else float(score))
  means = {
    name: sum(x) / len(x) if x else math.nan for name, x in found.items()
  }
  complete = set(PROMPTS) <= set(scores) and all(found.values())
  overall = None
  if complete or not official_quirks:
    overall = sum(
      weight * means[name]
      for name, (_, _, weight) in CATEGORIES[version].items()
    )
  return {"overall": overall, "categories": means, "failed": sorted(failed)}


def lmms_aggregate(scores: Mapping[int, float]) -> float:
  """lmms-eval's number, 0..1: weights are scaled to the categories present.

  Args:
    scores: prompt_id -> legacy score; failures are in it as 0. Without any, and
      without any of 1..1000, it is 0.
  """
  found: dict[str, list[float]] = {}
  for number, score in scores.items():
    name = category_of(number, "legacy")
    if name is not None:
      found.setdefault(name, []).append(score)
  weights = {name: w for name, (_, _, w) in CATEGORIES["legacy"].items()}
  present = {name: sum(x) / len(x) for name, x in found.items()}
  if not present:
    return 0.0
  total = sum(weights[name] * mean for name, mean in present.items())
  return total / sum(weights[name] for name in present)


def _aggregate_case(
  rows: Sequence[Mapping[str, Any]], version: Version
) -> dict[str, Any]:
  scores = {row["prompt_id"]: row["score"] for row in rows}
  return aggregate(scores, version, official_quirks=True)


SCORERS: Mapping[tuple[str, str, str], Callable[..., Any]] = {
  ("WISE", "aggregate", "legacy"): (
    lambda rows: _aggregate_case(rows, "legacy")
  ),
  ("WISE", "aggregate", "lmms_eval"): (
    lambda rows: lmms_aggregate({r["prompt_id"]: r["score"] for r in rows})
  ),
  ("WISE", "aggregate", "verified"): (
    lambda rows: _aggregate_case(rows, "verified")
  ),
  ("WISE", "judge_parse", "legacy"): parse_legacy,
  ("WISE", "judge_parse", "verified"): parse_verified,
}
