"""Text to token ids and back."""

import itertools
import json
from pathlib import Path


class Tokenizer:
  """Longest match over a list of pieces, bytes where none fits; or, where the
  file is a Hugging Face tokenizer.json, the package `tokenizers`. No text makes
  a special token, whatever it spells: what a user types never steers."""

  def __init__(self, path: Path):
    about = json.loads(path.read_text(encoding="utf-8"))
    if "pieces" not in about:
      self._use_package(about)
      return
    self.special, self.first = about["special"].__getitem__, about["first"]
    self.pieces = about["pieces"]
    self.ids = {p: self.first + 256 + i for i, p in enumerate(self.pieces)}
    self.longest = max(map(len, self.pieces), default=0)

  def _use_package(self, about: dict):
    """Of a tokenizer.json. The package finds added tokens in any text, so it is
    not told of them: their ids are known here alone."""
    try:
      import tokenizers
    except ImportError as error:
      raise ImportError("This vocabulary: pip install tokenizers") from error
    added, about["added_tokens"] = about["added_tokens"], []
    model = tokenizers.Tokenizer.from_str(json.dumps(about))
    self.special = {t["content"]: t["id"] for t in added}.__getitem__
    # Control tokens are left out of texts; the others are written as they are.
    control = {t["id"] for t in added if t["special"]}
    written = {t["id"]: t["content"] for t in added if not t["special"]}

    def encode(text: str) -> list[int]:
      # UTF-8 holds no surrogates: pairs are joined, lone ones replaced.
      data = text.encode("utf-16-le", "surrogatepass")
      text = data.decode("utf-16-le", "replace")
      return model.encode(text, add_special_tokens=False).ids

    def decode(ids: list[int]) -> str:
      ids, out = [i for i in ids if i not in control], ""
      for name, run in itertools.groupby(ids, written.get):
        part = [*run]
        out += model.decode(part) if name is None else name * len(part)
      return out

    self.encode, self.decode = encode, decode  # type: ignore[method-assign]

  def encode(self, text: str) -> list[int]:
    """Token ids; what looks like a special token is text too."""
    ids: list[int] = []
    while text:
      lengths = range(min(self.longest, len(text)), 0, -1)
      n = next((n for n in lengths if text[:n] in self.ids), 0)
      ids += (
        [self.ids[text[:n]]]
        if n
        else [self.first + b for b in text[0].encode("utf-8", "surrogatepass")]
      )
      text = text[max(n, 1) :]
    return ids

  def decode(self, ids: list[int]) -> str:
    """The text of token ids, special ones left out."""
    known = [bytes([b]) for b in range(256)] + [p.encode() for p in self.pieces]
    places = (i - self.first for i in ids)
    data = b"".join(known[i] for i in places if 0 <= i < len(known))
    try:
      return data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
      return data.decode("utf-8", "replace")
