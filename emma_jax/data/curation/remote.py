"""Calls to an OpenAI-compatible server: tries, pauses, what kind of error.

later     408, 409, 425, 429, 5xx, a broken connection, a reply that is no
          JSON or lacks its content: tried again, after Retry-After where the
          server says so; after some tries the run ends, and the same command
          goes on
record    400, 413, 422: this record has no answer; asked again by a next run
refused   a content filter's: this record has none, which is kept
the rest  401, 403, 404, an exhausted quota: the run ends at once
"""

from collections.abc import Callable, Mapping
import dataclasses
import email.utils
import hashlib
import http.client
import json
import os
import time
from typing import Any, ClassVar, TypeVar
import urllib.error
import urllib.request
import uuid

from emma_jax.data.curation import replies
from emma_jax.data.curation.answers import NoAnswer, Refused
from emma_jax.data.curation.replies import UNKNOWN, Price
from emma_jax.data.ingest.job import ConversionError
from emma_jax.data.ingest.part import FirstPass
from emma_jax.data.pictures import images

# The server, not the record, is why these fail: they are tried again.
_LATER = {408, 409, 425, 429, 500, 502, 503, 504, 529}
# This record is why these fail: too large, in a way the server cannot take.
_RECORD = {400, 413, 422}
# Codes of OpenAI's and Azure's errors.
_FILTERED = {"content_filter", "content_policy_violation", "moderation_blocked"}
_EXHAUSTED = {"insufficient_quota", "billing_hard_limit_reached"}
_LONGEST_PAUSE = 60.0
_LONGEST_WAIT = 600.0  # that a server may ask for

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Remote:
  """A model behind a server; subclasses say what is asked of it.

  Args:
    url: base address, such as http://localhost:8000/v1
    model: its name there.
    cache: folder of replies.
    known_as: stands for `url` in what decides a reply, for a server that moves
      from one address to another; "": the address itself.
    name: of its calls in the ledger.
    key_env: environment variable that holds the key; it may be unset.
    timeout: seconds for one reply.
    tries: of one request, with pauses from `pause` seconds on, doubled.
    price: of its calls.
    ledger: file of the calls; `ready` names the one of the new data set.
    bill: (id of the ledger, of this run over it), by `billed`.
  """

  WANTED: ClassVar[str] = "reply"  # what a right reply is called in errors

  url: str
  model: str
  cache: str
  known_as: str = ""
  name: str = "answer"
  key_env: str = "OPENAI_API_KEY"
  timeout: float = 120.0
  tries: int = 6
  pause: float = 1.0
  price: Price = UNKNOWN
  ledger: str = ""
  bill: tuple[str, str] = ("", "")

  def __post_init__(self):
    if not self.url.startswith(("http://", "https://")):
      raise ConversionError(
        f"{self.url!r} is no base address such as http://localhost:8000/v1"
      )
    if not self.model:
      raise ConversionError("The client needs the model's name (--model).")

  def identity(self) -> Any:
    """JSON of what decides a reply: here the server and the model."""
    return {"url": self.known_as or self.url, "model": self.model}

  def ready(self, first: FirstPass) -> Any:
    """Itself with the ledger of the new set; the folder of replies is there."""
    os.makedirs(self.cache, exist_ok=True)
    return self.billed(os.path.join(first.folder, replies.LEDGER))

  def billed(self, ledger: str) -> Any:
    """Itself with a ledger, for one run; called once, before any process."""
    bill = replies.open_ledger(ledger), uuid.uuid4().hex
    return dataclasses.replace(self, ledger=ledger, bill=bill)

  def once(
    self,
    content: bytes,
    where: str,
    call: Callable[[], dict[str, Any]],
    complete: Callable[[dict[str, Any]], dict[str, Any]] = lambda reply: reply,
  ) -> dict[str, Any]:
    """What is given for this content, from the disk if it ever was.

    `call` asks the server: {"usage": ..., "pictures": n, ...}; `complete` turns
    that into what is kept. Refused where a content filter has refused it, now
    or before: {"refused": reason}.
    """
    head = f"{self.known_as or self.url}\n".encode()
    key = hashlib.sha256(head + content).hexdigest()
    with replies.lock_of(key):
      kept = replies.read(self.cache, key)
      if kept is None:
        kept = self._asked(key, call, complete)
      elif self._unbilled(key, kept):
        self._paid(key, kept)
    if "refused" in kept:
      raise Refused(where, kept["refused"])
    return kept

  def _asked(
    self,
    key: str,
    call: Callable[[], dict[str, Any]],
    complete: Callable[[dict[str, Any]], dict[str, Any]],
  ) -> dict[str, Any]:
    try:
      reply = call()
    except Refused as error:
      self._failed("refused")
      kept = {"refused": error.reason}
      replies.keep(self.cache, key, kept)
      return kept
    if reply.get("url"):  # to be fetched, which may fail: the bill comes first
      self._paid(key, reply)
      kept = complete(reply)
      replies.keep(self.cache, key, kept)
      return kept
    kept = complete(reply) | {"bill": self.bill}
    replies.keep(self.cache, key, kept)
    self._paid(key, kept)
    return kept

  def _unbilled(self, key: str, kept: Mapping[str, Any]) -> bool:
    """Whether an earlier run over this ledger died before it noted a reply."""
    ledger, run = kept.get("bill") or ("", "")
    if not ledger or ledger != self.bill[0] or run == self.bill[1]:
      return False
    known = replies.noted(self.ledger, self.bill[1])
    if key[:16] in known:
      return False
    known.add(key[:16])
    return True

  def _paid(self, key: str, kept: Mapping[str, Any]) -> None:
    usage, pictures = kept.get("usage") or {}, kept.get("pictures", 0)
    # Of chat, and of pictures.
    read = _number(usage, "prompt_tokens", "input_tokens")
    written = _number(usage, "completion_tokens", "output_tokens")
    replies.note(
      self.ledger,
      name=self.name,
      model=self.model,
      key=key[:16],
      input_tokens=read,
      output_tokens=written,
      pictures=pictures,
      cost=self.price.of(read, written, pictures),
    )

  def _failed(self, reason: str) -> None:
    replies.note(self.ledger, name=self.name, model=self.model, failed=reason)

  def post(
    self,
    path: str,
    body: bytes,
    content_type: str,
    read: Callable[[Any], T],
    where: str,
  ) -> T:
    """`read` of the reply's JSON; ValueError, LookupError or TypeError of it
    say that it is no such reply, which is tried again."""
    request = urllib.request.Request(
      f"{self.url.rstrip('/')}/{path}", body, {"Content-Type": content_type}
    )
    key = os.environ.get(self.key_env, "")
    if key:
      request.add_header("Authorization", f"Bearer {key}")
    return self._tried(lambda: read(self._json(request)), where)

  def fetch(self, url: str, where: str) -> bytes:
    """The bytes behind an address that a reply gave, with the same tries."""
    if not url.startswith(("http://", "https://", "data:")):
      raise NoAnswer(where, f"{url:.80} is no address of a picture")

    def get() -> bytes:
      with urllib.request.urlopen(url, timeout=self.timeout) as response:
        return response.read(images.MAX_BYTES + 1)

    return self._tried(get, where)

  def _json(self, request: urllib.request.Request) -> Any:
    with urllib.request.urlopen(request, timeout=self.timeout) as response:
      return json.load(response)

  def _tried(self, call: Callable[[], T], where: str) -> T:
    problem, wait = "", 0.0
    for attempt in range(self.tries):
      if attempt:
        time.sleep(wait)
      wait = min(self.pause * 2**attempt, _LONGEST_PAUSE)
      try:
        return call()
      except urllib.error.HTTPError as error:
        problem = self._of_status(error, where)
        wait = _retry_after(error.headers) or wait
        reason = str(error.code)
      except (OSError, http.client.HTTPException) as error:
        problem = f"{type(error).__name__}: {error}"
        reason = "connection"
      except NoAnswer:
        raise
      except (ValueError, LookupError, TypeError) as error:
        problem = f"no {self.WANTED}: {type(error).__name__}: {error}"
        reason = "malformed"
      self._failed(reason)
    raise ConversionError(
      f"{self.url} gave no answer in {self.tries} tries; the last: "
      f"{problem}. What is done is kept: give the same command again."
    )

  def _of_status(self, error: urllib.error.HTTPError, where: str) -> str:
    """The problem in words, if it is one to try again; raises what it is."""
    text = error.read(2000).decode("utf-8", "replace")
    problem, code = f"{error.code} {error.reason}: {text[:200]}", _code(text)
    if code in _FILTERED:
      raise Refused(where, f"{self.url} refuses it: {problem}") from error
    if error.code in _RECORD:
      self._failed(str(error.code))
      raise NoAnswer(where, f"{self.url} refuses it: {problem}") from error
    if error.code not in _LATER or code in _EXHAUSTED:
      raise ConversionError(f"{self.url}: {problem}") from error
    return problem


def _code(text: str) -> str:
  """{"error": {"code": ...}} of an error's body; "" of any other."""
  try:
    error = json.loads(text)["error"]
    return str(error.get("code") or error.get("type") or "")
  except (ValueError, LookupError, TypeError, AttributeError):
    return ""


def _retry_after(headers: Any) -> float | None:
  """Seconds of Retry-After, which is a number or a date.

  >>> _retry_after({"Retry-After": "7"}), _retry_after({})
  (7.0, None)
  """
  value = headers.get("Retry-After", "")
  try:
    seconds = float(value)
  except ValueError:
    try:
      date = email.utils.parsedate_to_datetime(value)
    except (TypeError, ValueError):
      return None
    seconds = date.timestamp() - time.time()
  return min(max(seconds, 0.0), _LONGEST_WAIT)


def _number(usage: Mapping[str, Any], *names: str) -> int | None:
  for name in names:
    if isinstance(usage.get(name), int):
      return usage[name]
  return None
