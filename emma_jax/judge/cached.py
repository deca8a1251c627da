"""Replies that were given before: nothing is asked, or paid, twice."""

from collections.abc import Mapping
import dataclasses
import os
from typing import Any

from emma_jax.judge import base, replies
from emma_jax.judge.base import Call, Judge, JudgeError, Reply, key_of

# What would be the same if it were asked again.
_KEPT = ("ok", "refused")


@dataclasses.dataclass(frozen=True)
class Cached:
  """A judge whose replies are kept in files, <ab>/<sha256>.json.

  Runs and processes may share the folder: threads, and processes of one
  machine, that ask the same at once pay once. What no server gave is not kept.

  Args:
    judge: that is asked.
    folder: of the replies.
  """

  judge: Judge
  folder: str

  def identity(self) -> Mapping[str, Any]:
    """The judge's."""
    return self.judge.identity()

  def key(self, call: Call) -> str:
    """Of its reply."""
    return key_of(self.identity(), call)

  def knows(self, call: Call) -> bool:
    """Whether the reply is there, so that the call costs nothing."""
    return os.path.exists(replies.path_of(self.folder, self.key(call)))

  def close(self) -> None:
    """Of the judge."""
    base.close(self.judge)

  def ask(self, call: Call) -> Reply:
    """The reply, from the disk if it ever was given."""
    return self.ask_cached(call)[0]

  def ask_cached(self, call: Call) -> tuple[Reply, bool]:
    """(the reply, whether it was there before).

    Raises:
      JudgeError: of the judge; or a file of the folder is damaged.
    """
    key = self.key(call)
    kept = self._read(key)
    if kept is not None:
      return kept, True
    with replies.alone(self.folder, key):
      kept = self._read(key)  # another may have asked meanwhile
      if kept is not None:
        return kept, True
      reply = self.judge.ask(call)
      if reply.status in _KEPT:
        replies.keep(self.folder, key, dataclasses.asdict(reply))
      return reply, False

  def _read(self, key: str) -> Reply | None:
    try:
      kept = replies.read(self.folder, key)
      return None if kept is None else Reply(**kept)
    except (ValueError, TypeError) as error:
      raise JudgeError(
        f"{replies.path_of(self.folder, key)} is no reply of this version "
        f"({error}). Delete it, and the judge is asked again."
      ) from error


def ask(judge: Judge, call: Call) -> tuple[Reply, bool]:
  """(any judge's reply, whether it had been asked before)."""
  if isinstance(judge, Cached):
    return judge.ask_cached(call)
  return judge.ask(call), False
