"""Laws of the tokenizers."""

import json
import pickle
import random

import pytest

from emma_jax.data import tokenizer as lib


@pytest.fixture(scope="module")
def tiny() -> lib.TinyTokenizer:
  return lib.TinyTokenizer()


def _any_text(rng: random.Random) -> str:
  ranges = [(0, 127), (128, 0x7FF), (0x4E00, 0x9FFF), (0, 0x10FFFF)]
  low, high = rng.choice(ranges)
  # The last range holds lone surrogates.
  return "".join(chr(rng.randint(low, high)) for _ in range(rng.randint(0, 30)))


def test_any_text_survives(tiny):
  rng = random.Random(0)
  for _ in range(500):
    text = _any_text(rng)
    ids = tiny.encode(text)
    assert tiny.decode(ids) == text
    assert all(0 <= i < tiny.vocab_size for i in ids)


def test_no_text_spells_a_special(tiny):
  special = set(tiny.special.values())
  for name in lib.SPECIALS:
    ids = tiny.encode(f"a{name}b")
    assert not special & set(ids)
    assert tiny.decode(ids) == f"a{name}b"


def test_decode_leaves_specials_out_and_takes_any_ids(tiny):
  ids = [tiny.special[lib.IM_START], *tiny.encode("red"), tiny.eos]
  assert tiny.decode(ids) == "red"
  assert tiny.decode([8 + 0xFF, *tiny.encode("a")]) == "\ufffda"
  assert isinstance(tiny.decode(range(tiny.vocab_size)), str)


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


def test_it_pickles(tiny):
  assert pickle.loads(pickle.dumps(tiny)) == tiny


def test_qwen_reads_a_tokenizer_file(tmp_path):
  tokenizers = pytest.importorskip("tokenizers")
  model = tokenizers.Tokenizer(tokenizers.models.BPE())
  model.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(
      add_prefix_space=False
  )
  model.decoder = tokenizers.decoders.ByteLevel()
  model.train_from_iterator(
      ["hello"],
      tokenizers.trainers.BpeTrainer(
          special_tokens=list(lib.SPECIALS),
          initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
      ),
  )
  path = tmp_path / "tokenizer.json"
  model.save(str(path))
  qwen = pickle.loads(pickle.dumps(lib.QwenTokenizer(str(path))))
  ids = qwen.encode("hello<|im_end|>")
  assert qwen.eos not in ids
  assert qwen.decode([*ids, qwen.eos]) == "hello<|im_end|>"
  data = json.loads(path.read_text())
  data["added_tokens"] = []
  data["model"]["vocab"].pop(lib.END_OF_TEXT)
  path.write_text(json.dumps(data))
  with pytest.raises(ValueError, match="endoftext"):
    lib.QwenTokenizer(str(path))
