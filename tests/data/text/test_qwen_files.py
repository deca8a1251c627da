"""Files of Qwen3's vocabulary that other programs, and downloads, have made.

Each gives Qwen3's ids or is refused: never other ids without a word.
"""

from collections.abc import Callable
import json
from pathlib import Path
from typing import Any

import pytest

from emma_jax.data.text import qwen_files
from emma_jax.data.text import tokenizer as lib
from tests.data import qwen

TEXTS = ["hello hello\n\nuser 世 é ohell he  us", "I'm LL'D don't 12 3"]
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 9\n"


@pytest.fixture(autouse=True)
def package():
  pytest.importorskip("tokenizers")


def load(path: Path) -> lib.QwenTokenizer:
  return lib.QwenTokenizer(path, ordinary=len(qwen.small().tokens))


def changed(folder: Path, change: Callable[[dict], Any]) -> Path:
  """tokenizer.json with a change of its content."""
  path = qwen.write(folder, "tokenizer.json") / "tokenizer.json"
  data = json.loads(path.read_text("utf-8"))
  change(data)
  path.write_text(json.dumps(data), "utf-8")
  return folder


def of_model(**values: Any) -> Callable[[dict], Any]:
  return lambda data: data["model"].update(values)


def of_step(number: int, **values: Any) -> Callable[[dict], Any]:
  return lambda data: _steps(data)[number].update(values)


def _steps(data: dict) -> list[dict]:
  return data["pre_tokenizer"]["pretokenizers"]


def merges(change: Callable[[list], list]) -> Callable[[dict], Any]:
  return lambda data: of_model(merges=change(data["model"]["merges"]))(data)


DIGITS = {"type": "Digits", "individual_digits": True}
PIECES = {"type": "Split", "pattern": {"String": "a"}, "behavior": "Removed"}
# A change of tokenizer.json that other ids would follow from -> the words.
OTHERS: dict[str, tuple[Callable[[dict], Any], str]] = {
  "fewer merges": (merges(lambda m: m[:5]), "5 merges for the 12 tokens"),
  "no merges": (of_model(merges=[]), "0 merges for the 12 tokens"),
  "a merge twice": (merges(lambda m: [*m, m[0]]), "13 merges for the 12"),
  "another order": (merges(lambda m: m[::-1]), "merge 0 makes 'Ã©', and"),
  "dropout": (of_model(dropout=0.1), "model.dropout is 0.1"),
  "no use of merges": (of_model(ignore_merges=True), "model.ignore_merges is"),
  "a suffix": (of_model(end_of_word_suffix="</w>"), "end_of_word_suffix is"),
  "a prefix": (of_model(continuing_subword_prefix="##"), "prefix is '##'"),
  "inverted": (of_step(0, invert=True), "invert is True"),
  "other rule": (of_step(0, pattern={"String": qwen_files.PATTERN}), "pattern"),
  "reversed steps": (lambda d: _steps(d).reverse(), r"\['ByteLevel', 'Split'"),
  "a step more": (lambda d: _steps(d).insert(1, DIGITS), "'Split', 'Digits'"),
  "two splits": (lambda d: _steps(d).insert(0, PIECES), "'Split', 'Split'"),
}


@pytest.mark.parametrize("change, words", OTHERS.values(), ids=OTHERS)
def test_what_would_give_other_ids_is_refused(tmp_path, change, words):
  folder = changed(tmp_path, change)
  with pytest.raises(qwen_files.VocabularyError, match=words) as error:
    load(folder)
  assert str(tmp_path / "tokenizer.json") in str(error.value)


SAME: dict[str, Callable[[dict], Any]] = {
  "merges as texts": merges(lambda m: [" ".join(pair) for pair in m]),
  "null for none": of_model(
    continuing_subword_prefix=None, end_of_word_suffix=None
  ),
  "what never matters": of_model(unk_token="<|endoftext|>", fuse_unk=True),
  "padding": lambda data: data.update(padding={"strategy": "BatchLongest"}),
  "truncation": lambda data: data.update(truncation={"max_length": 512}),
  "a sequence of one": lambda data: data.update(
    normalizer={"type": "Sequence", "normalizers": [{"type": "NFC"}]}
  ),
}


@pytest.mark.parametrize("change", SAME.values(), ids=SAME)
def test_what_changes_no_id_is_read(tmp_path, change):
  own = load(qwen.write(tmp_path / "own", "tokenizer.json"))
  found = load(changed(tmp_path / "other", change))
  assert found == own
  assert [found.encode(t) for t in TEXTS] == [own.encode(t) for t in TEXTS]


@pytest.mark.parametrize("lines", range(1, 13))
def test_merges_that_were_cut_short_are_refused(tmp_path, lines):
  file = qwen.write(tmp_path, "vocab.json") / "merges.txt"
  file.write_bytes(b"\r\n".join(file.read_bytes().split(b"\r\n")[:lines]))
  with pytest.raises(qwen_files.VocabularyError, match=f"{lines - 1} merges"):
    load(tmp_path)


@pytest.mark.parametrize(
  "content, words",
  [
    (POINTER, "a Git LFS pointer.*git lfs pull"),
    (b"<!DOCTYPE html>\n<html></html>", "is a web page.*log in"),
    (b"", "is empty; download it again"),
    (bytes(99), "is zeros"),
    (None, "is a link to .*blobs/x, which is not there.*cp -rL"),
  ],
)
@pytest.mark.parametrize(
  "name", ["tokenizer.json", "vocab.json", "merges.txt", "qwen.tiktoken"]
)
def test_what_lies_there_instead_is_said(tmp_path, name, content, words):
  kind = "vocab.json" if name == "merges.txt" else name
  file = qwen.write(tmp_path, kind) / name
  file.unlink()
  if content is None:
    file.symlink_to("../../blobs/x")
  else:
    file.write_bytes(content)
  with pytest.raises(qwen_files.VocabularyError, match=words) as error:
    load(tmp_path)
  assert str(file) in str(error.value)


def test_json_of_other_programs_is_refused_in_a_sentence(tmp_path):
  """Not read in Python's way: of two keys the last, and a stack's end."""
  file = qwen.write(tmp_path, "tokenizer.json") / "tokenizer.json"
  text = file.read_text("utf-8")
  for content, words in (
    (text.replace('"model": {', '"model": {}, "model": {', 1), "twice"),
    ("[" * 200_000, "nested too deeply"),
  ):
    file.write_text(content, "utf-8")
    with pytest.raises(qwen_files.VocabularyError, match=words):
      load(tmp_path)


def test_published_merges_make_the_tokens_in_their_order():
  """What `misplaced` holds a file against is so of Qwen3's own."""
  for name in ("tokenizer.json", "vocab.json"):
    assert not qwen_files.misplaced(qwen_files.read(qwen.published(name)))
