"""What a conversion says of rows that it could not use."""

from collections.abc import Sequence
import json
import os

# Rows that a message quotes.
_SHOWN = 2


def first(path: str, left_out: bool = False) -> list[tuple[str, str]]:
  """(where, reason) of the first rows in a file that are rejected as broken.

  `left_out`: those, too, that are sound and not wanted.
  """
  found: list[tuple[str, str]] = []
  with open(path, encoding="utf-8") as file:
    for line in file:
      if len(found) == _SHOWN or not line.endswith("\n"):
        break
      note = json.loads(line)
      if left_out or "left_out" not in note:
        found.append((note["where"], note["reason"]))
  return found


def in_folder(work: str, left_out: bool = False) -> list[tuple[str, str]]:
  """The same while the parts are still being made."""
  found: list[tuple[str, str]] = []
  for name in sorted(os.listdir(work)):
    if name.startswith("rejected-") and len(found) < _SHOWN:
      found += first(os.path.join(work, name), left_out)
  return found[:_SHOWN]


def quoted(found: Sequence[tuple[str, str]]) -> str:
  """For a message.

  >>> quoted([("a:1", "no JSON"), ("a:2", "empty"), ("a:3", "empty")])
  'a:1: no JSON; a:2: empty'
  """
  shown = "; ".join(f"{where}: {reason}" for where, reason in found[:_SHOWN])
  return shown or "the reasons are not written yet"
