"""Items of the newer sets of prompts: GenEval 2, LongText-Bench, RISEBench.

The files are those of the sets' repositories. They may lie in the set's folder
themselves, or in a checkout of the repository there. WISE: see `wise_rows`.
"""

from collections.abc import Callable, Mapping, Sequence
import os
from typing import Any

from emma_jax.benchmarks.data.rows import (
  check_kinds,
  check_once,
  one_file,
  rows_of,
)
from emma_jax.benchmarks.items import BadItem, Item, Picture, file_inside
from emma_jax.benchmarks.scoring.geneval2 import SKILLS
from emma_jax.benchmarks.scoring.rise import CATEGORIES


def geneval2(folder: str, split: str) -> list[Item]:
  """Of geneval2_data.jsonl; the id is the line's number, from 00000.

  `meta`: questions, (question, answer) each; skills, one each; atom_count.
  """
  del split
  seen: dict[Any, str] = {}
  out: list[Item] = []
  for row, where in rows_of(one_file(folder, "geneval2_data.jsonl")):
    check_kinds(row, where, prompt=str, atom_count=int)
    check_kinds(row, where, vqa_list=list, skills=list)
    # The original finds pictures by their prompt.
    check_once(seen, "prompt", row["prompt"], where)
    pairs, skills = row["vqa_list"], row["skills"]
    for pair in pairs:
      if not _texts(pair) or len(pair) != 2:
        raise BadItem(
          f"{where}: {pair!r:.60} of 'vqa_list' is no [question, answer]."
        )
    if not pairs or len(skills) != len(pairs):
      raise BadItem(f"{where}: {len(pairs)} questions of {len(skills)} skills.")
    unknown = [skill for skill in skills if skill not in SKILLS]
    if unknown:
      raise BadItem(f"{where}: {unknown} are none of {', '.join(SKILLS)}.")
    name = f"{len(out):05d}"
    out.append(
      Item(
        id=name,
        group=name,
        question=row["prompt"],
        meta={
          "questions": tuple(map(tuple, pairs)),
          "skills": tuple(skills),
          "atom_count": row["atom_count"],
        },
      )
    )
  return out


def _texts(value: Any) -> bool:
  return isinstance(value, list) and all(isinstance(x, str) for x in value)


def longtext(folder: str, split: str) -> list[Item]:
  """Of text_prompts.jsonl, or text_prompts_zh.jsonl; the id is the prompt_id.

  `meta`: text, all that is to be written; language; category; length.
  """
  name = "text_prompts_zh.jsonl" if split == "zh" else "text_prompts.jsonl"
  seen: dict[Any, str] = {}
  out: list[Item] = []
  for row, where in rows_of(one_file(folder, name, f"textbench/{name}")):
    check_kinds(row, where, prompt_id=int, prompt=str, text=list)
    check_kinds(row, where, category=str, length=str)
    check_once(seen, "prompt_id", row["prompt_id"], where)
    if not _texts(row["text"]) or not "".join(row["text"]).strip():
      raise BadItem(
        f"{where}: 'text' is {row['text']!r:.40}; texts are needed."
      )
    out.append(
      Item(
        id=str(row["prompt_id"]),
        group=str(row["prompt_id"]),
        question=row["prompt"],
        meta={
          "text": tuple(row["text"]),
          "language": split,
          "category": row["category"],
          "length": row["length"],
        },
      )
    )
  return out


_RISE_FILES = ("datav2_total_w_subtask.json", "data_total.json")
_REFERENCES = ("reference", "reference_txt", "reference_img")


def rise(folder: str, split: str) -> list[Item]:
  """Of datav2_total_w_subtask.json (360), or of data_total.json (64).

  `pictures`: the source, and the reference for the judge where there is one.
  `meta`: the row, without its image, and without what is null: a key that is
  there counts, whatever its value ("consistency_free").
  """
  del split
  path = one_file(
    folder, *(os.path.join(p, f) for f in _RISE_FILES for p in ("", "data"))
  )
  seen: dict[Any, str] = {}
  out: list[Item] = []
  root = ""
  for row, where in rows_of(path):
    check_kinds(row, where, index=str, category=str, instruction=str, image=str)
    check_once(seen, "index", row["index"], where)
    if row["category"] not in CATEGORIES:
      raise BadItem(
        f"{where}: the category {row['category']!r} is none of "
        f"{', '.join(CATEGORIES)}."
      )
    meta = {
      key: value
      for key, value in row.items()
      if value is not None and not (isinstance(value, float) and value != value)
    }
    if not any(isinstance(meta.get(name), str) for name in _REFERENCES):
      raise BadItem(f"{where}: none of {', '.join(_REFERENCES)} is there.")
    files = [meta.pop("image")]
    if "reference_img" in meta:
      check_kinds(row, where, reference_img=str)
      files.append(meta["reference_img"])
    root = root or _pictures_of(path, row["image"])
    out.append(
      Item(
        id=meta.pop("index"),
        group=row["index"],
        question=meta.pop("instruction"),
        pictures=tuple(
          Picture(where, file_inside(root, os.path.join(root, file), where))
          for file in files
        ),
        meta=meta,
      )
    )
  return out


def _pictures_of(path: str, first: str) -> str:
  """The folder that a table's names of pictures start from."""
  here = os.path.dirname(path)
  places = [os.path.join(here, "data"), here]
  for place in places:
    if os.path.exists(os.path.join(place, first)):
      return place
  raise BadItem(
    f"{path}: its pictures are not there: {first} is in none of "
    f"{', '.join(places)}. Unpack data.zip beside the file."
  )


# name -> (reader, the files any of which is enough to try it).
EXTRA_SETS: Mapping[
  str, tuple[Callable[[str, str], list[Item]], Sequence[str]]
] = {
  "geneval2": (geneval2, ("geneval2_data.jsonl",)),
  "longtext": (
    longtext,
    ("text_prompts*.jsonl", "textbench/text_prompts*.jsonl"),
  ),
  "rise": (rise, tuple(f"{p}{f}" for f in _RISE_FILES for p in ("", "data/"))),
}
