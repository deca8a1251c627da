"""Laws of the tokenizers."""

import dataclasses
import json
import pickle
import unicodedata

from hypothesis import given
from hypothesis import strategies as st
import pytest

from emma_jax.build import data as build_data
from emma_jax.build import sections
from emma_jax.data.text import qwen_files
from emma_jax.data.text import tokenizer as lib
from tests.data import qwen
from tests.laws import laws

FILES = ("tokenizer.json", "vocab.json", "qwen.tiktoken")
# Of what every file of Qwen3 holds.
QWEN3 = "372bebe12ab5b8e55d5a15ca1fce2bcb207fcc2b1c53cf064943f8a8de342dbf"
TEXTS = (
  "",
  " ",
  "\n",
  "\r\n",
  "\t\t x",
  "hello hello",
  " hello",
  "user\n\n\nhell",
  "def f(x: int) -> int:\n  return x ** 2  # naïve\n\n\nfor(;;){i+=0x1F;}",
  "It's WE'LL don't 'Twas I'M",
  "3.14159 and 1,000,000 and ٣٤",
  "a" * 300,
  "表情、絵文字！ 한국어 テスト 世界",
  "مرحبا بالعالم שלום Привет ไทย हिन्दी",
  "🙂👍🏽❤\ufe0f🇯🇵 👨\u200d👩\u200d👧",
  "e\u0301 o\u0302\u0323 \u1e9b\u0323 \u212b ﬁ Å",
  "\u200b\u200d\ufeff\u00a0\u3000x",
  "\x00\x01\x7f\x85\u2028",
  "  \n \n  x  ",
  "<image> <|image|> <|im_end <im_end>| [INST] </s> <tool",
  "{{ x }}\\n\\u41",
)
ANY = st.text(st.characters(), max_size=30)  # lone surrogates, too


@pytest.fixture(scope="module")
def tiny() -> lib.TinyTokenizer:
  return lib.TinyTokenizer()


def small(folder, kind: str = "tokenizer.json") -> lib.QwenTokenizer:
  """By hand, with specials where its few tokens end."""
  pytest.importorskip("tokenizers")
  vocabulary = qwen.small()
  qwen.write(folder, kind)
  return lib.QwenTokenizer(folder, ordinary=len(vocabulary.tokens))


@pytest.fixture(scope="module", params=["tiny", "small", *FILES])
def any_kind(request, tiny, tmp_path_factory) -> lib.Tokenizer:
  """The built-in one, the one by hand, Qwen3's from each published file."""
  if request.param == "tiny":
    return tiny
  if request.param == "small":
    return small(tmp_path_factory.mktemp("small"))
  path = qwen.published(request.param)
  pytest.importorskip("tokenizers")
  return lib.QwenTokenizer(path)


def _kept(tokenizer: lib.Tokenizer, text: str) -> str:
  """What a round trip leaves of a text."""
  if isinstance(tokenizer, lib.TinyTokenizer):
    return text
  text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
  return unicodedata.normalize("NFC", text)


# ---------------------------------------------------- laws of every tokenizer


def _assert_survives(tokenizer: lib.Tokenizer, text: str) -> None:
  ids = tokenizer.encode(text)
  assert tokenizer.decode(ids) == _kept(tokenizer, text)
  assert all(isinstance(i, int) for i in ids)
  assert all(0 <= i < tokenizer.vocab_size for i in ids)


def test_texts_of_all_kinds_survive(any_kind):
  for text in (*TEXTS, "a\ud800b"):
    _assert_survives(any_kind, text)


@laws(100)
@given(text=ANY)
def test_any_text_survives(any_kind, text):
  _assert_survives(any_kind, text)


def test_no_text_spells_a_special(any_kind):
  special = set(any_kind.special.values())
  assert len(special) == len(any_kind.special)
  for name in {*lib.SPECIALS, *any_kind.special}:
    for text in (name, f"a{name}b", f" {name}\n", name * 3):
      ids = any_kind.encode(text)
      assert not special & set(ids)
      assert any_kind.decode(ids) == text


def test_decode_leaves_specials_out_and_takes_any_ids(any_kind):
  special = any_kind.special
  marks = [special[name] for name in lib.SPECIALS]
  assert all(0 <= i < any_kind.vocab_size for i in marks)
  assert any_kind.decode(marks) == ""
  assert any_kind.decode([*marks, *any_kind.encode("red"), *marks]) == "red"
  assert isinstance(any_kind.decode(range(any_kind.vocab_size)), str)
  assert any_kind.decode([any_kind.vocab_size, 10**6, -1]) == ""
  assert any_kind.eos == special[lib.IM_END]


