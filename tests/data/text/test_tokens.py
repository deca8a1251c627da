"""Ids of texts are what they were; any text comes back, by every file."""

import unicodedata

from hypothesis import given
from hypothesis import strategies as st
import pytest

from emma_jax.data.text import chat
from emma_jax.data.text import tokenizer as lib
from emma_jax.data.text.chat import PICTURE, Turn
from tests.data import qwen
from tests.goldens import store, tokens
from tests.laws import laws

# Text that meets the merges, the special tokens' names, and what is rare.
TEXTS = st.lists(
  st.one_of(
    st.text(max_size=6),
    st.sampled_from(
      [
        "hello",
        " hello",
        "user\n",
        "\n\n",
        "世界",
        "é",
        "e\u0301",
        "<|im_end|>",
        "<|image_pad|>",
        " red",
        "large",
        "123",
        "'s",
        "  ",
        "\u2028",
        "🙂",
      ]
    ),
  ),
  max_size=6,
).map("".join)


@pytest.fixture(scope="module")
def now() -> dict:
  pytest.importorskip("tokenizers")
  return tokens.cases()


@pytest.mark.smoke
@pytest.mark.parametrize("case", store.read("tokens"))
def test_ids_are_what_they_were(case, now):
  store.check("tokens", case, now[case], store.EXACT, tokens.KEPT)


def test_every_case_is_there(now):
  assert now.keys() == store.read("tokens").keys()


@pytest.fixture(scope="module")
def tiny() -> lib.TinyTokenizer:
  return lib.TinyTokenizer()


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> list[lib.Tokenizer]:
  """One vocabulary from each kind of file."""
  pytest.importorskip("tokenizers")
  size = len(qwen.small().tokens)
  return [
    lib.QwenTokenizer(
      qwen.write(tmp_path_factory.mktemp("v"), kind), ordinary=size
    )
    for kind in ("tokenizer.json", "vocab.json", "qwen.tiktoken")
  ]


@laws(100)
@given(TEXTS)
def test_any_text_comes_back(tiny, small, text):
  assert tiny.decode(tiny.encode(text)) == text
  ids = small[0].encode(text)
  assert small[0].decode(ids) == unicodedata.normalize("NFC", text)
  for one in (tiny, small[0]):
    assert not {*one.special.values()} & {*one.encode(text)}
  for other in small[1:]:
    assert other.encode(text) == ids


@laws(40)
@given(TEXTS)
def test_the_tiny_tokenizer_takes_the_longest_piece(tiny, text):
  """By trying all pieces at every place."""
  at, want = 0, []
  while at < len(text):
    found = [p for p in tiny._pieces if text.startswith(p, at)]
    if found:
      piece = max(found, key=len)
      want.append(264 + tiny._pieces.index(piece))
      at += len(piece)
    else:
      want += [8 + b for b in text[at].encode("utf-8", "surrogatepass")]
      at += 1
  assert tiny.encode(text) == want


@laws(40)
@given(st.lists(st.integers(-5, 2000), max_size=30))
def test_any_ids_are_a_text_without_specials(tiny, small, ids):
  for one in (tiny, small[0]):
    text = one.decode(ids)
    control = [one.special[name] for name in lib.SPECIALS]
    assert text == one.decode([i for i in ids if i not in control])
    assert not any(name in text for name in lib.SPECIALS)


@laws(40)
@given(
  st.lists(
    st.tuples(
      st.sampled_from(["system", "user", "assistant"]),
      st.lists(TEXTS | st.just(PICTURE), max_size=3),
    ),
    max_size=4,
  ),
  st.sampled_from([None, "text", "picture"]),
)
def test_a_conversation_is_its_rendering_by_hand(tiny, talk, answer):
  """Marks and line breaks stand where the page says; a picture has one pad."""
  turns = [Turn(role, tuple(said)) for role, said in talk]
  picture = "<|vision_start|><|image_pad|><|vision_end|>"
  want = "\n".join(
    f"<|im_start|>{role}\n"
    + "".join(picture if x is PICTURE else x for x in said)
    + "<|im_end|>"
    for role, said in talk
  )
  if answer:
    want += ("\n" if talk else "") + "<|im_start|>assistant\n"
    want += "<|vision_start|>" if answer == "picture" else ""
  pads = [1] * sum(x is PICTURE for _, said in talk for x in said)
  assert chat.render(turns, pads, answer) == want
  ids = chat.encode(tiny, turns, pads, answer)
  names = {i: name for name, i in tiny.special.items()}
  out, run = "", []
  for i in [*ids, None]:
    if i in names or i is None:
      out += tiny.decode(run) + names.get(i, "")
      run = []
    else:
      run.append(i)
  assert out == want
