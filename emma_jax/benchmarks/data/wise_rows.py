"""Items of WISE, and what its judge is asked, from the user's own files.

WISE states no licence: nothing of it is part of this package.
"""

import ast
from collections.abc import Callable, Iterator, Mapping, Sequence
import os
from typing import Any

from emma_jax.benchmarks.data.rows import (
  check_kinds,
  check_once,
  one_file,
  rows_of,
)
from emma_jax.benchmarks.items import BadItem, Item, Missing
from emma_jax.benchmarks.scoring.wise import Version, category_of

_FILES = (
  "cultural_common_sense",
  "spatio-temporal_reasoning",
  "natural_science",
)
_VERIFIED = ("", "data_verified")
_LEGACY = ("", "data", "WISE_legacy/data")


def wise_verified(folder: str, split: str) -> list[Item]:
  """Of merge.json, or of the three *_verified.json; see `_items`."""
  del split
  paths = _parts(folder, _VERIFIED, "_verified")
  if len(paths) < len(_FILES):
    merged = [os.path.join(place, "merge.json") for place in _VERIFIED]
    try:
      paths = [one_file(folder, *merged)]
    except Missing:
      if not paths:
        raise
  return _items(paths, "verified", _script(folder, "vllm_eval.py"))


def wise_legacy(folder: str, split: str) -> list[Item]:
  """Of the three files of WISE_legacy/data; "rewrite": of those whose prompts
  say outright what is to be drawn; see `_items`."""
  suffix = "_rewrite" if split == "rewrite" else ""
  paths = _parts(folder, _LEGACY, suffix)
  if not paths:
    raise Missing(f"{folder} has no {_FILES[0]}{suffix}.json.")
  return _items(paths, "legacy", _script(folder, "gpt_eval.py"))


def _parts(folder: str, places: Sequence[str], suffix: str) -> list[str]:
  """Files of the first place that has any of the three."""
  for place in places:
    paths = [os.path.join(folder, place, f"{p}{suffix}.json") for p in _FILES]
    found = [path for path in paths if os.path.exists(path)]
    if found:
      return found
  return []


def _script(folder: str, name: str) -> str:
  """The original's script, "" where it is not there."""
  try:
    return one_file(folder, name, os.path.join("WISE_legacy", name))
  except Missing:
    return ""


def _items(paths: Sequence[str], version: Version, script: str) -> list[Item]:
  """Items by prompt_id, which is their id.

  `meta`: category, by the prompt_id; subcategory; explanation; and
  judge_prompt, the texts `system` and `user`, where the script is there.
  """
  prompt = {"judge_prompt": judge_prompt(script)} if script else {}
  seen: dict[Any, str] = {}
  found: dict[int, Item] = {}
  for row, where in rows_of(*paths):
    check_kinds(row, where, prompt_id=int, Prompt=str)
    check_kinds(row, where, Explanation=str, Subcategory=str)
    number = row["prompt_id"]
    check_once(seen, "prompt_id", number, where)
    category = category_of(number, version)
    if category is None:
      raise BadItem(f"{where}: the prompt_id {number} is not in 1..1000.")
    found[number] = Item(
      id=str(number),
      group=str(number),
      question=row["Prompt"],
      meta={
        "category": category,
        "subcategory": row["Subcategory"],
        "explanation": row["Explanation"],
        **prompt,
      },
    )
  return [found[number] for number in sorted(found)]


def judge_prompt(path: str) -> dict[str, str]:
  """What a script of WISE asks its judge: the texts `system` and `user`.

  The script is read, not run. The texts of its messages are found by their
  role; {Prompt} and {Explanation} stand where the script puts a row's.

  Raises:
    BadItem: the file holds no such messages.
  """
  try:
    with open(path, encoding="utf-8") as file:
      tree = ast.parse(file.read())
  except (SyntaxError, ValueError) as error:
    raise BadItem(f"{path} is no Python: {error}.") from error
  found: dict[str, str] = {}
  for message in _literals(tree):
    role = message.get("role")
    if isinstance(role, ast.Constant) and "content" in message:
      for part in _literals(message["content"]):
        text = _template(part.get("text"))
        if text is not None:
          found.setdefault(str(role.value), text)
  fields = [
    f for f in ("{Prompt}", "{Explanation}") if f in found.get("user", "")
  ]
  if set(found) != {"system", "user"} or len(fields) < 2:
    raise BadItem(
      f"{path}: no text of a system and of a user with the prompt and its "
      "explanation; is it WISE's script? Without the file, `own` is scored."
    )
  return found


def _literals(node: ast.AST) -> Iterator[dict[str, ast.expr]]:
  """Dictionaries within a piece of code, by their literal keys."""
  for inner in ast.walk(node):
    if isinstance(inner, ast.Dict):
      yield {
        str(key.value): value
        for key, value in zip(inner.keys, inner.values, strict=True)
        if isinstance(key, ast.Constant)
      }


def _template(node: ast.expr | None) -> str | None:
  """A literal text; row["Name"] within it becomes {Name}."""
  if isinstance(node, ast.Constant) and isinstance(node.value, str):
    return node.value
  if not isinstance(node, ast.JoinedStr):
    return None
  text = ""
  for piece in node.values:
    if isinstance(piece, ast.Constant):
      text += str(piece.value)
    elif (
      isinstance(piece, ast.FormattedValue)
      and isinstance(piece.value, ast.Subscript)
      and isinstance(piece.value.slice, ast.Constant)
    ):
      text += "{" + str(piece.value.slice.value) + "}"
    else:
      return None
  return text


# name -> (reader, the files any of which is enough to try it).
WISE_SETS: Mapping[
  str, tuple[Callable[[str, str], list[Item]], Sequence[str]]
] = {
  "wise_verified": (
    wise_verified,
    ("*_verified.json", "merge.json", "data_verified/*.json", "vllm_eval.py"),
  ),
  "wise_legacy": (
    wise_legacy,
    (
      *(os.path.join(p, f"{f}*.json") for p in _LEGACY for f in _FILES),
      "gpt_eval.py",
      "WISE_legacy/gpt_eval.py",
    ),
  ),
}
