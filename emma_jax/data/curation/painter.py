"""Pictures of a model behind an OpenAI-compatible server: edited, or drawn.

/images/edits takes a form with the picture, /images/generations JSON; both give
data[0] with "b64_json", or with "url", which is fetched at once (such addresses
expire). The picture is kept on disk with its request's hash, as replies are.
"""

import base64
from collections.abc import Callable, Mapping
import dataclasses
import hashlib
import io
import json
from typing import Any, ClassVar

from PIL import Image

from emma_jax.data.curation import base
from emma_jax.data.curation.answers import NoAnswer
from emma_jax.data.curation.remote import Remote
from emma_jax.data.ingest.job import ConversionError
from emma_jax.data.pictures import images
from emma_jax.data.pictures.images import BadRecord

_TOKEN_LETTERS = 4  # characters of a token, about


@dataclasses.dataclass(frozen=True, kw_only=True)
class Painter(Remote):
  """Makes pictures of pictures and instructions, or of prompts.

  Args:
    options: further fields of the request, such as {"size": "1024x1024",
      "response_format": "b64_json"}; not all servers know all of them.
    side: pictures are sent at most so large, as PNG.
    picture_tokens: of a picture made, for estimates where tokens are sold.
  """

  WANTED: ClassVar[str] = "picture"

  timeout: float = 300.0
  options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  side: int = 1024
  picture_tokens: int = 4096

  def identity(self) -> Any:
    """JSON of what decides a picture: address, model, options, size sent."""
    return super().identity() | {
      "options": dict(self.options),
      "side": self.side,
    }

  def tokens(self, pictures: int) -> tuple[float, float, int]:
    """(tokens in, tokens out, pictures made) of a usual call, about."""
    seen = pictures * (self.side / 32) ** 2
    return seen + 200 / _TOKEN_LETTERS, float(self.picture_tokens), 1

  def edit(
    self, picture: bytes, instruction: str, where: str
  ) -> tuple[bytes, tuple[int, int]]:
    """(encoded result, its (y, x)); NoAnswer where there is none."""
    fields = {"model": self.model, "prompt": instruction, "n": 1}
    fields |= self.options
    # Of the picture as it is stored, and not as it is sent: see client.py.
    content = b"images/edits\n" + _stable(
      fields | {"picture": hashlib.sha256(picture).hexdigest()}
    )
    texts = {key: str(value) for key, value in fields.items()}
    body = lambda: form(texts, "image", self._png(picture, where))
    return self._made("images/edits", content, body, where)

  def draw(self, prompt: str, where: str) -> tuple[bytes, tuple[int, int]]:
    """(encoded picture, its (y, x)); NoAnswer where there is none."""
    fields = {"model": self.model, "prompt": prompt, "n": 1, **self.options}
    body = _stable(fields)
    content = b"images/generations\n" + body
    return self._made(
      "images/generations", content, lambda: (body, "application/json"), where
    )

  def _made(
    self,
    path: str,
    content: bytes,
    body: Callable[[], tuple[bytes, str]],
    where: str,
  ) -> tuple[bytes, tuple[int, int]]:
    """`body`: what is sent, and its type, where it has to be."""
    kept = self.once(
      content + f"\n{self.side}".encode(),
      where,
      lambda: self.post(path, *body(), _entry, where),
      lambda reply: self._kept(reply, where),
    )
    data = base64.b64decode(kept["picture"])
    try:
      y, x, _ = images.load_picture(data, where).shape
    except BadRecord as error:
      raise NoAnswer(where, f"the picture made: {error.reason}") from error
    return data, (y, x)

  def _kept(self, reply: dict[str, Any], where: str) -> dict[str, Any]:
    url, text = reply.pop("url"), reply.pop("b64_json")
    if text is None:
      text = base64.b64encode(self.fetch(url, where)).decode()
    return reply | {"picture": text}

  def _png(self, data: bytes, where: str) -> bytes:
    image = Image.fromarray(base.pixels(data, where))
    image.thumbnail((self.side, self.side))
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def _entry(reply: Any) -> dict[str, Any]:
  """What a reply of pictures holds; LookupError and the like: it is none."""
  entry = reply["data"][0]
  text, url = entry.get("b64_json"), entry.get("url")
  if text:
    base64.b64decode(text, validate=True)  # ValueError: it is none
  elif not isinstance(url, str):
    raise LookupError("neither b64_json nor url")
  return {
    "usage": reply.get("usage"),
    "pictures": 1,
    "b64_json": text or None,
    "url": url,
  }


def _stable(fields: Mapping[str, Any]) -> bytes:
  return json.dumps(dict(fields), sort_keys=True).encode()


def form(
  fields: Mapping[str, str], name: str, picture: bytes
) -> tuple[bytes, str]:
  """(body, content type) of multipart/form-data with one PNG.

  The boundary is a hash of the picture, which does not hold its own hash.
  """
  boundary = f"emma-{hashlib.sha256(picture).hexdigest()[:32]}"
  if any(boundary in value for value in fields.values()):
    raise ConversionError(f"A field of the form holds {boundary!r}.")
  lines = [
    f'--{boundary}\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n'
    f"{value}\r\n"
    for key, value in fields.items()
  ]
  head = (
    f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; '
    'filename="picture.png"\r\nContent-Type: image/png\r\n\r\n'
  )
  body = b"".join(
    [
      "".join(lines).encode(),
      head.encode(),
      picture,
      f"\r\n--{boundary}--\r\n".encode(),
    ]
  )
  return body, f"multipart/form-data; boundary={boundary}"
