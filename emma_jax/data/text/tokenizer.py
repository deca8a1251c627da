"""Text to token ids and back: a small built-in vocabulary, or Qwen3's."""

from collections.abc import Iterable, Sequence
import functools
import hashlib
import os
from typing import Any, Protocol

from emma_jax.data.text import qwen_files, tiny_words

# Qwen3's names, so that the sequence layouts read the same for every tokenizer.
END_OF_TEXT = "<|endoftext|>"
IM_START = "<|im_start|>"
IM_END = "<|im_end|>"
VISION_START = "<|vision_start|>"
VISION_END = "<|vision_end|>"
IMAGE_PAD = "<|image_pad|>"
SPECIALS = (END_OF_TEXT, IM_START, IM_END, VISION_START, VISION_END, IMAGE_PAD)

VOCAB_SIZE = 1024
# Room for specials to come, so that byte ids never move.
_RESERVED_SPECIALS = 8


class Tokenizer(Protocol):
  """What the rest of the code needs of a tokenizer.

  Equal ones compare equal, and they pickle, for readers in other processes.
  """

  special: dict[str, int]  # holds at least SPECIALS

  @property
  def vocab_size(self) -> int:
    """One more than the largest id, specials included."""
    ...

  @property
  def eos(self) -> int:
    """The id of <|im_end|>, which ends every answer."""

  @property
  def answer_ids(self) -> Sequence[int]:
    """What an answer is made of: ids that are text, and `eos`.

    No other control token: no mark of a picture, no turn of somebody else; and
    none of the places that a model's vocabulary has beyond the tokenizer's.
    """

  def encode(self, text: str) -> list[int]:
    """Ids of `text`; never a special, whatever the text spells."""

  def decode(self, ids: Sequence[int]) -> str:
    """The text of `ids`, whatever they are; SPECIALS are left out."""

  def fingerprint(self) -> str:
    """A hash of the vocabulary: equal means that ids mean the same."""


class TinyTokenizer:
  """1024 entries: specials, 256 bytes, the world's words, frequent English.

  Greedy longest match over the pieces, bytes where none fits, so any string
  survives: `decode(encode(s)) == s`. Ids: specials 0-7, bytes 8-263, then the
  sorted world words (so their order in the world's source has no meaning),
  then open text, then unused places.

  >>> t = TinyTokenizer()
  >>> t.decode(t.encode("a smiling face, naïve 表情 🙂"))
  'a smiling face, naïve 表情 🙂'
  >>> t.special["<|im_end|>"] in t.encode("<|im_end|>")
  False
  """

  def __init__(self, words: Iterable[str] | None = None):
    """`words`: the world's vocabulary unless given (tests)."""
    if words is None:
      from emma_jax.world import vocabulary  # not needed where words are given

      words = vocabulary.words()
    self.special = {name: i for i, name in enumerate(SPECIALS)}
    self._byte0 = _RESERVED_SPECIALS
    self._piece0 = self._byte0 + 256
    self._pieces = _pieces(words, VOCAB_SIZE - self._piece0)
    self._ids = {p: self._piece0 + i for i, p in enumerate(self._pieces)}
    # Per first character, the lengths to try, longest first: a dictionary look
    # up per length beats a regular expression of 700 branches.
    lengths: dict[str, set[int]] = {}
    for piece in self._pieces:
      lengths.setdefault(piece[0], set()).add(len(piece))
    self._lengths = {
      c: tuple(sorted(n, reverse=True)) for c, n in lengths.items()
    }

  @property
  def vocab_size(self) -> int:
    """1024, unused ids included."""
    return VOCAB_SIZE

  @property
  def eos(self) -> int:
    """The id of <|im_end|>."""
    return self.special[IM_END]

  @property
  def answer_ids(self) -> Sequence[int]:
    """Bytes and pieces, and `eos`."""
    return [self.eos, *range(self._byte0, self._piece0 + len(self._pieces))]

  def encode(self, text: str) -> list[int]:
    """Ids of `text`; never a special, whatever the text spells."""
    ids = []
    at = 0
    while at < len(text):
      for length in self._lengths.get(text[at], ()):
        piece = self._ids.get(text[at : at + length])
        if piece is not None:
          ids.append(piece)
          at += length
          break
      else:
        # surrogatepass: Python strings may hold lone surrogates.
        data = text[at].encode("utf-8", "surrogatepass")
        ids.extend(self._byte0 + b for b in data)
        at += 1
    return ids

  def decode(self, ids: Sequence[int]) -> str:
    """The text of `ids`; specials and unused ids are left out.

    Bytes that are no UTF-8 (a model may write them) become U+FFFD.
    """
    data = bytearray()
    for i in map(int, ids):
      if self._byte0 <= i < self._piece0:
        data.append(i - self._byte0)
      elif self._piece0 <= i < self._piece0 + len(self._pieces):
        data += self._pieces[i - self._piece0].encode("utf-8", "surrogatepass")
    try:
      return data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
      return data.decode("utf-8", "replace")

  def fingerprint(self) -> str:
    """A hash of the specials and pieces, in the order of their ids."""
    text = "\0".join(["tiny-1", *SPECIALS, *self._pieces])
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()

  def __eq__(self, other: object) -> bool:
    return isinstance(other, TinyTokenizer) and self._pieces == other._pieces

  def __hash__(self) -> int:
    return hash(tuple(self._pieces))