def test_half_a_character_is_replaced(any_kind):
  whole = any_kind.encode("\U00020abc")  # rare: no token of its own
  assert len(whole) > 1
  assert any_kind.decode(whole[:1]) == "\ufffd"
  assert any_kind.decode(whole[:1] + any_kind.encode("a")) == "\ufffda"


def test_it_pickles(any_kind):
  again = pickle.loads(pickle.dumps(any_kind))
  assert again == any_kind and hash(again) == hash(any_kind)
  assert again.fingerprint() == any_kind.fingerprint()
  assert again.encode("hello red") == any_kind.encode("hello red")


# --------------------------------------------------------------- the tiny one


def test_the_vocabulary_is_full_and_world_words_are_one_token(tiny):
  assert tiny.vocab_size == 1024
  for text in ("red", " circle", "圆形"):
    assert len(tiny.encode(text)) <= 1 + (text == "圆形")


def test_the_order_of_the_worlds_words_has_no_meaning():
  words = ["red", "circle", "红色", "3", "blue"]
  one, two = lib.TinyTokenizer(words), lib.TinyTokenizer(words[::-1])
  assert one.fingerprint() == two.fingerprint()
  assert one.encode("red circle 3") == two.encode("red circle 3")
  assert lib.TinyTokenizer(words[1:]).fingerprint() != one.fingerprint()


def test_too_many_words_are_refused():
  with pytest.raises(ValueError, match="VOCAB_SIZE"):
    lib.TinyTokenizer([f"word{'x' * i}" for i in range(600)])


# ------------------------------------------------- Qwen3's rules, few tokens


def test_every_file_gives_the_same_tokenizer(tmp_path):
  made = [small(tmp_path / kind, kind) for kind in FILES]
  assert made[0] == made[1] == made[2]
  tables = [qwen_files.read(tmp_path / kind) for kind in FILES]
  for other in tables[1:]:
    assert other.tokens == tables[0].tokens
    assert other.merges == tables[0].merges
  # The older way to write merges in a tokenizer.json.
  data = qwen.tokenizer_json(qwen.small())
  data["model"]["merges"] = [" ".join(p) for p in data["model"]["merges"]]
  (tmp_path / "tokenizer.json" / "tokenizer.json").write_text(json.dumps(data))
  assert qwen_files.read(tmp_path / "tokenizer.json") == tables[0]


def test_ids_by_hand(tmp_path):
  made = small(tmp_path)
  id_of = qwen.small().tokens.index
  ids = lambda *pieces: [id_of(qwen.written(piece)) for piece in pieces]
  assert made.encode("hello hello") == ids("hello", " hello")
  # The pattern keeps spaces before a word, and digits apart.
  assert made.encode("hell  hello12") == ids("hell", " ", " hello", "1", "2")
  assert made.encode("user\n\n\n") == ids("user", "\n\n", "\n")
  assert made.encode("世") == ids("世")
  assert made.encode("ä") == ids(b"\xc3", b"\xa4")
  # NFC first: the letter and its accent are one character.
  assert made.encode("e\u0301") == made.encode("é") == ids("é")
  assert made.encode("\ud83d\ude42") == made.encode("🙂")
  assert made.encode("\ud83d") == made.encode("\ufffd")
  assert made.vocab_size == len(qwen.small().tokens) + 26


def test_ids_and_texts_are_those_of_the_package(tmp_path):
  tokenizers = pytest.importorskip("tokenizers")
  made = small(tmp_path)
  theirs = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
  _same(made, theirs, made.vocab_size)


def _same_ids(made: lib.QwenTokenizer, encode) -> None:
  """Of texts, and of special tokens' names where they are texts to `encode`."""

  @laws(200)
  @given(ANY)
  def law(text):
    text = _kept(made, text)
    assert made.encode(text) == encode(text)

  law()
  for text in (*TEXTS, *lib.QWEN3_CONTROL):
    text = _kept(made, text)
    assert made.encode(text) == encode(text), text


def _same(made: lib.QwenTokenizer, theirs, size: int) -> None:
  for text in TEXTS:
    assert made.encode(text) == theirs.encode(text).ids, text
  theirs.encode_special_tokens = True
  _same_ids(made, lambda text: theirs.encode(text).ids)

  @laws(100)
  @given(st.lists(st.integers(0, size - 1), min_size=1, max_size=20))
  def same_texts(ids):  # broken characters and special tokens
    assert made.decode(ids) == theirs.decode(ids, skip_special_tokens=True)

  same_texts()


def test_written_specials_are_decoded(tmp_path):
  made = small(tmp_path)
  ids = [made.special[n] for n in ("<think>", lib.IM_END, "</think>")]
  assert made.decode(ids) == "<think></think>"


