"""Replies that others have made: a file of them, or none at all.

A line of the file is a JSON object:

  {"call": "gedit/17/0/sc", "text": "{\\"score\\": [7, 8]}", "model": "m",
   "finish": "stop", "logprobs": {"Yes": -0.1}}
  {"call": "gedit/18/0/sc", "refused": "a content filter"}

"call" and one of "text" and "refused" are needed, the rest is optional.
"""

import array
from collections.abc import Mapping
import dataclasses
import hashlib
import json
import os
from typing import Any

import numpy as np

from emma_jax.judge.base import Call, JudgeError, Reply

_KEYS = {"call", "text", "refused", "model", "finish", "logprobs"}


class Precomputed:
  """Replies from a file of JSON lines, which stays on disk.

  An index of 16 bytes a line, made when the file is opened, finds the lines.

  Args:
    path: of the file.

  Raises:
    ValueError: a damaged line, or two lines of one call; names file and line.
    OSError: there is no such file.
  """

  def __init__(self, path: str | os.PathLike):
    self.path = os.fspath(path)
    self._hashes, self._offsets, self._digest = _index(self.path)

  def identity(self) -> Mapping[str, Any]:
    """What the file holds, wherever it is."""
    return {"kind": "precomputed", "sha256": self._digest, "by_id": True}

  def ask(self, call: Call) -> Reply:
    """The reply of the call's id; absent where the file has none.

    Raises:
      JudgeError: the file was changed since it was opened.
    """
    wanted = np.uint64(_hash(call.id))
    at = int(np.searchsorted(self._hashes, wanted))
    try:
      with open(self.path, "rb") as file:
        while at < self._hashes.size and self._hashes[at] == wanted:
          file.seek(int(self._offsets[at]))
          name, reply = _parse(file.readline())
          if _hash(name) != wanted:
            raise ValueError(f"a line of {name!r}, where {call.id!r} was")
          if name == call.id:
            return reply
          at += 1
    except (OSError, ValueError) as error:
      raise JudgeError(
        f"{self.path} was changed while it was in use ({error}). Give the same "
        "command again."
      ) from error
    return Reply(
      status="absent", error=f"{self.path} has no call {call.id!r}", tries=0
    )


@dataclasses.dataclass(frozen=True)
class NoJudge:
  """Nobody: replies to nothing."""

  def identity(self) -> Mapping[str, Any]:
    """That there is none."""
    return {"kind": "none"}

  def ask(self, call: Call) -> Reply:
    """Absent."""
    del call
    return Reply(status="absent", error="there is no judge", tries=0)


def _hash(name: str) -> int:
  data = name.encode("utf-8", "surrogatepass")
  return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest())


def _index(path: str) -> tuple[np.ndarray, np.ndarray, str]:
  """(hashes of the calls' ids, ascending; where their lines begin; sha256)."""
  hashes, offsets, numbers = (array.array("Q") for _ in range(3))
  digest, at = hashlib.sha256(), 0
  with open(path, "rb") as file:
    for number, line in enumerate(file, 1):
      digest.update(line)
      if line.strip():
        try:
          name, _ = _parse(line)
        except ValueError as error:
          raise ValueError(
            f"{path}, line {number}: no reply such as "
            f'{{"call": "gedit/17/0/sc", "text": "7"}}: {error}'
          ) from error
        hashes.append(_hash(name))
        offsets.append(at)
        numbers.append(number)
      at += len(line)
  order = np.argsort(np.array(hashes, np.uint64), kind="stable")
  sorted_hashes = np.array(hashes, np.uint64)[order]
  sorted_offsets = np.array(offsets, np.uint64)[order]
  for i in np.flatnonzero(sorted_hashes[1:] == sorted_hashes[:-1]):
    first, second = (_name_at(path, int(sorted_offsets[n])) for n in (i, i + 1))
    if first == second:
      where = numbers[int(order[i])], numbers[int(order[i + 1])]
      raise ValueError(
        f"{path}, lines {where[0]} and {where[1]}: both are of the call "
        f"{first!r}. Delete one."
      )
  return sorted_hashes, sorted_offsets, digest.hexdigest()


def _name_at(path: str, offset: int) -> str:
  with open(path, "rb") as file:
    file.seek(offset)
    return _parse(file.readline())[0]


def _parse(line: bytes) -> tuple[str, Reply]:
  """(id of the call, reply); ValueError says what is wrong with the line."""
  row = json.loads(line.decode("utf-8-sig"))
  if not isinstance(row, dict):
    raise ValueError(f"it is {row!r:.40}, not an object")
  if unknown := sorted(row.keys() - _KEYS):
    raise ValueError(f"it has {unknown}; there are {sorted(_KEYS)}")
  for key in _KEYS - {"logprobs"}:
    if not isinstance(row.get(key, ""), str):
      raise ValueError(f"{key} is {row[key]!r:.40}, not a text")
  if not row.get("call") or ("text" in row) == ("refused" in row):
    raise ValueError('it needs "call", and one of "text" and "refused"')
  logprobs = row.get("logprobs", {})
  if not isinstance(logprobs, dict) or not all(
    isinstance(v, int | float) and v <= 0 for v in logprobs.values()
  ):
    raise ValueError(f"logprobs is {logprobs!r:.60}, not text: number up to 0")
  refused = "refused" in row
  return row["call"], Reply(
    status="refused" if refused else "ok",
    text=row.get("text", ""),
    model=row.get("model", ""),
    finish=row.get("finish", ""),
    logprobs=logprobs,
    error=row.get("refused", ""),
    tries=0,
  )
