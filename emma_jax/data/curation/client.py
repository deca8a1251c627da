"""Answers of a model behind an OpenAI-compatible server (vLLM, SGLang, ...).

The record's texts and pictures go into one chat request, the reply must hold a
JSON object. Replies are kept on disk, so that nothing is asked, or paid, twice;
what the server cannot answer now is asked again, and ends the run after some
tries: what is done is kept, and the same command goes on.
"""

import base64
from collections.abc import Mapping, Sequence
import dataclasses
import hashlib
import io
import json
import math
import re
from typing import Any, ClassVar

from PIL import Image

from emma_jax.data.curation import base
from emma_jax.data.curation.answers import NoAnswer
from emma_jax.data.curation.remote import Remote
from emma_jax.data.records import schema
from emma_jax.judge.openai import refusal_of

# Pixels along a side of what most models take for a token, and characters.
_TOKEN_SIDE, _TOKEN_LETTERS = 32, 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class Client(Remote):
  """Asks a model about records.

  Args:
    prompt: {instruction}, {prompt} and {text} are replaced by the record's.
    side: pictures are sent at most so large, as JPEG.
    max_tokens: of a reply; a longer one is no answer.
    options: further keys of the request; None takes one away that is there
      ({"temperature": None} for models that have one temperature).
    answer_tokens: of a usual reply, for estimates.
  """

  WANTED: ClassVar[str] = "chat completion"

  prompt: str
  side: int = 768
  max_tokens: int = 1024
  options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  answer_tokens: int = 100

  def identity(self) -> Any:
    """JSON of what decides a reply: address, model, prompt, picture size."""
    return super().identity() | {
      "prompt": self.prompt,
      "side": self.side,
      "max_tokens": self.max_tokens,
      "options": dict(self.options),
    }

  def tokens(self, pictures: int) -> tuple[float, float, int]:
    """(tokens in, tokens out, pictures made) of a usual call, about."""
    seen = math.ceil(self.side / _TOKEN_SIDE) ** 2
    return (
      len(self.prompt) / _TOKEN_LETTERS + pictures * seen,
      float(self.answer_tokens),
      0,
    )

  def answer(self, stored: schema.Stored, where: str) -> Mapping[str, Any]:
    """The reply's JSON object, from the cache or asked now; or NoAnswer."""
    record = stored.record
    values = {
      "instruction": getattr(record, "instruction", ""),
      "prompt": getattr(record, "prompt", ""),
      "text": "\n".join(base.texts_of(record)),
    }
    return self.ask(values, stored.pictures, where)

  def ask(
    self, values: Mapping[str, str], pictures: Sequence[bytes], where: str
  ) -> Mapping[str, Any]:
    """The same for texts that replace the prompt's words in braces."""
    prompt = self._prompt(values)
    # Of the pictures as they are stored: what encodes them for the request may
    # write other bytes after an upgrade.
    content = json.dumps(
      [
        self._request(prompt),
        self.side,
        [hashlib.sha256(data).hexdigest() for data in pictures],
      ],
      sort_keys=True,
    )
    kept = self.once(
      content.encode(),
      where,
      lambda: self.post(
        "chat/completions",
        self._body(prompt, pictures, where),
        "application/json",
        _reply,
        where,
      ),
    )
    if kept.get("finish") == "length":
      raise NoAnswer(
        where, f"the reply was cut after {self.max_tokens} tokens (max_tokens)"
      )
    found = json_of(kept["reply"])
    if found is None:
      raise NoAnswer(
        where, f"the reply {kept['reply']!r:.120} holds no JSON object"
      )
    return found

  def _prompt(self, values: Mapping[str, str]) -> str:
    # At once: what a record says is no template.
    return re.sub(
      r"\{(instruction|prompt|text)\}",
      lambda m: values.get(m[1], ""),
      self.prompt,
    )

  def _request(self, content: Any) -> dict[str, Any]:
    request = {
      "model": self.model,
      "temperature": 0,
      "max_tokens": self.max_tokens,
      "messages": [{"role": "user", "content": content}],
      **self.options,
    }
    return {k: v for k, v in request.items() if v is not None}

  def _body(self, prompt: str, pictures: Sequence[bytes], where: str) -> bytes:
    content: list[dict[str, Any]] = [{"type": "text", "text": prompt}]
    for data in pictures:
      url = f"data:image/jpeg;base64,{self._jpeg(data, where)}"
      content.append({"type": "image_url", "image_url": {"url": url}})
    return json.dumps(self._request(content)).encode()

  def _jpeg(self, data: bytes, where: str) -> str:
    image = Image.fromarray(base.pixels(data, where))
    image.thumbnail((self.side, self.side))
    out = io.BytesIO()
    image.save(out, "JPEG", quality=90)
    return base64.b64encode(out.getvalue()).decode()


def _reply(reply: Any) -> dict[str, Any]:
  """What is kept of a chat completion; LookupError, TypeError: it is none."""
  choice = reply["choices"][0]
  message, finish = choice["message"], choice.get("finish_reason")
  if refusal := refusal_of(choice):
    return {"refused": refusal, "usage": reply.get("usage")}
  if not isinstance(message["content"], str):
    raise TypeError(f"content is {message['content']!r:.80}")
  return {
    "reply": message["content"],
    "finish": finish,
    "usage": reply.get("usage"),
  }


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
