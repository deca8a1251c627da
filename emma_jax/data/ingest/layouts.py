"""Why a folder cannot be read as it lies, and what would make it so."""

from collections.abc import Sequence
import os
import posixpath
import re

from emma_jax.data.ingest import suffixes

# Names of folders that are splits, and begins of such tables.
SPLITS = ("train", "training", "test", "validation", "valid", "val", "dev")
_OF_SPLIT = re.compile(rf"({'|'.join(SPLITS)})(?![a-z])", re.IGNORECASE)
# Of whole files of rows, which are no member of a row.
_ARCHIVES = ("tar", "tgz", "zip")


def split_of(name: str) -> str:
  """The split that a table is named as; "" for any other name.

  >>> split_of("data/val.csv"), split_of("test-00000-of-00001.parquet")
  ('val', 'test')
  >>> split_of("a/trainer.jsonl"), split_of("cats.csv")
  ('', '')
  """
  found = _OF_SPLIT.match(posixpath.basename(name))
  return found[1].lower() if found else ""


def several_splits(path: str, names: Sequence[str]) -> str:
  """Why folders or tables of several splits are not read as one."""
  return (
    f"{path} holds several splits, {', '.join(names)}: convert each by itself, "
    "so that none is trained on that is to be held out."
  )


def nothing(
  path: str,
  names: Sequence[str],
  tables: Sequence[str],
  refused: Sequence[tuple[str, str]],
) -> str:
  """Why a folder with such files is none of the kinds that are read.

  Args:
    names: of its files.
    tables: those of them that are tables.
    refused: (file, why) of those that are not read.
  """
  if not names:
    left = [f" but {name} ({why})" for name, why in refused[:1]]
    return f"{path} has no files in it{''.join(left)}."
  if any(suffixes.of(name) == "arrow" for name in names):
    return (
      f"{path} has Arrow files, as of save_to_disk, which are not read; write "
      "Parquet by dataset.to_parquet('train.parquet')."
    )
  archives = [
    name
    for name in names
    if any(f".{end}" in name.lower() for end in _ARCHIVES)
  ]
  if archives and not any(suffixes.is_picture(name) for name in names):
    return (
      f"{path} has archives in it, which are not looked into; name them: "
      f"{_pattern(path, archives[0])}."
    )
  if len({split_of(name) for name in tables} - {""}) > 1:
    return several_splits(path, tables[:4])
  if len(tables) > 1:
    return (
      f"{path} has {len(tables)} tables ({', '.join(tables[:3])}, ...); name "
      f"those that belong together, such as {_pattern(path, tables[0])}."
    )
  return _no_captions(path, names)


def _pattern(path: str, name: str) -> str:
  end = os.path.splitext(name)[1]
  return f"'{posixpath.join(path, posixpath.dirname(name), '*' + end)}'"


def _no_captions(path: str, names: Sequence[str]) -> str:
  pictures = [name for name in names if suffixes.is_picture(name)]
  if pictures:
    return (
      f"{path} has {len(pictures)} pictures and no captions: put a text of the "
      f"same name beside each ({pictures[0]} and "
      f"{os.path.splitext(pictures[0])[0]}.txt, .caption or .json), or a "
      "metadata.csv with the columns file_name and text."
    )
  ends = sorted({suffixes.of(name) or "none" for name in names})
  return (
    f"{path} has neither pictures with captions nor a table of them: its "
    f"{len(names)} files end in {', '.join(ends[:6])}. Pictures end in "
    f"{', '.join(suffixes.PICTURES)}; a data set that `emma-data convert` "
    "wrote has a dataset.json."
  )
