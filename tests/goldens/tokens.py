"""Ids of texts and of conversations, with what is learned of them."""

from pathlib import Path
import tempfile
from typing import Any

import numpy as np

from emma_jax.data import transforms
from emma_jax.data.text import chat
from emma_jax.data.text.chat import PICTURE, Turn
from emma_jax.data.text.tokenizer import QwenTokenizer, TinyTokenizer, Tokenizer
from emma_jax.structs import Drawing, Editing, Understanding
from tests import neutral
from tests.data import qwen

KEPT = 4
TEXTS = (
  "a large red circle left of a small blue star",
  "What is this?",
  "图中有几个圆形？",
  "naïve 🙂\n\nhello  user",
  "<|im_end|> 1234567890",
  " I'll say 'hello hello'.",
  "\t{x: 1}\r\n",
  "",
)


def small(folder: Path) -> Tokenizer:
  """Of the vocabulary of a dozen merges."""
  return QwenTokenizer(
    qwen.write(folder, "tokenizer.json"), ordinary=len(qwen.small().tokens)
  )


def _flat(sample: transforms.Sample) -> str:
  """Ids; learned ones in braces, pictures by their role."""
  words = []
  for part in sample.parts:
    if isinstance(part, transforms.Picture):
      words.append(f"[{part.role} {part.stem}]")
    else:
      ids = ",".join(map(str, part.tokens))
      words.append("{" + ids + "}" if part.loss else ids)
  return " ".join(words)


def _samples(tokenizer: Tokenizer) -> dict[str, str]:
  p = np.zeros((32, 32, 3), np.uint8)
  to_sample = neutral.to_sample(
    tokenizer=tokenizer,
    framing=neutral.framing(height=32, width=32),
    max_turns=2,
  )
  said = (("<image>\nred <image> hello", "yes"), ("and?", "no."), ("x", "y"))
  records = {
    "talk": Understanding(pictures=(p, p), turns=said, stem=1),
    "no marks": Understanding(pictures=(p,), turns=(("q", "a\n"),)),
    "text": Understanding(pictures=(), turns=(("hello", "user"),)),
    "asked": Understanding(pictures=(p,), turns=(("q", None),)),
    "drawing": Drawing(prompt="a red circle", picture=p),
    "prompt": Drawing(prompt="a red circle"),
    "editing": Editing(sources=(p,), instruction="remove it", target=p),
    "to edit": Editing(sources=(p,), instruction="remove it"),
  }
  out = {name: _flat(to_sample(r)) for name, r in records.items()}
  for name in ("drawing", "editing"):
    out[f"{name}, no text"] = _flat(to_sample(records[name], drop_text=True))
  out["editing, no reference"] = _flat(
    to_sample(records["editing"], drop_reference=True)
  )
  out["further"] = ",".join(
    map(str, transforms.further_turn(tokenizer, "and?"))
  )
  turns = [
    Turn("system", ("kind",)),
    Turn("user", (PICTURE, "a", PICTURE)),
    Turn("assistant", ("\n\nb",)),
    Turn("user", ("c",)),
  ]
  for answer in (None, "text", "picture"):
    out[f"encode {answer}"] = ",".join(
      map(str, chat.encode(tokenizer, turns, [1, 2], answer))
    )
  return out


def _dropped(tokenizer: Tokenizer) -> str:
  """What chance drops: a letter for each of the text and the reference."""
  p = np.zeros((32, 32, 3), np.uint8)
  to_sample = neutral.to_sample(
    tokenizer=tokenizer,
    framing=neutral.framing(height=32, width=32),
    text_dropout=0.4,
    reference_dropout=0.3,
  )
  record = Editing(sources=(p,), instruction="remove it", target=p)
  with_text = tokenizer.encode("remove it")[0]
  out = ""
  for i in range(40):
    sample = to_sample(record, np.random.default_rng([7, i]))
    ids = [t for x in sample.parts for t in getattr(x, "tokens", ())]
    roles = [getattr(x, "role", "") for x in sample.parts]
    out += ".t"[with_text in ids] + ".r"["ref" in roles] + " "
  return out


def cases() -> dict[str, Any]:
  out: dict[str, Any] = {}
  with tempfile.TemporaryDirectory() as temporary:
    for name, tokenizer in (
      ("tiny", TinyTokenizer()),
      ("small", small(Path(temporary) / "small")),
    ):
      out[name] = {
        "fingerprint": tokenizer.fingerprint(),
        "eos": tokenizer.eos,
        "vocabulary": tokenizer.vocab_size,
        "special": " ".join(f"{k}={v}" for k, v in tokenizer.special.items()),
        **{text: ",".join(map(str, tokenizer.encode(text))) for text in TEXTS},
      }
      out[f"{name} chat"] = _samples(tokenizer)
  out["dropped"] = {"": _dropped(TinyTokenizer())}
  return out
