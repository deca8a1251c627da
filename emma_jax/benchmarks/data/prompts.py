"""Items of the sets that are lists of prompts: to be drawn, or edited."""

from collections.abc import Callable, Mapping, Sequence
import glob
import os
from typing import Any

from emma_jax.benchmarks.data.rows import check_kinds, check_letter, one_file
from emma_jax.benchmarks.data.tables import Lines, Tsv
from emma_jax.benchmarks.items import BadItem, Item, Picture, file_inside

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
  table = Lines(one_file(folder, pattern))
  out = []
  for n in range(len(table)):
    row, where = table[n], table.where(n)
    check_kinds(row, where, prompt=str, include=list, tag=str)
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
  where it is there.

  `meta` has a prompt's rows of the csv as `questions`, and as `csv_rows` which
  rows those are, from 0.
  """
  del split
  questions = _dpg_questions(folder)
  lines = os.path.join(folder, "prompts.jsonl")
  prompts: dict[str, str] = {}
  if os.path.exists(lines):
    table = Lines(lines)
    for n in range(len(table)):
      row = table[n]
      check_kinds(row, table.where(n), item_id=str, prompt=str)
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
      meta={
        "questions": tuple(row for _, row in questions.get(name, ())),
        "csv_rows": tuple(n for n, _ in questions.get(name, ())),
      },
    )
    for name, prompt in prompts.items()
  ]


_DPG_COLUMNS = (
  "item_id",
  "proposition_id",
  "dependency",
  "tuple",
  "question_natural_language",
)


def _dpg_questions(
  folder: str,
) -> dict[str, list[tuple[int, Mapping[str, str]]]]:
  path = os.path.join(folder, "dpg_bench.csv")
  if not os.path.exists(path):
    return {}
  table = Tsv(path)
  for name in _DPG_COLUMNS:
    if name not in table.columns:
      raise BadItem(f"{path} lacks the column {name}; it is no DPG-Bench.")
  out: dict[str, list[tuple[int, Mapping[str, str]]]] = {}
  for n in range(len(table)):
    row = table[n]
    out.setdefault(row["item_id"], []).append((n, row))
  return out


def imgedit(folder: str, split: str) -> list[Item]:
  """Of basic_edit.json, with the pictures of its folder."""
  del split
  table = Lines(one_file(folder, "basic_edit*.json"))
  out = []
  for n in range(len(table)):
    row, where = table[n], table.where(n)
    check_kinds(row, where, id=str, prompt=str, edit_type=str)
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
    check_kinds(row, where, id=str, question=str)
    if row["id"] in seen:
      raise BadItem(
        f"{where}: the id {row['id']!r} is also that of {seen[row['id']]}; "
        "every line needs its own."
      )
    seen[row["id"]] = where
    for key, kind in (("answers", list), ("pictures", list)):
      check_kinds({key: row.get(key, [])}, where, **{key: kind})
    for key in ("options", "meta"):
      check_kinds({key: row.get(key, {})}, where, **{key: dict})
    unknown = sorted(set(row) - set(_OWN_KEYS))
    if unknown:
      raise BadItem(
        f"{where}: unknown keys {unknown}; it takes {list(_OWN_KEYS)}."
      )
    _check_texts(row, where)
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


def _check_texts(row: Mapping[str, Any], where: str) -> None:
  """Raises BadItem where a list or a dictionary of texts holds others, or an
  answer's letter is no option's."""
  options = row.get("options", {})
  texts = {
    "group": [row.get("group", "")],
    "answers": row.get("answers", []),
    "pictures": row.get("pictures", []),
    "options": options.values(),
  }
  for key, values in texts.items():
    for value in values:
      check_kinds({key: value}, where, **{key: str})
  for answer in row.get("answers", []) if options else []:
    check_letter(answer, options, where)


# name -> (reader, the files any of which is enough to try it).
PROMPT_SETS: Mapping[
  str, tuple[Callable[[str, str], list[Item]], Sequence[str]]
] = {
  "geneval": (geneval, ("evaluation_metadata*.jsonl",)),
  "dpg": (dpg, ("prompts.jsonl", "prompts/*.txt")),
  "imgedit": (imgedit, ("basic_edit*.json",)),
}
