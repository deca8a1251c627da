"""A judge behind an OpenAI-compatible server: vLLM, SGLang, OpenAI, ..."""

import base64
from collections.abc import Mapping
import dataclasses
import datetime
import json
import math
import threading
import time
from typing import Any

from emma_jax.judge import http, pictures
from emma_jax.judge.base import Call, JudgeError, Reply

# Keys of the request that are not settings.
_OURS = {"messages", "model", "stream"}
_TEMPLATE_TOKENS = 64  # of what a server writes around a prompt


@dataclasses.dataclass(frozen=True, kw_only=True)
class OpenAIJudge:
  """Asks a model behind /chat/completions.

  Args:
    base_url: such as http://localhost:8000/v1
    model: its name there.
    key_env: environment variable that holds the key; "" or unset: no key.
    temperature: None leaves it to the server.
    max_tokens: of a reply.
    picture_format: that pictures are sent in; see `pictures.sent`.
    side: longest side of pictures that are sent, in pixels; 0: as they are.
    top_logprobs: candidates of the first token to ask for; 0: none.
    seed: of the server's sampling; None: not sent.
    extra: further keys of the request; None takes one away that is there, from
      calls too: {"max_tokens": None, "max_completion_tokens": 4096}.
    retries: further tries of a call whose server fails.
    timeout: seconds for one try.
    concurrency: calls at a time; others wait.
    pause: seconds before the second try, then doubled.
  """

  base_url: str
  model: str
  key_env: str
  temperature: float | None
  max_tokens: int
  picture_format: pictures.Format
  side: int
  top_logprobs: int
  seed: int | None
  extra: Mapping[str, Any]
  retries: int
  timeout: float
  concurrency: int
  pause: float = 1.0
  _slots: threading.BoundedSemaphore = dataclasses.field(
    init=False, repr=False, compare=False
  )
  _closing: threading.Event = dataclasses.field(
    init=False, repr=False, compare=False, default_factory=threading.Event
  )

  def __post_init__(self):
    url = self.base_url
    if not url.startswith(("http://", "https://")):
      raise ValueError(
        f"base_url={url!r} is no address such as http://localhost:8000/v1"
      )
    if url.rstrip("/").endswith("/completions"):
      raise ValueError(
        f"base_url={url!r} is the address of chats; give what stands before "
        "/chat/completions, which ends in /v1."
      )
    if not self.model:
      raise ValueError("model is '': name the model as the server does.")
    if self.picture_format not in pictures.FORMATS:
      raise ValueError(
        f"picture_format={self.picture_format!r} is none of "
        f"{', '.join(pictures.FORMATS)}."
      )
    least = {"max_tokens": 1, "concurrency": 1}
    least |= {"side": 0, "top_logprobs": 0, "retries": 0}
    for name, low in least.items():
      value = getattr(self, name)
      if not isinstance(value, int) or value < low:
        raise ValueError(f"{name}={value!r} is no whole number from {low} on.")
    if not self.timeout > 0:
      raise ValueError(f"timeout={self.timeout!r} is no number of seconds.")
    if not isinstance(self.extra, Mapping):
      raise ValueError(f"extra={self.extra!r:.80} is no dictionary.")
    if wrong := sorted(_OURS & self.extra.keys()):
      raise ValueError(f"extra has {wrong}, which the judge sets itself.")
    slots = threading.BoundedSemaphore(self.concurrency)
    object.__setattr__(self, "_slots", slots)

  def identity(self) -> Mapping[str, Any]:
    """All settings that decide a reply."""
    temperature = self.temperature
    return {
      "kind": "openai",
      "model": self.model,
      # 0 and 0.0 are one temperature, but two texts.
      "temperature": None if temperature is None else float(temperature),
      "max_tokens": self.max_tokens,
      "picture_format": self.picture_format,
      "side": self.side,
      "top_logprobs": self.top_logprobs,
      "seed": self.seed,
      "extra": dict(self.extra),
    }

  def close(self) -> None:
    """Tries nothing again: calls come back when their present try does."""
    self._closing.set()

  def ask(self, call: Call) -> Reply:
    """The server's reply.

    ok         text, or log-probabilities where they were asked for
    refused    by the model, or by a content filter
    unreachable  no such reply in all tries; a request that the server cannot
               take (too long, in a way it does not know), or a picture that
               cannot be read: not tried again

    Raises:
      JudgeError: the server will answer nothing: says what to do.
    """
    date = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    try:
      body = json.dumps(self._body(call)).encode()
    except pictures.BadPicture as error:
      return Reply(
        status="unreachable", error=f"a picture: {error}", tries=0, date=date
      )
    with self._slots:
      start = time.monotonic()
      found, tries = self._asked(body)
      seconds = round(time.monotonic() - start, 3)
    return Reply(**found, seconds=seconds, tries=tries, date=date)

  def _asked(self, body: bytes) -> tuple[dict[str, Any], int]:
    """(fields of the reply, tries it took)."""
    usages: list[Any] = []
    vain: list[str] = []
    server = http.Server(
      url=self.base_url,
      key_env=self.key_env,
      timeout=self.timeout,
      tries=self.retries + 1,
      pause=self.pause,
      wanted="chat completion",
      closing=self._closing,
    )
    try:
      found = server.post(
        "chat/completions",
        body,
        "application/json",
        lambda data: _completion(data, usages),
        vain.append,
      )
    except http.Filtered as error:
      found = {"status": "refused", "error": error.problem}
    except http.Rejected as error:
      found = {"status": "unreachable", "error": error.problem}
    except http.GaveUp as error:
      problem = f"no reply in {len(vain)} tries; the last: {error.problem}"
      found = {"status": "unreachable", "error": problem}
      return found | {"usage": _sum(usages)}, len(vain)
    except http.Denied as error:
      raise JudgeError(
        f"{self.base_url}: {error.problem}. {self._remedy(error)} What is done "
        "is kept: give the same command again."
      ) from error
    return found | {"usage": _sum(usages)}, len(vain) + 1

  def _remedy(self, error: http.Denied) -> str:
    if error.code in http.EXHAUSTED or error.status == 402:
      return "Fill up the account, or name another judge."
    if error.status == 401:
      key = f"the key in ${self.key_env}" if self.key_env else "key_env"
      return f"Look at {key}."
    if error.status == 403:
      return f"Ask for access to {self.model}, or name another judge."
    if error.status == 404:
      return (
        f"Look at base_url, which ends in /v1, and whether {self.model!r} is "
        "among the models at base_url/models."
      )
    return "Look at base_url, model and extra."

  def _body(self, call: Call) -> dict[str, Any]:
    options = {
      "temperature": self.temperature,
      "max_tokens": self.max_tokens,
      "seed": self.seed,
      **self.extra,
      **call.options,
    }
    top = options.pop("top_logprobs", self.top_logprobs)
    if top:
      options |= {"logprobs": True, "top_logprobs": top}
    messages = [{"role": "user", "content": self._content(call)}]
    if call.system:
      messages.insert(0, {"role": "system", "content": call.system})
    return {"model": self.model, "messages": messages} | {
      key: value
      for key, value in options.items()
      if value is not None and self.extra.get(key, value) is not None
    }

  def _content(self, call: Call) -> Any:
    if not call.pictures:
      return call.text  # a text: some servers of models of text want no parts
    parts: list[dict[str, Any]] = []
    for data in call.pictures:
      kind, file = pictures.sent(data, self.picture_format, self.side)
      url = f"data:{kind};base64,{base64.b64encode(file).decode()}"
      parts.append({"type": "image_url", "image_url": {"url": url}})
    text = {"type": "text", "text": call.text}
    return [text, *parts] if call.text_first else [*parts, text]

  def most_tokens(self, call: Call) -> tuple[int, int]:
    """(tokens in, tokens out) of a try at the most, for budgets.

    Of a text as many as its bytes, of a picture as most models take it for;
    of a reply what it is limited to.
    """
    read = sum(len(text.encode()) for text in (call.system, call.text))
    seen = sum(pictures.most_tokens(p, self.side) for p in call.pictures)
    settings = {"max_tokens": self.max_tokens, **self.extra, **call.options}
    limits = (settings.get(k) for k in ("max_tokens", "max_completion_tokens"))
    written = max([n for n in limits if n is not None], default=self.max_tokens)
    return read + seen + _TEMPLATE_TOKENS, written


