"""GEdit-Bench by VIEScore: a judge rates an edit and the edited picture.

1,212 instructions, half English, half Chinese, in 11 types. The judge answers
two prompts: semantic consistency (SC) with both pictures, perceptual quality
(PQ) with the edited one alone; each gives a list of scores 0..10, whose least
counts. Overall is sqrt(SC PQ) of each sample, averaged: not the root of the
averages. Sources: stepfun-ai/Step1X-Edit (Apache-2.0), GEdit-Bench/, which has
VIEScore of TIGER-AI-Lab (MIT); lmms-eval 0.7.3 (MIT), tasks/gedit_bench/.

Neither tells a refusal from an unparsable reply, and both answer either with a
random number. Here that is `Unparsable`, unless a source of guesses is given.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import hashlib
import json
import math
import random
import re
from typing import Any

import numpy as np

from emma_jax.benchmarks.scoring import prompt_texts

TASK_TYPES = (
  "background_change",
  "color_alter",
  "material_alter",
  "motion_change",
  "ps_human",
  "style_change",
  "subject-add",
  "subject-remove",
  "subject-replace",
  "text_change",
  "tone_transfer",
)
SOURCE, EDITED = "source", "edited"
RATE_LIMIT = "rate_limit_exceeded"
_DELIMITER = "||V^=^V||"
_AREA = 512 * 512
# Of an unparsable reply: ask again this often, then guess where that is asked
# for.
_TRIES = 1

# (prompt, which pictures it goes with) -> what the judge replies.
Judge = Callable[[str, Sequence[str]], str]


class Unparsable(ValueError):
  """A judge's reply has no scores, and there is nothing to make up for it."""


def prompt(name: str) -> str:
  """A judge's prompt, byte for byte: "sc", where `<instruction>` stands for the
  instruction, or "pq"."""
  return prompt_texts.read(f"viescore_{name}")


def prompt_sha256() -> dict[str, Any]:
  """SHA-256 and length in characters of both prompts."""
  texts = {"SC": prompt("sc"), "PQ": prompt("pq")}
  sums = {
    key: hashlib.sha256(text.encode()).hexdigest()
    for key, text in texts.items()
  }
  return sums | {f"{key}_len": len(text) for key, text in texts.items()}


# --------------------------------------------------------------- replies


def judge_parse(text: str, guess: random.Random | None = None) -> Any:
  """What a reply says: a dict with the list `score`; False if unparsable.

  Read is what stands between two delimiters, or from the first opening brace to
  the last closing one, as JSON; a score alone becomes a list. Broken JSON is
  mended once by `_mended`, and then taken whatever it holds. Without braces, a
  list of two numbers counts, and a whole number 0..10.

  Args:
    text: the reply; the text "rate_limit_exceeded" is given back.
    guess: the original's last resort for replies without braces, 0..10. It does
      not help against broken JSON.

  Raises:
    ValueError: a list whose numbers are not JSON: [08, 9].
  """
  if text == RATE_LIMIT:
    return RATE_LIMIT
  if text.count(_DELIMITER) == 2:
    begin = text.find(_DELIMITER) + len(_DELIMITER)
    end = text.rfind(_DELIMITER)
  else:
    begin, end = text.find("{"), text.rfind("}") + 1
    if begin == -1 or end == 0:
      return _without_braces(text, guess)
  if begin == end:
    return False
  content = text[begin:end].strip().replace("\n", "")
  try:
    said = json.loads(content)
    if not isinstance(said["score"], list):
      said["score"] = [said["score"]]
    return said
  except (ValueError, LookupError, TypeError, RecursionError):
    pass  # no JSON, no score in it, or no object
  try:
    return json.loads(_mended(content))
  except (ValueError, RecursionError):
    return False


