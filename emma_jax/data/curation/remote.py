"""A model behind an OpenAI-compatible server, its replies kept and counted.

What is asked for is tried again as judge/http.py says. A server that gives no
answer in all tries, or will give none, ends the run, and the same command goes
on; where the request is why, this record has no answer, and is asked again by a
next run; what a content filter refuses is kept as refused.
"""

from collections.abc import Callable, Iterator, Mapping
import contextlib
import dataclasses
import hashlib
import json
import os
from typing import Any, ClassVar, TypeVar
import uuid

from emma_jax.data.curation.answers import NoAnswer, Refused
from emma_jax.data.ingest.job import ConversionError
from emma_jax.data.ingest.part import FirstPass
from emma_jax.data.pictures import images
from emma_jax.judge import http, replies
from emma_jax.judge import ledger as ledger_lib
from emma_jax.judge.ledger import UNKNOWN, Price

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
    return self.billed(os.path.join(first.folder, ledger_lib.LEDGER))

  def billed(self, ledger: str) -> Any:
    """Itself with a ledger, for one run; called once, before any process."""
    bill = ledger_lib.open_ledger(ledger), uuid.uuid4().hex
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
    known = ledger_lib.noted(self.ledger, self.bill[1])
    if key[:16] in known:
      return False
    known.add(key[:16])
    return True

  def _paid(self, key: str, kept: Mapping[str, Any]) -> None:
    usage, pictures = kept.get("usage") or {}, kept.get("pictures", 0)
    # Of chat, and of pictures.
    read = _number(usage, "prompt_tokens", "input_tokens")
    written = _number(usage, "completion_tokens", "output_tokens")
    ledger_lib.note(
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
    ledger_lib.note(
      self.ledger, name=self.name, model=self.model, failed=reason
    )

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
    with self._failures(where):
      return self._server().post(
        path,
        body,
        content_type,
        lambda data: read(json.loads(data)),
        self._failed,
      )

  def fetch(self, url: str, where: str) -> bytes:
    """The bytes behind an address that a reply gave, with the same tries."""
    if not url.startswith(("http://", "https://", "data:")):
      raise NoAnswer(where, f"{url:.80} is no address of a picture")
    with self._failures(where):
      return self._server().get(url, images.MAX_BYTES + 1, self._failed)

  def _server(self) -> http.Server:
    return http.Server(
      url=self.url,
      key_env=self.key_env,
      timeout=self.timeout,
      tries=self.tries,
      pause=self.pause,
      wanted=self.WANTED,
    )

  @contextlib.contextmanager
  def _failures(self, where: str) -> Iterator[None]:
    """Says what becomes of the record, and of the run."""
    try:
      yield
    except http.Filtered as error:
      reason = f"{self.url} refuses it: {error.problem}"
      raise Refused(where, reason) from error
    except http.Rejected as error:
      self._failed(str(error.status))
      reason = f"{self.url} refuses it: {error.problem}"
      raise NoAnswer(where, reason) from error
    except http.Denied as error:
      raise ConversionError(f"{self.url}: {error.problem}") from error
    except http.GaveUp as error:
      raise ConversionError(
        f"{self.url} gave no answer in {self.tries} tries; the last: "
        f"{error.problem}. What is done is kept: give the same command again."
      ) from error


def _number(usage: Mapping[str, Any], *names: str) -> int | None:
  for name in names:
    if isinstance(usage.get(name), int):
      return usage[name]
  return None
