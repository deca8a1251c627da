"""An OpenAI-compatible server of this machine with made-up answers.

Pictures are of one colour, and the colour says what is written in them: `signs`
maps a colour to words. An edit of text gives a picture of another colour, which
then says the new words; any other edit turns the colour around. Answers are a
function of the request, so a chain gives the same data however often it is
interrupted.
"""

import base64
from collections import Counter
from collections.abc import Callable, Iterator
import contextlib
import hashlib
import io
import json
import re
import threading
from typing import Any

from PIL import Image

from emma_jax.data.curation import instructions
from tests import local_server
from tests.local_server import USAGE, Reply

_STEPS = 32  # of a colour: what JPEG changes is less


def code(image: Image.Image) -> tuple[int, ...]:
  """A colour, coarsely."""
  middle = image.convert("RGB").getpixel((image.width // 2, image.height // 2))
  return tuple((value + _STEPS // 2) // _STEPS for value in middle)


def colour_of(words: str) -> tuple[int, int, int]:
  """A colour for words."""
  digest = hashlib.sha256(words.encode()).digest()
  red, green, blue = (value // _STEPS * _STEPS for value in digest[:3])
  return red, green, blue


def png(colour: Any, size: tuple[int, int]) -> bytes:
  out = io.BytesIO()
  Image.new("RGB", size, colour).save(out, "PNG")
  return out.getvalue()


class Fake:
  """What the server answers, and what it was asked.

  Args:
    fail: (number of the request, path) -> a reply in place of the right one;
      None: none.
    urls: pictures come as addresses, not as base64.
  """

  def __init__(
    self,
    fail: Callable[[int, str], Reply | None] = lambda n, path: None,
    urls: bool = False,
  ):
    self.fail, self.urls = fail, urls
    self.url = ""
    self.signs: dict[tuple[int, ...], list[str]] = {}
    self.files: dict[str, bytes] = {}
    self.lock = threading.Lock()
    self.number = 0
    self.asked: Counter[str] = Counter()  # path -> requests
    self.answered: Counter[str] = Counter()  # hash of a body -> right answers

  def say(self, words: str, size: tuple[int, int] = (64, 64)) -> bytes:
    """A picture that says these words."""
    colour = colour_of(words)
    picture = png(colour, size)
    self.signs[code(Image.open(io.BytesIO(picture)))] = [words]
    return picture

  def post(self, path: str, body: bytes, headers: Any) -> Reply:
    with self.lock:
      self.number += 1
      number = self.number
      self.asked[path] += 1
    failure = self.fail(number, path)
    if failure is not None:
      return failure
    answer = {
      "/v1/chat/completions": self.chat,
      "/v1/images/edits": self.edits,
      "/v1/images/generations": self.generations,
    }[path](body, headers)
    with self.lock:
      self.answered[hashlib.sha256(path.encode() + body).hexdigest()] += 1
    return 200, json.dumps(answer).encode(), {}

  def get(self, path: str) -> Reply:
    return self.fail(-1, path) or (200, self.files[path], {})

  # ------------------------------------------------------------------- chat

  def chat(self, body: bytes, headers: Any) -> dict[str, Any]:
    content = json.loads(body)["messages"][0]["content"]
    pictures = [
      Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))
      for url in (
        part["image_url"]["url"] for part in content if "image_url" in part
      )
    ]
    answer = self.answer(content[0]["text"], [code(p) for p in pictures])
    return {
      "choices": [
        {"message": {"content": json.dumps(answer)}, "finish_reason": "stop"}
      ],
      "usage": USAGE,
    }

  def answer(self, asked: str, seen: list[tuple[int, ...]]) -> Any:
    read = [self.signs.get(colour, []) for colour in seen]
    if '"target":' in asked:
      return {"source": read[0], "target": read[1]}
    if '"texts":' in asked:
      return {"texts": read[0]}
    if '"caption":' in asked:
      return {"caption": f"A plain picture of colour {seen[0]}."}
    if '"reverse":' in asked:
      return {
        "instruction": f"Add a hat of colour {sum(seen[0])}.",
        "reverse": f"Remove the hat of colour {sum(seen[0])}.",
      }
    if '"portrait":' in asked:
      return {"portrait": seen[0][0] > seen[0][2]}
    if '"prompt":' in asked:
      said = re.search(r'Prompt: "(.*?)" Reply', asked)
      assert said is not None
      return {"prompt": f"{said[1]}, in great detail"}
    digest = hashlib.sha256(f"{asked} {seen}".encode()).digest()
    if "how similar their faces" in asked:
      return {"score": (0.1, None, 0.9)[digest[1] % 3]}
    if '"stem":' in asked:
      return {"stem": "triangle" in asked}
    return {"score": 9.0 if digest[0] % 3 else 2.0}

  # --------------------------------------------------------------- pictures

  def edits(self, body: bytes, headers: Any) -> dict[str, Any]:
    fields = parse_form(body, headers["Content-Type"])
    image = Image.open(io.BytesIO(fields["image"]))
    said = fields["prompt"].decode()
    edit = instructions.text_edit(said)
    if edit is None:
      colour = tuple(255 - v for v in image.convert("RGB").getpixel((0, 0)))
      return self.made(png(colour, image.size), USAGE)
    if edit.new:
      return self.made(self.say(edit.new, image.size), USAGE)
    return self.made(png(colour_of(said), image.size), USAGE)

  def generations(self, body: bytes, headers: Any) -> dict[str, Any]:
    words = re.findall(r'"([^"]+)"', json.loads(body)["prompt"])
    picture = self.say(" and ".join(words))
    self.signs[code(Image.open(io.BytesIO(picture)))] = words
    return self.made(picture, None)

  def made(self, picture: bytes, usage: Any) -> dict[str, Any]:
    if self.urls:
      name = f"/files/{hashlib.sha256(picture).hexdigest()}"
      self.files[name] = picture
      return {"data": [{"url": self.url.removesuffix("/v1") + name}]}
    text = base64.b64encode(picture).decode()
    return {"data": [{"b64_json": text}]} | ({"usage": usage} if usage else {})


def parse_form(body: bytes, content_type: str) -> dict[str, bytes]:
  """multipart/form-data by the standard library's parser of mails."""
  import email.parser
  import email.policy

  message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(
    f"Content-Type: {content_type}\r\n\r\n".encode() + body
  )
  found = {}
  for part in message.iter_parts():
    name = part.get_param("name", header="content-disposition")
    found[name] = part.get_payload(decode=True)
  return found


@contextlib.contextmanager
def serve(fake: Fake) -> Iterator[str]:
  """The base address, which the server knows too, while the block runs."""
  with local_server.serve(fake) as fake.url:
    yield fake.url