def test_the_names_are_in_the_order_of_their_ids():
  """reference_models.md, section 5."""
  names = lib.QWEN3_CONTROL + lib.QWEN3_WRITTEN
  at = {name: lib.QWEN3_ORDINARY + i for i, name in enumerate(names)}
  assert len(names) == len(at) == 26
  some = {
    lib.END_OF_TEXT: 151643,
    lib.IM_START: 151644,
    lib.IM_END: 151645,
    "<|object_ref_start|>": 151646,
    "<|box_start|>": 151648,
    "<|quad_end|>": 151651,
    lib.VISION_START: 151652,
    lib.VISION_END: 151653,
    "<|vision_pad|>": 151654,
    lib.IMAGE_PAD: 151655,
    "<|video_pad|>": 151656,
    "<tool_call>": 151657,
    "<|fim_prefix|>": 151659,
    "<|fim_pad|>": 151662,
    "<|file_sep|>": 151664,
    "<tool_response>": 151665,
    "<think>": 151667,
    "</think>": 151668,
  }
  assert {name: at[name] for name in some} == some


# --------------------------------------------------------------------- errors


def _change(**added) -> qwen_files.Vocabulary:
  """The small one with other special tokens; None takes one away."""
  known = {**qwen.small().added, **added}
  return dataclasses.replace(
    qwen.small(), added={k: v for k, v in known.items() if v is not None}
  )


@pytest.mark.parametrize(
  "added, message",
  [
    ({lib.IM_END: (3, True)}, r"im_end\|> is 3 .*, Qwen3's is 270 "),
    ({lib.IMAGE_PAD: None}, r"image_pad\|> is missing, Qwen3's is 280"),
    ({"<think>": (292, True)}, r"think> is 292 \(special: True\), Qwen3's"),
    ({"<|new|>": (294, True)}, r"new\|> is 294 .*, Qwen3's is missing"),
  ],
)
def test_other_special_tokens_are_refused(tmp_path, added, message):
  pytest.importorskip("tokenizers")
  qwen.write(tmp_path, "tokenizer.json", _change(**added))
  with pytest.raises(qwen_files.VocabularyError, match=message):
    lib.QwenTokenizer(tmp_path, ordinary=len(qwen.small().tokens))


@pytest.mark.parametrize("kind", FILES)
def test_another_number_of_tokens_is_refused(tmp_path, kind):
  pytest.importorskip("tokenizers")
  qwen.write(tmp_path, kind)
  with pytest.raises(ValueError, match="268 ordinary tokens, Qwen3 has 151643"):
    lib.QwenTokenizer(tmp_path)


