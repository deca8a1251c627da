"""Files that servers and the benchmarks' own scripts take answers in.

  rrc    Robust Reading Competition, DocVQA and InfographicVQA:
         [{"questionId": 1, "answer": "..."}, ...]
  mmmu   MMMU-Benchmark/MMMU, mmmu/README.md ("Evaluation Only",
         main_eval_only.py), and EvalAI: {"validation_Accounting_1": "D", ...}
  mmvet  yuweihao/MM-Vet, mm-vet_evaluator.py --result_file: {"v1_0": "..."}

Each has one answer to every question of the split; what failed is an empty
answer, which no rule takes for a right one.
"""

from collections.abc import Callable, Mapping
import json
import os
import re
from typing import Any

from emma_jax import files
from emma_jax.benchmarks.items import Item
from emma_jax.benchmarks.records import BadRun
from emma_jax.benchmarks.scoring import mmmu
from emma_jax.benchmarks.toolkits.predicted import Predicted


def rrc(one: Predicted) -> list[dict[str, Any]]:
  """[{"questionId": number, "answer": text}] of DocVQA or InfographicVQA.

  Raises:
    BadRun: predictions that are missing; an id that is no number of the RRC.
  """
  return [
    {
      "questionId": int(_own_id(one, item, "questionId", r"\d+")),
      "answer": text,
    }
    for item, text in one.texts()
  ]


def _own_id(one: Predicted, item: Item, column: str, pattern: str) -> str:
  """The benchmark's own id: of a column, or the item's where it has that.

  Raises:
    BadRun: VLMEvalKit's table without the column, whose index is its own
      affair; another form.
  """
  found = item.meta.get(column)
  if found is None and one.source.format != "tsv":
    found = item.id
  if found is None or not re.fullmatch(pattern, str(found)):
    raise BadRun(
      f"{one.settings.name}, item {item.id!r}: {column} is {found!r}, and the "
      f"benchmark's own id is needed, of the form {pattern}. Predict with the "
      "set as it is on the hub, or give the ids in items.jsonl."
    )
  return str(found)


def mmmu_answers(one: Predicted) -> dict[str, str]:
  """id -> a letter of a choice, or the text of a short answer.

  Letters are read by MMMU's own rules; "" where they find none, or one drawn by
  a seed where the set's fallback says so.

  Raises:
    BadRun: predictions that are missing; ids that are not MMMU's.
  """
  out = {}
  for item, text in one.texts():
    name = _own_id(one, item, "id", r"[a-z]+_\w+_\d+")
    kind = item.meta.get("question_type")
    if kind == "multiple-choice" or (not kind and item.options):
      options = list(item.options.values())
      letter = mmmu.parse_choice(text, options)
      if letter is None and one.settings.guess:
        letter = mmmu.drawn(text, options)
      text = letter or ""
    out[name] = text
  return out


def mmvet(one: Predicted) -> dict[str, str]:
  """v1_0, v1_1, ... -> answer.

  Raises:
    BadRun: predictions that are missing; ids that are not MM-Vet's.
  """
  out = {}
  for item, text in one.texts():
    out[_own_id(one, item, "question_id", r"v1_\d+")] = text
  return out


# What --to takes -> (sets, content of the file).
SUBMISSIONS: Mapping[str, tuple[tuple[str, ...], Callable[[Predicted], Any]]]
SUBMISSIONS = {
  "rrc": (("docvqa", "infovqa"), rrc),
  "mmmu": (("mmmu",), mmmu_answers),
  "mmvet": (("mmvet",), mmvet),
}


def write(one: Predicted, dest: str, to: str) -> str:
  """The file of a set.

  Args:
    one: of a set that `SUBMISSIONS` names.
    dest: folder.
    to: key of SUBMISSIONS.

  Returns:
    Its path: DEST/<set>_<split>.json.

  Raises:
    BadRun: see the functions.
  """
  _, content = SUBMISSIONS[to]
  name = f"{one.settings.benchmark.name}_{one.settings.split}.json"
  path = os.path.join(dest, name)
  text = json.dumps(content(one), ensure_ascii=False, indent=1)
  files.write_text(path, text + "\n")
  return path