def _pieces(words: Iterable[str], room: int) -> list[str]:
  """World words first (sorted), open text while there is room."""
  wanted: dict[str, None] = {}

  def add(piece: str) -> None:
    # A single ASCII character has a byte id already.
    if len(piece.encode("utf-8", "surrogatepass")) > 1:
      wanted.setdefault(piece)

  for word in sorted(set(words)):
    add(word)
    # Digits stay single tokens: " 7" and "7" must not be two names of seven.
    if word.isascii() and word[:1].isalpha():
      add(" " + word)
  if len(wanted) > room:
    raise ValueError(
      f"The world's words make {len(wanted)} pieces but only {room} fit; "
      "raise VOCAB_SIZE in emma_jax/data/text/tokenizer.py."
    )
  add("user\n")
  add("assistant\n")
  for word in tiny_words.OPEN_WORDS:
    add(" " + word)
  for fragment in tiny_words.FRAGMENTS:
    add(fragment)
  return list(wanted)[:room]


# Qwen3's tokens after the ordinary ones, in the order of their ids. They are
# not in the packages' tiktoken files, which know Qwen1's names only.
QWEN3_ORDINARY = 151643
# Control: never part of a text that is decoded ("special": true in the file).
QWEN3_CONTROL = (
  END_OF_TEXT,
  IM_START,
  IM_END,
  "<|object_ref_start|>",
  "<|object_ref_end|>",
  "<|box_start|>",
  "<|box_end|>",
  "<|quad_start|>",
  "<|quad_end|>",
  VISION_START,
  VISION_END,
  "<|vision_pad|>",
  IMAGE_PAD,
  "<|video_pad|>",
)
# Written out when decoded ("special": false).
QWEN3_WRITTEN = (
  "<tool_call>",
  "</tool_call>",
  "<|fim_prefix|>",
  "<|fim_middle|>",
  "<|fim_suffix|>",
  "<|fim_pad|>",
  "<|repo_name|>",
  "<|file_sep|>",
  "<tool_response>",
  "</tool_response>",
  "<think>",
  "</think>",
)


class QwenTokenizer:
  """Qwen3's own tokenizer, from any of its files (package `tokenizers`).

  NFC, the split pattern, byte-level BPE; no token stands before the text. Ids:
  151,643 ordinary tokens, then `special`, 26 names. Where the text spells one
  of those names, Hugging Face gives that token's id, and here it is ordinary
  text: what a user types never steers. Ids and decoded texts are the same
  otherwise, whichever file they come from.

  Only NFC text survives a round trip unchanged; a lone surrogate, which UTF-8
  cannot hold, becomes U+FFFD.
  """

  def __init__(
    self, path: str | os.PathLike[str], ordinary: int = QWEN3_ORDINARY
  ):
    """Reads tokenizer.json, vocab.json (merges.txt beside it) or qwen.tiktoken.

    Args:
      path: one of these files, or a folder that holds one.
      ordinary: how many tokens stand before the special ones (tests).

    Raises:
      ImportError: the package `tokenizers` is missing.
      VocabularyError: no such file, or not Qwen3's.
    """
    # Absolute, for a reader in another process.
    file = os.path.abspath(qwen_files.find(path))
    self._made_of = (file, ordinary)
    # A run makes its tokenizer several times; a file takes a second or two.
    tables = _qwen_tables(file, ordinary, os.stat(file).st_mtime_ns)
    self._model, self._written, self._fingerprint = tables
    names = QWEN3_CONTROL + QWEN3_WRITTEN
    self.special = {name: ordinary + i for i, name in enumerate(names)}

  def __reduce__(self):
    return QwenTokenizer, self._made_of

  @property
  def vocab_size(self) -> int:
    """151,669: the models' vocab_size of 151,936 leaves places unused."""
    return len(self._written)

  @property
  def eos(self) -> int:
    """The id of <|im_end|>."""
    return self.special[IM_END]

  @property
  def answer_ids(self) -> Sequence[int]:
    """Whatever is written out when decoded, and `eos`."""
    return [i for i, text in enumerate(self._written) if text or i == self.eos]

  def encode(self, text: str) -> list[int]:
    """Ids of `text`; never a special, whatever the text spells."""
    if not text.isascii():
      # Surrogate pairs are joined, lone surrogates replaced.
      data = text.encode("utf-16-le", "surrogatepass")
      text = data.decode("utf-16-le", "replace")
    return self._model.encode(text, add_special_tokens=False).ids

  def decode(self, ids: Sequence[int]) -> str:
    """The text of `ids`; control tokens and unused ids are left out.

    Bytes that are no UTF-8 (a model may write them) become U+FFFD.
    """
    known = range(len(self._written))
    text = "".join(self._written[i] for i in map(int, ids) if i in known)
    data = bytes(map(_BYTE_OF.__getitem__, text))
    return data.decode("utf-8", "replace")

  def tokenizer_json(self) -> dict[str, Any]:
    """The content of a Hugging Face tokenizer.json, whatever it was read of."""
    added = {k: (i, k in QWEN3_CONTROL) for k, i in self.special.items()}
    return qwen_files.tokenizer_json(self._model.to_str(), added)

  def fingerprint(self) -> str:
    """Of the content: the same for every kind of file."""
    return self._fingerprint

  def __eq__(self, other: object) -> bool:
    return (
      isinstance(other, QwenTokenizer)
      and self._fingerprint == other._fingerprint
    )

  def __hash__(self) -> int:
    return hash(self._fingerprint)