def test_other_rules_are_refused(tmp_path):
  data = qwen.tokenizer_json(qwen.small())
  data["normalizer"] = None
  data["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = "x"
  path = tmp_path / "tokenizer.json"
  path.write_text(json.dumps(data))
  with pytest.raises(qwen_files.VocabularyError) as error:
    qwen_files.read(path)
  for part in ("normalizer is []", "['NFC']", "pattern is 'x'", str(path)):
    assert part in str(error.value)


@pytest.mark.parametrize(
  "name, content, message",
  [
    ("tokenizer.json", "{", "damaged"),
    ("tokenizer.json", "{}", "no `model`"),
    ("tokenizer.json", '{"model": 3}', "laid out"),
    ("vocab.json", '{"a": 0, "b": 2}', "the id 1 of 2"),
    ("vocab.json", '{"a": 0}', "merges.txt"),  # not beside it
    ("qwen.tiktoken", "YQ==", "line 1"),
    ("qwen.tiktoken", "YQ== 0\nY 1", "damaged"),
    ("qwen.tiktoken", "YQ== 0\nYWI= 1", "rank 1 is no merge"),
    ("other.txt", "", "No vocabulary at"),
  ],
)
def test_damaged_files_are_named(tmp_path, name, content, message):
  (tmp_path / name).write_text(content)
  with pytest.raises(qwen_files.VocabularyError, match=message) as error:
    qwen_files.read(tmp_path)
  assert str(tmp_path) in str(error.value)


def test_a_byte_without_a_token_and_an_unknown_merge(tmp_path):
  pytest.importorskip("tokenizers")
  v = qwen.small()
  odd = dataclasses.replace(v, tokens=("zz", *v.tokens[1:]))
  qwen.write(tmp_path / "a", "tokenizer.json", odd)
  with pytest.raises(ValueError, match="no token for 1 of the 256 bytes"):
    lib.QwenTokenizer(tmp_path / "a", ordinary=len(v.tokens))
  odd = dataclasses.replace(v, merges=(*v.merges[:-1], ("q", "q")))
  qwen.write(tmp_path / "b", "tokenizer.json", odd)
  with pytest.raises(qwen_files.VocabularyError, match="qq"):
    lib.QwenTokenizer(tmp_path / "b", ordinary=len(v.tokens))


# --------------------------------------------------------------- from a config


def test_a_config_names_the_tokenizer(tmp_path, monkeypatch):
  assert isinstance(
    build_data.tokenizer({"tokenizer": "tiny"}), lib.TinyTokenizer
  )
  for name in ("qwen", "qwen3", "qwen3:", "Tiny"):
    with pytest.raises(
      sections.ConfigError, match="choose tiny, or qwen3:PATH"
    ):
      build_data.tokenizer({"tokenizer": name})
  missing = {"tokenizer": f"qwen3:{tmp_path}/none"}
  with pytest.raises(
    sections.ConfigError, match="tokenizer='qwen3:.*No vocabul"
  ):
    build_data.tokenizer(missing)
  made = small(tmp_path)
  monkeypatch.setattr(lib, "QwenTokenizer", lambda path: made)
  assert build_data.tokenizer({"tokenizer": f"qwen3:{tmp_path}"}) is made


def test_the_models_vocabulary_holds_the_tokenizers():
  data = {"tokenizer": "tiny"}
  model = {"kind": "emma", "llm": {"vocab_size": 1024}}
  assert build_data.tokenizer(data, model).vocab_size == 1024
  assert build_data.tokenizer(data, {"kind": "autoencoder"}).vocab_size == 1024
  model["llm"]["vocab_size"] = 1000
  with pytest.raises(
    sections.ConfigError, match="vocab_size=1000 .* 1024 tokens"
  ):
    build_data.tokenizer(data, model)


def test_a_config_reads_a_vocabulary_of_qwen3s_size(tmp_path):
  pytest.importorskip("tokenizers")
  qwen.write(tmp_path, "vocab.json", qwen.full_size())
  data = {"tokenizer": f"qwen3:{tmp_path}"}
  model = {"kind": "emma", "llm": {"vocab_size": 151936}}
  made = build_data.tokenizer(data, model)
  assert made.eos == 151645 and made.special[lib.IMAGE_PAD] == 151655
  assert made.decode(made.encode("naïve 表情")) == "naïve 表情"
  model["llm"]["vocab_size"] = 151668
  with pytest.raises(
    sections.ConfigError, match="151668 has no room .* 151669"
  ):
    build_data.tokenizer(data, model)


# ---------------------------------------------------------- the published files


def test_the_published_files_agree():
  pytest.importorskip("tokenizers")
  made = [lib.QwenTokenizer(qwen.published(name)) for name in FILES]
  assert [one.fingerprint() for one in made] == [QWEN3] * len(FILES)
  hub = qwen_files.read(qwen.published("tokenizer.json"))
  assert (len(hub.tokens), len(hub.merges)) == (151643, 151387)


def test_the_published_ids():
  tokenizers = pytest.importorskip("tokenizers")
  path = qwen.published("tokenizer.json")
  made = lib.QwenTokenizer(path)
  assert made.encode("Hello, world!") == [9707, 11, 1879, 0]
  assert made.encode("世界 12") == [99489, 220, 16, 17]
  assert made.vocab_size == 151669 and made.eos == 151645
  theirs = tokenizers.Tokenizer.from_file(str(path))
  added = theirs.get_added_tokens_decoder()
  assert made.special == {token.content: i for i, token in added.items()}
  control = {t.content for t in added.values() if t.special}
  assert control == set(lib.QWEN3_CONTROL)
  _same(made, theirs, 151936)


def test_tiktoken_gives_the_published_ids():
  tiktoken = pytest.importorskip("tiktoken")
  pytest.importorskip("tokenizers")
  path = qwen.published("qwen.tiktoken")
  made = lib.QwenTokenizer(path)
  ranks = {
    bytes(map(qwen.LETTERS.index, token)): rank
    for rank, token in enumerate(qwen_files.read(path).tokens)
  }
  theirs = tiktoken.Encoding(
    "qwen", pat_str=qwen_files.PATTERN, mergeable_ranks=ranks, special_tokens={}
  )
  _same_ids(made, theirs.encode_ordinary)


def test_what_an_answer_is_made_of(any_kind):
  """Everything that decodes to text, the end, and nothing else at all."""
  allowed = set(any_kind.answer_ids)
  assert any_kind.eos in allowed
  shown = {i for i in range(any_kind.vocab_size + 300) if any_kind.decode([i])}
  assert allowed == shown | {any_kind.eos}
  others = {any_kind.special[name] for name in lib.SPECIALS} - {any_kind.eos}
  assert len(others) == len(lib.SPECIALS) - 1 and not others & allowed
