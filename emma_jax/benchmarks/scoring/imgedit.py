"""ImgEdit-Bench: a judge gives three marks of 1..5 to each edit.

737 edits of nine types; a prompt per type. The UGE part has 47 hard edits and
one mark each. Sources: PKU-YuanGroup/ImgEdit (the repository names no licence),
Benchmark/Basic and Benchmark/UGE; lmms-eval 0.7.3 (MIT), tasks/imgedit/.

The judge makes the number: the paper says GPT-4.1, the script gpt-4o, lmms-eval
an open model. Numbers of different judges must not be compared.
"""

from collections.abc import Callable, Mapping, Sequence
import json
import re
from typing import Any

import numpy as np

from emma_jax.benchmarks.scoring import prompt_texts

EDIT_TYPES = (
  "replace",
  "add",
  "adjust",
  "remove",
  "style",
  "action",
  "extract",
  "background",
  "compose",
)
# The older instruction file has another word for one type.
RENAMED = {"alter": "adjust"}


def judge_prompt(edit_type: str, instruction: str) -> str:
  """What the judge is asked, with the picture before the edit and that after.

  Raises:
    ValueError: an edit type that is none of EDIT_TYPES. lmms-eval would take
      the prompt for `adjust`.
  """
  name = RENAMED.get(edit_type, edit_type)
  if name not in EDIT_TYPES:
    raise ValueError(
      f"{edit_type!r} is no edit type of ImgEdit-Bench; those are "
      f"{', '.join(EDIT_TYPES)}."
    )
  prompts = json.loads(prompt_texts.file("imgedit.json"))
  return prompts[name].replace("<edit_prompt>", instruction)


def marks(text: str) -> list[int]:
  """The marks of a reply: of lines "name: digits", with one ": " in them.

  "4." and "4/5" do not count.

  Raises:
    ValueError: digits that are no number, such as a superscript two.
  """
  found = []
  for line in text.splitlines():
    parts = line.strip().split(": ")
    if len(parts) == 2 and parts[1].isdigit():
      found.append(int(parts[1]))
  return found


def parse(text: str) -> float | None:
  """Mean of `marks` to 2 decimals; None where no mark is read.

  Of a reply with lines that do not count the mean is of fewer marks.

  Raises:
    ValueError: see `marks`.
  """
  found = marks(text)
  return round(sum(found) / len(found), 2) if found else None


def lmms_parse(text: str | None) -> tuple[float, float, float]:
  """lmms-eval's three marks: the last three numbers after colons.

  Else the numbers at the end of the last three lines that have one; else, and
  for no text at all, three zeros, which are below every mark that a judge can
  give.
  """
  if text is None:
    return 0.0, 0.0, 0.0
  found = re.findall(r":\s*(\d+)", text)
  if len(found) < 3:
    ends = (
      re.search(r"(\d+)\s*$", line.strip()) for line in text.strip().split("\n")
    )
    found = [end.group(1) for end in ends if end]
  if len(found) < 3:
    return 0.0, 0.0, 0.0
  first, second, third = map(float, found[-3:])
  return first, second, third


def type_average(
  scores: Mapping[str, float], meta: Mapping[str, Mapping[str, Any]]
) -> dict[str, float]:
  """edit type -> mean of its edits' means to 2 decimals.

  Args:
    scores: key -> what `parse` gave; keys that are not in `meta` are left out.
    meta: key -> the edit, with its `edit_type`.
  """
  types: dict[str, list[float]] = {}
  for key, score in scores.items():
    edit_type = meta.get(key, {}).get("edit_type")
    if edit_type is not None:
      types.setdefault(edit_type, []).append(score)
  return {name: round(sum(x) / len(x), 2) for name, x in types.items()}


def overall(types: Mapping[str, float]) -> float:
  """The published number, 1..5: the mean of the nine types' means.

  Raises:
    ValueError: a type is missing.
  """
  known = {RENAMED.get(name, name): score for name, score in types.items()}
  missing = [name for name in EDIT_TYPES if name not in known]
  if missing:
    raise ValueError(f"No scores of {missing}: there is no overall score.")
  return float(np.mean([known[name] for name in EDIT_TYPES]))


def lmms_overall(results: Sequence[Mapping[str, Any]]) -> float:
  """lmms-eval's number: the mean of `score` over edits, whatever their type.

  Failures are in it as 0; without any score it is 0.
  """
  scores = [row["score"] for row in results if "score" in row]
  return float(np.mean(scores)) if scores else 0.0


def uge_average(results: Mapping[str, str]) -> float | None:
  """Mean of the UGE replies that can be read, to 2 decimals; None without any.

  The reply in the original's own README, "... Score: 2." on one line, cannot.

  Args:
    results: key -> reply.
  """
  scores = [parse(text) for text in results.values()]
  read = [score for score in scores if score is not None]
  return round(sum(read) / len(read), 2) if read else None


def _lmms_parse_case(text: str) -> dict[str, Any]:
  scores = lmms_parse(text)
  return {"scores": list(scores), "avg": sum(scores) / 3.0}


SCORERS: Mapping[tuple[str, str, str], Callable[..., Any]] = {
  ("ImgEdit-Bench", "parse", "lmms_eval"): _lmms_parse_case,
  ("ImgEdit-Bench", "parse", "original"): parse,
  ("ImgEdit-Bench", "type_average", "original"): type_average,
  ("ImgEdit-Bench", "uge_average", "original"): uge_average,
}
