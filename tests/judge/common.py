"""What the tests of judges have in common."""

import io
import threading

from PIL import Image

from emma_jax.judge.base import Call, Reply
from emma_jax.judge.openai import OpenAIJudge

CALL = Call(id="a/1/0/x", text="Is it red?")
USAGE = {"prompt_tokens": 100, "completion_tokens": 10}


def judge(url: str, **more) -> OpenAIJudge:
  """With the pauses of a test."""
  return OpenAIJudge(
    **{
      "base_url": url,
      "model": "m",
      "key_env": "A_KEY_OF_TESTS",
      "temperature": 0,
      "max_tokens": 32,
      "picture_format": "as_is",
      "side": 0,
      "top_logprobs": 0,
      "seed": None,
      "extra": {},
      "retries": 2,
      "timeout": 5.0,
      "concurrency": 8,
      "pause": 0.001,
    }
    | more
  )


def picture(
  colour: str = "red",
  size: tuple[int, int] = (40, 20),
  kind: str = "PNG",
  mode: str = "RGB",
  **more,
) -> bytes:
  out = io.BytesIO()
  Image.new(mode, size, colour).save(out, kind, **more)
  return out.getvalue()


class Counted:
  """A judge that says the call's text again, and counts."""

  def __init__(self, **reply):
    self.reply, self.asked, self.lock = reply, [], threading.Lock()

  def identity(self):
    return {"kind": "counted"}

  def ask(self, call: Call) -> Reply:
    with self.lock:
      self.asked.append(call)
    return Reply(**({"text": call.text, "usage": USAGE} | self.reply))
