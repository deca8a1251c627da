"""Items of the sets that are lists of prompts: to be drawn, or edited."""

from collections.abc import Callable, Mapping, Sequence
import glob
import os
from typing import Any

from emma_jax.benchmarks.data.tables import Lines, Tsv
from emma_jax.benchmarks.items import (
  BadItem,
  Item,
  Missing,
  Picture,
  file_inside,
)

_OWN_KEYS = (
  "id",
  "question",
  "options",
  "answers",
  "pictures",
  "group",
  "meta",
)


def geneval(folder: str, split: str) -> list[Item]:
  """Of evaluation_metadata.jsonl; "long": of the rewritten prompts beside it.

  The checks are in `meta`; the id is the line's number, as the picture folders
  of the original are named.
  """
  pattern = (
    "evaluation_metadata_long*.jsonl"
    if split == "long"
    else ("evaluation_metadata.jsonl")
  )
  table = Lines(_one(folder, pattern))
  out = []
  for n in range(len(table)):
    row, where = table[n], table.where(n)
    _check(row, where, prompt=str, include=list, tag=str)
    out.append(
      Item(
        id=f"{n:05d}",
        group=f"{n:05d}",
        question=row["prompt"],
        meta={"category": row["tag"], "checks": row},
      )
    )
  return out


def dpg(folder: str, split: str) -> list[Item]:
  """Of prompts.jsonl or prompts/*.txt, with the questions of dpg_bench.csv
  where it is there."""
  del split
  questions = _dpg_questions(folder)
  lines = os.path.join(folder, "prompts.jsonl")
  prompts: dict[str, str] = {}
  if os.path.exists(lines):
    table = Lines(lines)
    for n in range(len(table)):
      row = table[n]
      _check(row, table.where(n), item_id=str, prompt=str)
      prompts[row["item_id"]] = row["prompt"]
  else:
    texts = os.path.join(glob.escape(folder), "prompts", "*.txt")
    for path in sorted(glob.glob(texts)):
      name = os.path.splitext(os.path.basename(path))[0]
      with open(path, encoding="utf-8") as file:
        prompts[name] = file.read()
  return [
    Item(
      id=name,
      group=name,
      question=prompt,
      meta={"questions": tuple(questions.get(name, ()))},
    )
    for name, prompt in prompts.items()
  ]


def _dpg_questions(folder: str) -> dict[str, list[Mapping[str, str]]]:
  path = os.path.join(folder, "dpg_bench.csv")
  if not os.path.exists(path):
    return {}
  table = Tsv(path)
  for name in ("item_id", "proposition_id", "question_natural_language"):
    if name not in table.columns:
      raise BadItem(f"{path} lacks the column {name}; it is no DPG-Bench.")
  out: dict[str, list[Mapping[str, str]]] = {}
  for n in range(len(table)):
    row = table[n]
    out.setdefault(row["item_id"], []).append(row)
  return out


def imgedit(folder: str, split: str) -> list[Item]:
  """Of basic_edit.json, with the pictures of its folder."""
  del split
  table = Lines(_one(folder, "basic_edit*.json"))
  out = []
  for n in range(len(table)):
    row, where = table[n], table.where(n)
    _check(row, where, id=str, prompt=str, edit_type=str)
    path = os.path.join(folder, str(row["id"]))
    out.append(
      Item(
        id=str(row.get("key", row["id"])),
        group=str(row.get("key", row["id"])),
        question=row["prompt"],
        pictures=(Picture(where, file_inside(folder, path, where)),),
        meta={"category": row["edit_type"]},
      )
    )
  return out


def own(path: str) -> list[Item]:
  """Of a file of JSON lines in our own form.

  {"id", "question", "options": {"A": ...}, "answers": [...], "pictures":
  [paths beside the file], "group", "meta": {...}}; all but the first two may
  be missing.
  """
  table = Lines(path)
  seen: dict[str, str] = {}
  out = []
  for n in range(len(table)):
    row, where = table[n], table.where(n)
    _check(row, where, id=str, question=str)
    if row["id"] in seen:
      raise BadItem(
        f"{where}: the id {row['id']!r} is also that of {seen[row['id']]}; "
        "every line needs its own."
      )
    seen[row["id"]] = where
    for key, kind in (("answers", list), ("pictures", list)):
      _check({key: row.get(key, [])}, where, **{key: kind})
    for key in ("options", "meta"):
      _check({key: row.get(key, {})}, where, **{key: dict})
    unknown = sorted(set(row) - set(_OWN_KEYS))
    if unknown:
      raise BadItem(
        f"{where}: unknown keys {unknown}; it takes {list(_OWN_KEYS)}."
      )
    folder = os.path.dirname(path)
    out.append(
      Item(
        id=row["id"],
        group=row.get("group", row["id"]),
        question=row["question"],
        pictures=tuple(
          Picture(where, file_inside(folder, os.path.join(folder, name), where))
          for name in row.get("pictures", ())
        ),
        options=row.get("options", {}),
        answers=tuple(row.get("answers", ())),
        meta=row.get("meta", {}),
      )
    )
  return out


def _one(folder: str, pattern: str) -> str:
  found = sorted(glob.glob(os.path.join(glob.escape(folder), pattern)))
  if not found:
    raise Missing(f"{folder} has no {pattern}.")
  if len(found) > 1:
    raise BadItem(
      f"{folder} has several files {pattern}: {', '.join(found)}. Leave one."
    )
  return found[0]


def _check(row: Mapping[str, Any], where: str, **kinds: type) -> None:
  for name, kind in kinds.items():
    if not isinstance(row.get(name), kind):
      raise BadItem(
        f"{where}: {name!r} is {row.get(name)!r:.40}; a {kind.__name__} is "
        "needed."
      )


# name -> (reader, the files any of which is enough to try it).
PROMPT_SETS: Mapping[
  str, tuple[Callable[[str, str], list[Item]], Sequence[str]]
] = {
  "geneval": (geneval, ("evaluation_metadata*.jsonl",)),
  "dpg": (dpg, ("prompts.jsonl", "prompts/*.txt")),
  "imgedit": (imgedit, ("basic_edit*.json",)),
}
