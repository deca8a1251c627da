"""DPG-Bench: of each prompt's questions, how many does a picture answer `yes`?

1,065 prompts, four pictures each as the tiles of a 2 x 2 grid. A question may
depend on others, which are then its parents: the colour of a dog on there being
a dog. Source: TencentQQGYLab/ELLA (Apache-2.0), dpg_bench/compute_dpg_bench.py.

The official script deviates from its own description, and all published numbers
are its. `official_quirks` reproduces that:

1. The first data row of the csv is skipped. The first prompt then lacks the
   parent of its other questions, fails, and is dropped.
2. Category scores come from the last tile alone, without the dependencies.
3. A prompt that fails in any way is dropped, which raises the score.
4. Dependencies are gone through once, in the order of the csv: where a child
   stands before its parent, a grandchild can escape.
5. A prompt whose rows are not together has those of its last group alone.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
from typing import Any

import numpy as np

TILES = 4


@dataclasses.dataclass(frozen=True)
class Question:
  """One question on a prompt.

  parents: numbers of the questions it depends on; 0 is nobody.
  category: of two levels: "attribute - color".
  text: what the VQA model is asked.
  """

  parents: tuple[int, ...]
  category: str
  text: str


# number of the question -> question, in the order of the csv.
Questions = dict[int, Question]


def read_questions(
  rows: Sequence[Mapping[str, Any]], *, official_quirks: bool
) -> dict[str, Questions]:
  """prompt (item_id) -> its questions.

  Args:
    rows: of dpg_bench.csv: item_id, proposition_id, dependency, tuple,
      question_natural_language.
    official_quirks: 1 and 5 above.

  Raises:
    ValueError: a question depends on one that its prompt does not have. With
      the quirks that is found when the prompt is scored, and drops it.
  """
  found: dict[str, Questions] = {}
  previous = ""
  for row in rows[1:] if official_quirks else rows:
    item = row["item_id"]
    if item not in found or (official_quirks and item != previous):
      found[item] = {}
    found[item][int(row["proposition_id"])] = Question(
      tuple(int(x) for x in str(row["dependency"]).split(",")),
      row["tuple"].split("(")[0].strip(),
      row["question_natural_language"],
    )
    previous = item
  if not official_quirks:
    _check_parents(found)
  return found


def _check_parents(found: Mapping[str, Questions]) -> None:
  for item, own in found.items():
    for number, question in own.items():
      unknown = [p for p in question.parents if p and p not in own]
      if unknown:
        raise ValueError(
          f"Prompt {item}: question {number} depends on {unknown}, which the "
          "prompt does not have; is the csv complete?"
        )


def zero_dependants(
  scores: Mapping[int, float], questions: Questions, *, official_quirks: bool
) -> dict[int, float]:
  """Scores of one tile, 0 where a parent's is: what is not there has no colour.

  Args:
    scores: number of the question -> 0 or 1.
    questions: of the prompt.
    official_quirks: 4 above; otherwise descendants of every generation are 0.

  Raises:
    KeyError: a parent is none of the prompt's questions.
  """
  zeroed = dict(scores)
  while True:
    before = dict(zeroed)
    for number, question in questions.items():
      if any(zeroed[p] == 0 for p in question.parents if p != 0):
        zeroed[number] = 0.0
    if official_quirks or zeroed == before:
      return zeroed


def _tile(answers: Mapping[int, str], questions: Questions) -> dict[int, float]:
  return {number: float(answers[number] == "yes") for number in questions}


def aggregate(
  csv_rows: Sequence[Mapping[str, Any]],
  answers: Mapping[str, Sequence[Mapping[Any, str]]],
  pic_num: int,
  *,
  official_quirks: bool,
) -> dict[str, Any]:
  """The score, 0..100, with its categories and what failed.

  A tile's score is the mean over its questions, a prompt's that of its tiles,
  the whole's that of the prompts. Only "yes" is a yes.

  Args:
    csv_rows: see `read_questions`.
    answers: prompt -> per tile: number of the question -> what the VQA model
      said. Numbers may be texts, as JSON has them.
    pic_num: tiles per prompt, at most 4.
    official_quirks: see the head of this file. Without, every prompt of the csv
      counts: one without answers is 0, and so is a tile or a question that was
      not answered; categories are means over tiles and questions after the
      dependencies.

  Returns:
    score; per_image_then_average: prompt -> the tiles' scores, and their mean;
    L1, L2: category -> score, 0..100; failed: what was dropped, or counted as
    0, and why. Means of nothing are NaN.
  """
  questions = read_questions(csv_rows, official_quirks=official_quirks)
  numbered = {
    item: [{int(k): v for k, v in tile.items()} for tile in tiles]
    for item, tiles in answers.items()
  }
  pictures = len(range(TILES)[:pic_num])
  if official_quirks:
    prompts, categories, failed = _official(questions, numbered, pictures)
  else:
    prompts, categories, failed = _complete(questions, numbered, pictures)
  broad: dict[str, list[float]] = {}
  for category, scores in categories.items():
    broad.setdefault(category.split("-")[0].strip(), []).extend(scores)
  return {
    "score": _percent([scores[-1] for scores in prompts.values()]),
    "per_image_then_average": prompts,
    "L1": {name: _percent(scores) for name, scores in broad.items()},
    "L2": {name: _percent(scores) for name, scores in categories.items()},
    "failed": failed,
  }


# prompt -> tiles' scores and their mean; category -> scores; what failed
_Parts = tuple[dict[str, list[float]], dict[str, list[float]], list[str]]
_Answers = Mapping[str, Sequence[Mapping[int, str]]]


def _official(
  questions: Mapping[str, Questions], answers: _Answers, pictures: int
) -> _Parts:
  prompts: dict[str, list[float]] = {}
  categories: dict[str, list[float]] = {}
  failed = []
  for item, tiles in answers.items():
    own = questions.get(item.split(".")[0])  # a file's name to its first dot
    if own is None:
      failed.append(f"{item}.png: 'NoneType' object is not subscriptable")
      continue
    scores: list[float] = []
    raw: dict[int, float] = {}
    try:
      for place in range(pictures):
        raw = _tile(tiles[place], own)
        zeroed = zero_dependants(raw, own, official_quirks=True)
        scores.append(sum(zeroed.values()) / len(zeroed))
      mean = sum(scores) / len(scores)
    except (IndexError, KeyError, ZeroDivisionError) as error:
      failed.append(f"{item}.png: {error}")
      continue
    prompts[item] = [*scores, mean]
    for number, question in own.items():
      categories.setdefault(question.category, []).append(raw[number])
  return prompts, categories, failed


def _complete(
  questions: Mapping[str, Questions], answers: _Answers, pictures: int
) -> _Parts:
  prompts: dict[str, list[float]] = {}
  categories: dict[str, list[float]] = {}
  failed = [f"{x}: no prompt of the csv" for x in answers if x not in questions]
  for item, own in questions.items():
    scores = []
    for place in range(pictures):
      tiles = answers.get(item, [])
      said = tiles[place] if place < len(tiles) else {}
      silent = [number for number in own if number not in said]
      if silent:
        failed.append(f"{item}: tile {place}: no answer to {silent}")
      raw = _tile({n: said.get(n, "") for n in own}, own)
      zeroed = zero_dependants(raw, own, official_quirks=False)
      scores.append(sum(zeroed.values()) / len(zeroed))
      for number, question in own.items():
        categories.setdefault(question.category, []).append(zeroed[number])
    prompts[item] = [*scores, sum(scores) / len(scores)]
  return prompts, categories, failed


def _percent(scores: Sequence[float]) -> float:
  return float(np.mean(scores)) * 100 if scores else float("nan")


def _aggregate_case(
  csv_rows: Sequence[Mapping[str, Any]],
  answers: Mapping[str, Sequence[Mapping[str, str]]],
  pic_num: int,
) -> dict[str, Any]:
  return aggregate(csv_rows, answers, pic_num, official_quirks=True)


SCORERS: Mapping[tuple[str, str, str], Callable[..., Any]] = {
  ("DPG-Bench", "aggregate", "original"): _aggregate_case
}
