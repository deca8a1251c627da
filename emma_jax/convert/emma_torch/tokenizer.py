"""Text to token ids and back."""

import json
from pathlib import Path


class Tokenizer:
  """Longest match over a list of pieces, bytes where none fits; or, where the
  file is a Hugging Face tokenizer.json, the package `tokenizers`."""

  def __init__(self, path: Path):
    about = json.loads(path.read_text(encoding="utf-8"))
    if "pieces" not in about:
      import tokenizers  # only full-size models need it

      model = tokenizers.Tokenizer.from_file(str(path))
      model.encode_special_tokens = True  # typed by users, they are text
      self.special, self.decode = model.token_to_id, model.decode  # type: ignore[method-assign]  # the package's
      self.encode = lambda x: model.encode(x, add_special_tokens=False).ids  # type: ignore[method-assign,assignment]  # the package's
      return
    self.special, self.first = about["special"].get, about["first"]
    self.pieces = about["pieces"]
    self.ids = {p: self.first + 256 + i for i, p in enumerate(self.pieces)}
    self.longest = max(map(len, self.pieces), default=0)

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
    return data.decode("utf-8", "replace")