def _without_braces(text: str, guess: random.Random | None) -> Any:
  if guess is not None:
    reason = f"guess_if_cannot_parse | {text}"
    return {"score": [guess.randint(0, 10)], "reasoning": reason}
  listed = text[text.find("[") : text.rfind("]") + 1]
  if re.match(r"^\[\d+, ?\d+\]$", listed):
    reason = "System: output is simply a list of scores"
    return {"score": json.loads(listed), "reasoning": reason}
  try:
    number = int(text)
  except ValueError:
    return False
  if not 0 <= number <= 10:
    return False
  reason = "System: output is simply a number"
  return {"score": [number], "reasoning": reason}


def _mended(text: str) -> str:
  """Quotes around bare keys and texts, brackets around numbers.

  It breaks what it did not expect: quoted texts are quoted twice, lists become
  texts. Replies with one bare number come through.
  """
  quoted = re.sub(r"(\w+):", r'"\1":', text)

  def value_of(match: re.Match) -> str:
    key, value, end = match.group(1), match.group(2).strip(), match.group(3)
    if re.match(r"^-?\d+(\.\d+)?$", value):
      value = f"[{value}]"
    elif not re.match(r"^(true|false|null)$", value, re.IGNORECASE):
      value = f'"{value}"'
    return f"{key}: {value}{end}"

  return re.sub(r'(".*?"):(.*?)(,|})', value_of, quoted)


@dataclasses.dataclass(frozen=True)
class Rating:
  """SC, PQ and sqrt(SC PQ) of one edit, each 0..10, and the judge's replies."""

  semantics: float
  quality: float
  overall: float
  replies: Sequence[str]


def rate(
  judge: Judge,
  instruction: str,
  *,
  guess: random.Random | None = None,
  rounds: int = 10,
) -> Rating:
  """Asks both prompts until both replies are read.

  If either is unparsable, both are asked again.

  Args:
    judge: gets a prompt and the pictures that go with it, in order.
    instruction: goes into the SC prompt alone.
    guess: from the second round on, what replies without braces are worth, as
      in the original; None raises instead.
    rounds: how often both prompts are asked at most; the original never stops.

  Raises:
    Unparsable: no scores after the last round, with the last replies.
    ValueError: the judge's rate limit is exceeded; negative scores.
    TypeError, KeyError: scores that are no numbers, or none.
  """
  sc_prompt = prompt("sc").replace("<instruction>", instruction)
  pq_prompt = prompt("pq")
  replies: list[str] = []
  for tries in range(rounds):
    replies = [judge(sc_prompt, (SOURCE, EDITED)), judge(pq_prompt, (EDITED,))]
    resort = guess if tries >= _TRIES else None
    sc, pq = (judge_parse(reply, resort) for reply in replies)
    if sc is not False and pq is not False:
      if RATE_LIMIT in (sc, pq):
        raise ValueError(f"The judge says {RATE_LIMIT}.")
      semantics, quality = min(sc["score"]), min(pq["score"])
      overall = math.sqrt(semantics * quality)
      return Rating(semantics, quality, overall, replies)
  raise Unparsable(f"No scores in {replies} after {rounds} rounds.")


# --------------------------------------------------------------- pictures


def dimensions(ratio: float) -> tuple[int, int, int]:
  """(width, height, area) in pixels of the original example's source pictures.

  About 512 x 512 at the same ratio, in multiples of 32. The last step of 32
  always goes to the width, whatever it does to the ratio.

  Args:
    ratio: width over height.
  """
  width = math.sqrt(_AREA * ratio)
  height = width / ratio
  wide, high = round(width / 32) * 32, round(height / 32) * 32
  if wide * high < _AREA:
    wide += 32
  elif wide * high > _AREA:
    wide -= 32
  return wide, high, wide * high


def lmms_dimensions(ratio: float) -> tuple[int, int, int]:
  """(width, height, area) in pixels to which lmms-eval brings both pictures.

  The original brings the edited picture to the source's size instead.

  Args:
    ratio: width over height.
  """
  width = math.sqrt(_AREA * ratio)
  height = width / ratio
  return int(width), int(height), int(width * height)


# -------------------------------------------------------------- aggregation


