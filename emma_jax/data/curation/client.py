"""Answers of a model behind an OpenAI-compatible server (vLLM, SGLang, ...).

The record's texts and pictures go into one chat request, the reply must hold a
JSON object. Replies are kept on disk, so that nothing is asked, or paid, twice;
what the server cannot answer now is asked again, and ends the run after some
tries: what is done is kept, and the same command goes on.
"""

import base64
from collections.abc import Mapping
import dataclasses
import hashlib
import http.client
import io
import json
import os
import re
import time
from typing import Any
import urllib.error
import urllib.request

from PIL import Image

from emma_jax import files
from emma_jax.data.curation import base
from emma_jax.data.curation.answers import NoAnswer
from emma_jax.data.ingest.job import ConversionError
from emma_jax.data.ingest.part import FirstPass
from emma_jax.data.records import schema

# The server, not the record, is why these fail: they are tried again.
_LATER = {408, 409, 425, 429, 500, 502, 503, 504}
# This record is why these fail: too large, refused by a content filter.
_RECORD = {400, 413, 422}
_LONGEST_PAUSE = 60.0

PROMPTS = {
  "score": "Rate the picture's aesthetic quality from 0 (unusable) to 10 "
  '(outstanding). Reply with JSON alone: {"score": 6.5}',
  "judge": "The first picture was edited into the second one by this "
  'instruction: "{instruction}". Rate from 0 to 10 how exactly the second '
  "picture follows it, with everything else unchanged and without flaws. "
  'Reply with JSON alone: {"score": 6.5}',
  "ocr": "Read all text in each of the two pictures, exactly as it is "
  'written. Reply with JSON alone: {"source": ["text of the first", ...], '
  '"target": ["text of the second", ...]}',
  "face": "If both pictures show the same place with people, rate from 0 "
  "(other persons) to 1 (surely the same persons) how similar their faces "
  'are. Without people the score is null. Reply with JSON alone: {"score": '
  "0.9}",
  "reverse": 'An editing instruction says: "{instruction}". The first '
  "picture was edited into the second one by it. Write the instruction that "
  "turns the second picture back into the first, in the same style. Reply "
  'with JSON alone: {"instruction": "..."}',
  "stem": "Does answering these questions about the picture need science, "
  "technology, engineering or mathematics (diagrams, charts, formulas, "
  "geometry, physics, biology)? Questions: {text} Reply with JSON alone: "
  '{"stem": true}',
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Client:
  """Asks a model about records.

  Args:
    url: base address, such as http://localhost:8000/v1
    model: its name there.
    prompt: {instruction}, {prompt} and {text} are replaced by the record's.
    cache: folder of replies.
    key_env: environment variable that holds the key; it may be unset.
    side: pictures are sent at most so large, as JPEG.
    timeout: seconds for one reply.
    tries: of one request, with pauses from `pause` seconds on, doubled.
  """

  url: str
  model: str
  prompt: str
  cache: str
  key_env: str = "OPENAI_API_KEY"
  side: int = 768
  timeout: float = 120.0
  tries: int = 6
  pause: float = 1.0

  def __post_init__(self):
    if not self.url.startswith(("http://", "https://")):
      raise ConversionError(
        f"{self.url!r} is no base address such as http://localhost:8000/v1"
      )
    if not self.model:
      raise ConversionError("The client needs the model's name (--model).")

  def identity(self) -> Any:
    """JSON of what decides a reply: address, model, prompt, picture size."""
    return {
      "url": self.url,
      "model": self.model,
      "prompt": self.prompt,
      "side": self.side,
    }

  def ready(self, first: FirstPass) -> "Client":
    """Itself; the folder of replies is there afterwards."""
    os.makedirs(self.cache, exist_ok=True)
    return self

  def answer(self, stored: schema.Stored, where: str) -> Mapping[str, Any]:
    """The reply's JSON object, from the cache or asked now; or NoAnswer."""
    body = self._body(stored, where)
    name = hashlib.sha256(f"{self.url}\n".encode() + body).hexdigest()
    path = os.path.join(self.cache, name[:2], f"{name}.json")
    if os.path.exists(path):
      with open(path, encoding="utf-8") as file:
        reply = json.load(file)["reply"]
    else:
      reply = self._ask(body, where)
      _keep(path, reply)
    found = json_of(reply)
    if found is None:
      raise NoAnswer(where, f"the reply {reply!r:.120} holds no JSON object")
    return found

  def _body(self, stored: schema.Stored, where: str) -> bytes:
    record = stored.record
    values = {
      "instruction": getattr(record, "instruction", ""),
      "prompt": getattr(record, "prompt", ""),
      "text": "\n".join(base.texts_of(record)),
    }
    # At once: what a record says is no template.
    prompt = re.sub(
      r"\{(instruction|prompt|text)\}", lambda m: values[m[1]], self.prompt
    )
    content: list[dict[str, Any]] = [{"type": "text", "text": prompt}]
    for data in stored.pictures:
      url = f"data:image/jpeg;base64,{self._jpeg(data, where)}"
      content.append({"type": "image_url", "image_url": {"url": url}})
    return json.dumps(
      {
        "model": self.model,
        "temperature": 0,
        "max_tokens": 1024,
        "messages": [{"role": "user", "content": content}],
      }
    ).encode()

  def _jpeg(self, data: bytes, where: str) -> str:
    image = Image.fromarray(base.pixels(data, where))
    image.thumbnail((self.side, self.side))
    out = io.BytesIO()
    image.save(out, "JPEG", quality=90)
    return base64.b64encode(out.getvalue()).decode()

  def _ask(self, body: bytes, where: str) -> str:
    problem = ""
    for attempt in range(self.tries):
      if attempt:
        time.sleep(min(self.pause * 2 ** (attempt - 1), _LONGEST_PAUSE))
      try:
        return self._post(body)
      except urllib.error.HTTPError as error:
        reply = error.read(500).decode("utf-8", "replace")
        problem = f"{error.code} {error.reason}: {reply[:200]}"
        if error.code in _RECORD:
          raise NoAnswer(where, f"{self.url} refuses it: {problem}") from error
        if error.code not in _LATER:
          raise ConversionError(f"{self.url}: {problem}") from error
      except (OSError, http.client.HTTPException) as error:
        problem = f"{type(error).__name__}: {error}"
      except (ValueError, LookupError, TypeError) as error:
        problem = f"no chat completion: {type(error).__name__}: {error}"
    raise ConversionError(
      f"{self.url} gave no answer in {self.tries} tries; the last: "
      f"{problem}. What is done is kept: give the same command again."
    )

  def _post(self, body: bytes) -> str:
    headers = {"Content-Type": "application/json"}
    key = os.environ.get(self.key_env, "")
    if key:
      headers["Authorization"] = f"Bearer {key}"
    request = urllib.request.Request(
      f"{self.url.rstrip('/')}/chat/completions", body, headers
    )
    with urllib.request.urlopen(request, timeout=self.timeout) as response:
      reply = json.load(response)["choices"][0]["message"]["content"]
    if not isinstance(reply, str):
      raise TypeError(f"the message's content is {reply!r:.80}")
    return reply


def json_of(reply: str) -> Mapping[str, Any] | None:
  """The last JSON object in a reply, which may think aloud before it.

  >>> json_of('Let me see {hm}.\\n```json\\n{"score": 7}\\n```')
  {'score': 7}
  """
  decoder, at, found = json.JSONDecoder(), reply.find("{"), None
  while at >= 0:
    try:
      value, end = decoder.raw_decode(reply, at)
    except ValueError:
      end = at + 1
    else:
      found = value
    at = reply.find("{", end)
  return found


def _keep(path: str, reply: str) -> None:
  # Two workers may ask the same at once.
  with files.atomic_write(path, "w", shared=True) as file:
    json.dump({"reply": reply}, file)
