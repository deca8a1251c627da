"""What a judge is asked, what it replies, and what a judge is.

A judge is whatever turns a question about pictures into a reply: a model behind
a server, a file of replies made before, a detector of objects, a reader of
texts. A reply is decided by the judge's identity and the call, nothing else.
"""

from collections.abc import Iterable, Mapping
import dataclasses
import hashlib
import json
from typing import Any, Literal, Protocol

from emma_jax.exits import Exit

# ok           there is a reply, whatever it says
# refused      a content filter, or the model, will not reply
# unreachable  the server gave none, in all tries
# absent       nobody was asked: no judge, or a file without this call
Status = Literal["ok", "refused", "unreachable", "absent"]


class JudgeError(RuntimeError):
  """Nothing can be asked any more: the run ends, and goes on where it was."""

  exit_code = Exit.UNREACHABLE


class OutOfBudget(JudgeError):
  """The next call might pass what its user will have asked or paid."""

  exit_code = Exit.MISTAKE


@dataclasses.dataclass(frozen=True, kw_only=True)
class Call:
  """One question to a judge.

  Args:
    id: names it in files of replies: "gedit/17/0/sc".
    text: the prompt.
    system: the prompt before it, "" for none.
    pictures: files, shown in order, before the text.
    text_first: they are shown behind it.
    options: settings of this call, over those of the judge: temperature,
      max_tokens, top_logprobs.
    attempt: 1, 2, ...: the same asked anew, for protocols that do so.
  """

  id: str
  text: str
  system: str = ""
  pictures: tuple[bytes, ...] = ()
  options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  attempt: int = 0
  text_first: bool = False

  def content(self) -> dict[str, Any]:
    """JSON of what decides the reply; the id does not."""
    return {
      "text": self.text,
      "system": self.system,
      "pictures": [hashlib.sha256(p).hexdigest() for p in self.pictures],
      "options": dict(self.options),
      "attempt": self.attempt,
      "text_first": self.text_first,
    }


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reply:
  """What came back.

  Args:
    status: see `Status`; with any but ok, `text` is "".
    text: as it came.
    model: as the server named itself.
    finish: why it ended: "stop", "length".
    usage: tokens, as the server counts them.
    logprobs: of the first token: text -> log-probability, where asked for.
    error: what went wrong.
    seconds: of the call.
    tries: it took.
    date: when, ISO 8601.
  """

  status: Status = "ok"
  text: str = ""
  model: str = ""
  finish: str = ""
  usage: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  logprobs: Mapping[str, float] = dataclasses.field(default_factory=dict)
  error: str = ""
  seconds: float = 0.0
  tries: int = 1
  date: str = ""


def tokens_of(replies: Iterable[Reply]) -> tuple[int, int]:
  """(in, out) of replies, as far as servers counted them."""
  usages = [reply.usage for reply in replies]
  return (
    sum(usage.get("prompt_tokens") or 0 for usage in usages),
    sum(usage.get("completion_tokens") or 0 for usage in usages),
  )


class Judge(Protocol):
  """Replies to calls; safe to use from several threads."""

  def identity(self) -> Mapping[str, Any]:
    """JSON of all settings that decide a reply; no address of a server."""
    ...

  def ask(self, call: Call) -> Reply:
    """The reply to a call; does not raise for what a server does with it.

    Raises:
      JudgeError: no call would get a reply: a wrong key, no such model, no
        quota, no budget.
    """
    ...


def close(judge: Judge) -> None:
  """Makes a judge that would try again, or wait to, give up; others have none
  of it."""
  getattr(judge, "close", lambda: None)()


def key_of(identity: Mapping[str, Any], call: Call) -> str:
  """Names a reply: a digest of all that decides it.

  Of a judge whose identity says `by_id` (a file of replies) that is the call's
  id too: what it says of two calls alike may differ.
  """
  name = call.id if identity.get("by_id") else ""
  content = json.dumps(
    [identity, call.content(), name], sort_keys=True, ensure_ascii=False
  )
  data = content.encode(errors="backslashreplace")  # halves of characters
  return hashlib.sha256(data).hexdigest()