_BYTE_OF = {c: b for b, c in enumerate(qwen_files.byte_alphabet())}


@functools.lru_cache(maxsize=4)
def _qwen_tables(
  path: str, ordinary: int, changed: int
) -> tuple[Any, tuple[str, ...], str]:
  """The BPE model, what each id decodes to, and the hash of both."""
  del changed  # part of the key alone
  try:
    import tokenizers  # optional: only the full-size models need it
  except ImportError as error:
    raise ImportError(
      "Qwen3's tokenizer needs the package `tokenizers`; pip install "
      "tokenizers, or emma-jax with its extra `qwen`."
    ) from error
  vocabulary = qwen_files.read(path)
  _check_ids(vocabulary, path, ordinary)
  tokens, merges = vocabulary.tokens, vocabulary.merges
  try:
    model = tokenizers.Tokenizer(
      tokenizers.models.BPE({t: i for i, t in enumerate(tokens)}, merges)
    )
  except Exception as error:  # of Rust: it has no class of its own
    raise qwen_files.VocabularyError(f"{path}: {error}") from error
  model.normalizer = tokenizers.normalizers.NFC()
  split = tokenizers.pre_tokenizers
  model.pre_tokenizer = split.Sequence(
    [
      split.Split(tokenizers.Regex(qwen_files.PATTERN), "isolated"),
      split.ByteLevel(add_prefix_space=False, use_regex=False),
    ]
  )
  # The special tokens are not added to `model`, so that no text makes them.
  written = (*tokens, *("" for _ in QWEN3_CONTROL), *QWEN3_WRITTEN)
  lines = ["qwen3-1", "NFC", qwen_files.PATTERN, *QWEN3_CONTROL, *written]
  lines += [f"{a} {b}" for a, b in merges]
  hashed = hashlib.sha256("\n".join(lines).encode("utf-8"))
  return model, written, hashed.hexdigest()


def _check_ids(
  vocabulary: qwen_files.Vocabulary, path: str, ordinary: int
) -> None:
  """Raises VocabularyError where an id is not what it is for Qwen3."""
  wrong = []
  if len(vocabulary.tokens) != ordinary:
    wrong.append(
      f"{len(vocabulary.tokens)} ordinary tokens, Qwen3 has {ordinary}"
    )
  missing = set(qwen_files.byte_alphabet()) - set(vocabulary.tokens)
  if missing:
    wrong.append(f"no token for {len(missing)} of the 256 bytes")
  wrong += filter(None, [qwen_files.misplaced(vocabulary)])
  names = QWEN3_CONTROL + QWEN3_WRITTEN
  wanted = {
    name: (ordinary + i, name in QWEN3_CONTROL) for i, name in enumerate(names)
  }
  found = wanted if vocabulary.added is None else vocabulary.added
  tell = lambda entry: (
    "missing" if entry is None else f"{entry[0]} (special: {entry[1]})"
  )
  wrong += [
    f"{name} is {tell(found.get(name))}, Qwen3's is {tell(wanted.get(name))}"
    for name in {**wanted, **found}
    if found.get(name) != wanted.get(name)
  ]
  if wrong:
    raise qwen_files.VocabularyError(
      f"{path} is not Qwen3's vocabulary: {'; '.join(wrong)}. Take the file "
      "that was published with the model."
    )
