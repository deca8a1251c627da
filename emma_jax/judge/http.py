"""Requests to an OpenAI-compatible server: tries, pauses, kinds of failure.

later     408, 409, 425, 429, 5xx, a broken connection, a reply that is not what
          was asked for: tried again, after Retry-After where the server says
          so; after some tries `GaveUp`
rejected  400, 413, 422: this request alone is why; `Rejected`
filtered  a content filter's: asked again it would say the same; `Filtered`
the rest  401, 403, 404, an exhausted quota: no request will do; `Denied`
"""

from collections.abc import Callable
import dataclasses
import email.utils
import http.client
import json
import math
import os
import threading
import time
from typing import Any, TypeVar
import urllib.error
import urllib.request

# The server, not the request, is why these fail: they are tried again.
_LATER = {408, 409, 425, 429, 500, 502, 503, 504, 529}
# The request is why these fail: too large, in a way the server cannot take.
_REJECTED = {400, 413, 422}
# Codes of OpenAI's and Azure's errors.
_FILTERED = {"content_filter", "content_policy_violation", "moderation_blocked"}
EXHAUSTED = {"insufficient_quota", "billing_hard_limit_reached"}
_LONGEST_PAUSE = 60.0
_LONGEST_WAIT = 600.0  # that a server may ask for

T = TypeVar("T")


class Failed(Exception):
  """A request without a reply.

  problem: in words.
  status: of HTTP; 0 where there is none.
  code: of the server's error; "" where it gives none.
  """

  def __init__(self, problem: str, status: int = 0, code: str = ""):
    super().__init__(problem)
    self.problem, self.status, self.code = problem, status, code


class GaveUp(Failed):
  """No try gave what was asked for; the problem is that of the last."""


class Rejected(Failed):
  """The server cannot take this request."""


class Filtered(Failed):
  """A content filter will not have this request answered."""


class Denied(Failed):
  """The server will answer no request at all."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Server:
  """An OpenAI-compatible server.

  Args:
    url: base address, such as http://localhost:8000/v1
    key_env: environment variable that holds the key; it may be unset.
    timeout: seconds for one reply.
    tries: of one request, with pauses from `pause` seconds on, doubled.
    wanted: what a right reply is called in errors.
    closing: when it is set, nothing is tried again.
  """

  url: str
  key_env: str
  timeout: float
  tries: int
  pause: float
  wanted: str
  closing: threading.Event = dataclasses.field(default_factory=threading.Event)

  def post(
    self,
    path: str,
    body: bytes,
    content_type: str,
    read: Callable[[bytes], T],
    failed: Callable[[str], None],
  ) -> T:
    """`read` of the reply to a POST.

    Args:
      path: below the base address.
      body: what is sent.
      content_type: of it.
      read: its ValueError, LookupError, TypeError or AttributeError say that
        it is no such reply, which is tried again.
      failed: told of each try in vain: "429", "connection" or "malformed".

    Raises:
      Failed: one of its kinds.
    """
    request = urllib.request.Request(
      f"{self.url.rstrip('/')}/{path}", body, {"Content-Type": content_type}
    )
    if self._key():
      request.add_header("Authorization", f"Bearer {self._key()}")

    def send() -> T:
      with urllib.request.urlopen(request, timeout=self.timeout) as response:
        return read(response.read())

    return self._tried(send, failed)

  def get(self, url: str, most: int, failed: Callable[[str], None]) -> bytes:
    """At most so many bytes of any address, without the key."""

    def read() -> bytes:
      with urllib.request.urlopen(url, timeout=self.timeout) as response:
        return response.read(most)

    return self._tried(read, failed)

  def _key(self) -> str:
    return os.environ.get(self.key_env, "").strip() if self.key_env else ""

  def _tried(self, call: Callable[[], T], failed: Callable[[str], None]) -> T:
    problem, wait = "", 0.0
    for attempt in range(self.tries):
      if self.closing.wait(wait):
        raise GaveUp(problem or "it was asked to stop")
      wait = min(self.pause * 2**attempt, _LONGEST_PAUSE)
      try:
        return call()
      except urllib.error.HTTPError as error:
        problem = self._of_status(error)
        wait = retry_after(error.headers) or wait
        reason = str(error.code)
      except (OSError, http.client.HTTPException) as error:
        problem = f"{type(error).__name__}: {error}"
        reason = "connection"
      except (
        *(ValueError, LookupError, TypeError, AttributeError),
        RecursionError,  # of JSON in JSON in JSON
      ) as error:
        problem = f"no {self.wanted}: {type(error).__name__}: {error}"
        reason = "malformed"
      failed(reason)
    raise GaveUp(problem)

  def _of_status(self, error: urllib.error.HTTPError) -> str:
    """The problem in words, if it is one to try again; raises what it is."""
    try:
      with error:
        text = error.read(2000).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException):  # broke off in its excuse
      text = ""
    if self._key():  # some servers say it again
      text = text.replace(self._key(), "***")
    code = _code(text)
    told = f"{error.code} {error.reason}: {text[:200]}", error.code, code
    if code in _FILTERED:
      raise Filtered(*told) from error
    if error.code in _REJECTED:
      raise Rejected(*told) from error
    if error.code not in _LATER or code in EXHAUSTED:
      raise Denied(*told) from error
    return told[0]


def _code(text: str) -> str:
  """{"error": {"code": ...}} of an error's body; "" of any other."""
  try:
    error = json.loads(text)["error"]
    return str(error.get("code") or error.get("type") or "")
  except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
    return ""


def retry_after(headers: Any) -> float | None:
  """Seconds of Retry-After, which is a number or a date.

  >>> retry_after({"Retry-After": "7"}), retry_after({})
  (7.0, None)
  """
  value = headers.get("Retry-After", "")
  try:
    seconds = float(value)
  except ValueError:
    try:
      date = email.utils.parsedate_to_datetime(value)
      seconds = date.timestamp() - time.time()
    except (TypeError, ValueError, OverflowError):
      return None
  if not math.isfinite(seconds):
    return None
  return min(max(seconds, 0.0), _LONGEST_WAIT)