# -------------------------------------------------------------------- replies


def refusal_of(choice: Mapping[str, Any]) -> str:
  """Why a choice of a chat completion holds no answer; "" where it may.

  Raises LookupError, TypeError or AttributeError where it is no such choice.
  """
  refusal = choice["message"].get("refusal")
  if refusal or choice.get("finish_reason") == "content_filter":
    return f"refused: {refusal or 'by its content filter'}"
  return ""


def _completion(data: bytes, usages: list[Any]) -> dict[str, Any]:
  """Fields of a `Reply`; errors of JSON's structure: it is no completion.

  Its usage is added to `usages` even then: it is paid for.
  """
  try:
    # NaN and Infinity are no JSON, and could not be written as such.
    reply = json.loads(data, parse_constant=lambda _: None)
  except ValueError as error:
    raise ValueError(f"{error}; it begins {data[:60]!r}") from error
  usages.append(reply.get("usage"))
  if "choices" not in reply and reply.get("error"):
    raise ValueError(f"{reply['error']}"[:200])
  choice = reply["choices"][0]
  finish = str(choice.get("finish_reason") or "")
  common = {"model": _clean(str(reply.get("model") or "")), "finish": finish}
  if refusal := refusal_of(choice):
    return common | {"status": "refused", "error": _clean(refusal)}
  logprobs = _logprobs(choice)
  text = choice["message"].get("content") or ""
  if not isinstance(text, str):
    raise TypeError(f"content is {text!r:.80}")
  # Cut at the limit, as while it still thinks, it would be cut there again.
  if not text.strip() and finish != "length" and not logprobs:
    raise ValueError(f"the reply is empty ({finish=})")
  return common | {"status": "ok", "text": _clean(text), "logprobs": logprobs}


def _logprobs(choice: Mapping[str, Any]) -> dict[str, float]:
  """Of the first token: text -> log-probability; empty where none are told."""
  tokens = (choice.get("logprobs") or {}).get("content") or ()
  if not tokens:
    return {}
  first = tokens[0]
  found: dict[str, float] = {}
  for one in first.get("top_logprobs") or [first]:
    text, value = _clean(one["token"]), one["logprob"]
    if value is None or not math.isfinite(value):
      continue
    # Two tokens may have one text, such as halves of letters: either of them.
    low, high = sorted((found.get(text, -math.inf), value))
    found[text] = high + math.log1p(math.exp(low - high))
  return found


def _sum(usages: list[Any]) -> dict[str, Any]:
  """The usage of all tries; of one as the server told it."""
  told = [usage for usage in usages if isinstance(usage, dict)]
  if len(told) < 2:
    return dict(told[0]) if told else {}
  keys = {key for usage in told for key in usage}
  numbers = {k: [u.get(k) for u in told] for k in sorted(keys)}
  return {
    key: sum(n for n in values if isinstance(n, int))
    for key, values in numbers.items()
    if any(isinstance(n, int) for n in values)
  }


def _clean(text: str) -> str:
  """Without halves of letters, which UTF-8 does not have."""
  return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