def type_means(
  rows: Sequence[Mapping[str, Any]], language: str
) -> dict[str, dict[str, float]]:
  """task type -> semantics, quality, overall, and each with `_intersection`.

  NaN where a type has no row; rows of other types are left out.

  Args:
    rows: task_type, sementics_score (the original's spelling), quality_score,
      intersection_exist, instruction_language.
    language: "en" or "cn"; the original's own "zh" finds nothing.
  """
  means = {}
  for task_type in TASK_TYPES:
    chosen = [
      row
      for row in rows
      if row["task_type"] == task_type
      and row["instruction_language"] == language
    ]
    common = [row for row in chosen if row["intersection_exist"]]
    means[task_type] = _means(chosen, "") | _means(common, "_intersection")
  return means


def _means(rows: Sequence[Mapping[str, Any]], suffix: str) -> dict[str, float]:
  pairs = [(row["sementics_score"], row["quality_score"]) for row in rows]
  scores = {
    "semantics": [s for s, _ in pairs],
    "quality": [q for _, q in pairs],
    "overall": [math.sqrt(s * q) for s, q in pairs],
  }
  return {f"{name}{suffix}": _mean(x) for name, x in scores.items()}


def aggregate(
  rows: Sequence[Mapping[str, Any]], language: str
) -> dict[str, float]:
  """The published numbers, 0..10: means over the 11 types of `type_means`.

  NaN where any type has no row.
  """
  means = type_means(rows, language)
  names = next(iter(means.values()))
  return {name: _mean([m[name] for m in means.values()]) for name in names}


def lmms_aggregate(
  results: Sequence[Mapping[str, Any]],
  language: str | None,
  intersection_only: bool | None,
) -> float:
  """lmms-eval's number: the mean over samples, whatever their type.

  0 where there are none.

  Args:
    results: score, instruction_language, intersection_exist; those without a
      score are left out.
    language: None for all.
    intersection_only: True for the intersection; None and False for all.
  """
  scores = [
    row["score"]
    for row in results
    if "score" in row
    and language in (None, row.get("instruction_language", "unknown"))
    and (intersection_only is not True or row.get("intersection_exist", False))
  ]
  return _mean(scores) if scores else 0.0


def _mean(scores: Sequence[float]) -> float:
  return float(np.mean(scores)) if scores else float("nan")


def _parse_case(text: str, give_up_parsing: bool = False) -> Any:
  return judge_parse(text, random.Random(0) if give_up_parsing else None)


def _rate_case(judge_outputs: Sequence[str]) -> dict[str, Any]:
  """The original's evaluation of one edit by a judge that follows a script."""
  instruction = "make the sky purple"
  left = list(judge_outputs)
  calls: list[tuple[str, Sequence[str]]] = []

  def judge(text: str, pictures: Sequence[str]) -> str:
    calls.append((text, pictures))
    return left.pop(0)

  guess = random.Random(0)
  rounds = len(left) + 1  # the script ends first
  rating = rate(judge, instruction, guess=guess, rounds=rounds)
  return {
    "scores": [rating.semantics, rating.quality, rating.overall],
    "calls": len(calls),
    "images_in_calls": [len(pictures) for _, pictures in calls],
    "instruction_in_SC": instruction in calls[0][0],
    "instruction_in_PQ": instruction in calls[1][0],
  }


SCORERS: Mapping[tuple[str, str, str], Callable[..., Any]] = {
  ("GEdit-Bench", "aggregate", "lmms_eval"): lmms_aggregate,
  ("GEdit-Bench", "aggregate", "step1x"): aggregate,
  ("GEdit-Bench", "dimensions", "lmms_eval"): lmms_dimensions,
  ("GEdit-Bench", "dimensions", "step1x"): dimensions,
  ("GEdit-Bench", "judge_parse", "viescore"): _parse_case,
  ("GEdit-Bench", "prompt_sha256", "viescore"): prompt_sha256,
  ("GEdit-Bench", "viescore_evaluate", "viescore"): _rate_case,
}
