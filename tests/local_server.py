"""Servers of this machine, which answer as they are told."""

from collections.abc import Iterator
import contextlib
import http.server
import json
import threading
from typing import Any, NamedTuple, Protocol

Reply = tuple[int, bytes, dict[str, str]]  # status, body, headers
USAGE = {"prompt_tokens": 100, "completion_tokens": 10}


class Answering(Protocol):
  """What decides replies; None: hangs up. Called from several threads."""

  def post(self, path: str, body: bytes, headers: Any) -> Reply | None: ...

  def get(self, path: str) -> Reply | None: ...


def error(status: int, code: str = "", **headers: str) -> Reply:
  """As OpenAI's servers say it; `code` says more than the status."""
  body = json.dumps({"error": {"code": code}}).encode()
  return status, body, headers


def chat(content: Any, finish: str = "stop", **message: Any) -> Reply:
  """A chat completion."""
  choice = {"message": {"content": content, **message}, "finish_reason": finish}
  return completion(choice)


def completion(choice: Any, usage: Any = USAGE, **more: Any) -> Reply:
  """A chat completion of this choice."""
  return (
    200,
    json.dumps({"choices": [choice], "usage": usage} | more).encode(),
    {},
  )


class Asked(NamedTuple):
  """A request that came."""

  path: str
  headers: dict[str, str]
  body: Any


class Script:
  """Replies one after the other, the last for ever; notes what was asked."""

  def __init__(self, *replies: Reply | None):
    self._replies = list(replies)
    self._lock = threading.Lock()
    self.asked: list[Asked] = []

  def post(self, path: str, body: bytes, headers: Any) -> Reply | None:
    with self._lock:
      number = len(self.asked)
      self.asked.append(Asked(path, dict(headers), json.loads(body)))
    return self._replies[min(number, len(self._replies) - 1)]

  def get(self, path: str) -> Reply | None:
    raise NotImplementedError(path)


@contextlib.contextmanager
def serve(app: Answering) -> Iterator[str]:
  """The base address, while the block runs."""

  class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
      body = self.rfile.read(int(self.headers["Content-Length"]))
      self.give(app.post(self.path, body, self.headers))

    def do_GET(self):
      self.give(app.get(self.path))

    def give(self, reply: Reply | None):
      if reply is None:
        self.connection.close()
        return
      status, data, headers = reply
      with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        self.send_response(status)
        for key, value in ({"Content-Length": len(data)} | headers).items():
          self.send_header(key, str(value))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *unused):
      pass

  class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64  # of five, some would come a second late

  with Server(("127.0.0.1", 0), Handler) as httpd:
    thread = threading.Thread(
      target=httpd.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
    )
    thread.start()
    yield f"http://127.0.0.1:{httpd.server_address[1]}/v1"
    httpd.shutdown()
    thread.join()
