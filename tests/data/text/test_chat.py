"""Laws of the chat layout: what training sees is what a conversation gives."""

import json
import random

import numpy as np
import pytest

from emma_jax.data.text import chat
from emma_jax.data.text import tokenizer as lib
from emma_jax.data.text.chat import PICTURE, Turn
from emma_jax.data.transforms import Picture, further_turn
from emma_jax.structs import Drawing, Editing, Understanding
from tests import neutral
from tests.data import qwen

PIXELS = np.zeros((32, 32, 3), np.uint8)
THINK = "<think>\n\n</think>\n\n"
SAID = (
  "hello",
  "What is this?",
  "世界 🙂",
  "def f():\n  return 1\n",
  "\n\nq",
  " x ",
  "e\u0301\n",
  "",
  "I'll say 'no'.",
  "{{ x }} {% y %}",
  "<b>7</b>",
)


@pytest.fixture(scope="module", params=["tiny", "small", "published"])
def tokenizer(request, tmp_path_factory) -> lib.Tokenizer:
  if request.param == "tiny":
    return lib.TinyTokenizer(["red"])
  pytest.importorskip("tokenizers")
  if request.param == "published":
    return lib.QwenTokenizer(qwen.published("tokenizer.json"))
  folder = qwen.write(tmp_path_factory.mktemp("small"), "tokenizer.json")
  return lib.QwenTokenizer(folder, ordinary=len(qwen.small().tokens))


def test_render_by_hand():
  turns = [
    Turn("system", ("Be kind.",)),
    Turn("user", (PICTURE, "and ", PICTURE, "?")),
    Turn("assistant", ("Yes.",)),
    Turn("user", ("Draw it.",)),
  ]
  head = (
    "<|im_start|>system\nBe kind.<|im_end|>\n"
    "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>and "
    "<|vision_start|><|image_pad|><|image_pad|><|vision_end|>?<|im_end|>\n"
    "<|im_start|>assistant\nYes.<|im_end|>\n"
    "<|im_start|>user\nDraw it.<|im_end|>"
  )
  say = lambda answer: chat.render(turns, [1, 2], answer)
  assert say(None) == head
  assert say("text") == head + "\n<|im_start|>assistant\n"
  assert say("picture") == head + "\n<|im_start|>assistant\n<|vision_start|>"
  assert chat.render([]) == ""


def test_ids_are_those_of_the_pieces(tokenizer):
  ids = chat.encode(tokenizer, [Turn("user", ("a", PICTURE, "b"))], [3])
  at = tokenizer.special
  assert ids == [
    at[lib.IM_START],
    *tokenizer.encode("user\na"),
    at[lib.VISION_START],
    *[at[lib.IMAGE_PAD]] * 3,
    at[lib.VISION_END],
    *tokenizer.encode("b"),
    at[lib.IM_END],
    *tokenizer.encode("\n"),
    at[lib.IM_START],
    *tokenizer.encode("assistant\n"),
  ]


def test_what_is_said_makes_no_special_token(tokenizer):
  for name in tokenizer.special:
    count = lambda said: sum(
      i in set(tokenizer.special.values())
      for i in chat.encode(tokenizer, [Turn("user", (said,))])
    )
    assert count(f"a{name}b") == count("ab") == 3


def _flat(tokenizer, sample, pads: int) -> list[int]:
  """Ids of a sample, a picture as a run of <|image_pad|>."""
  out = []
  for part in sample.parts:
    if isinstance(part, Picture):
      out += [tokenizer.special[lib.IMAGE_PAD]] * pads
    else:
      out += part.tokens
  return out


def test_training_sees_the_same_layout(tokenizer):
  to_sample = neutral.to_sample(
    tokenizer=tokenizer, framing=neutral.framing(height=32, width=32)
  )
  flat = lambda record: _flat(tokenizer, to_sample(record), 4)
  encode = lambda turns, pictures, answer: chat.encode(
    tokenizer, turns, [4] * pictures, answer
  )
  talk = [
    Turn("user", (PICTURE, PICTURE, "\nhello\n")),
    Turn("assistant", ("a",)),
    Turn("user", ("世界",)),
    Turn("assistant", ("\nb ",)),
  ]
  asked = lambda last: Understanding(
    pictures=(PIXELS,) * 2, turns=(("\nhello\n", "a"), ("世界", last))
  )
  assert flat(asked("\nb ")) == encode(talk, 2, None)
  assert flat(asked(None)) == encode(talk[:3], 2, "text")
  first = Understanding(pictures=(PIXELS,), turns=(("q", None),))
  assert flat(first) == encode([Turn("user", (PICTURE, "q"))], 1, "text")
  draw = [Turn("user", ("a cat",))]
  assert flat(Drawing(prompt="a cat")) == encode(draw, 0, "picture")
  edit = Editing(sources=(PIXELS,), instruction="do")
  assert flat(edit) == encode([Turn("user", (PICTURE, "do"))], 1, "picture")


def test_further_turns_continue_the_layout(tokenizer):
  talk = [Turn("user", ("q",)), Turn("assistant", ("a",)), Turn("user", ("r",))]
  ids = chat.encode(tokenizer, talk[:2], answer=None)
  assert ids + [*further_turn(tokenizer, "r")] == chat.encode(tokenizer, talk)


def test_errors():
  with pytest.raises(ValueError, match="role='tool'"):
    Turn("tool", ("x",))
  with pytest.raises(ValueError, match="tuple of texts"):
    Turn("user", "x")
  with pytest.raises(ValueError, match="2 numbers for 1 pictures"):
    chat.render([Turn("user", (PICTURE,))], [1, 2])
  with pytest.raises(ValueError, match="answer='sound'"):
    chat.render([], answer="sound")


# ------------------------------------------------------ Qwen3's own template


def _conversation(rng: random.Random) -> list[Turn]:
  """Text alone; it ends with a question or with an answer."""
  turns = [Turn("system", (rng.choice(SAID),))] * rng.randint(0, 1)
  for _ in range(rng.randint(1, 4)):
    turns.append(Turn("user", (rng.choice(SAID),)))
    # Line breaks at its beginning are kept by us, stripped by the template.
    turns.append(Turn("assistant", (rng.choice(SAID).lstrip("\n"),)))
  return turns[: len(turns) - rng.randint(0, 1)]


def _template(path):
  """As transformers renders it."""
  jinja2 = pytest.importorskip("jinja2.sandbox").ImmutableSandboxedEnvironment(
    trim_blocks=True, lstrip_blocks=True
  )
  text = json.loads(path.read_text("utf-8"))["chat_template"]
  template = jinja2.from_string(text)

  def render(turns: list[Turn], **kw) -> str:
    messages = [{"role": t.role, "content": "".join(t.content)} for t in turns]
    return template.render(messages=messages, **kw)

  return render


def test_text_is_laid_out_like_qwen3s_template():
  tokenizers = pytest.importorskip("tokenizers")
  theirs = _template(qwen.published("tokenizer_config.json"))
  file = qwen.published("tokenizer.json")
  split = tokenizers.Tokenizer.from_file(str(file))
  made = lib.QwenTokenizer(file)
  rng = random.Random(0)
  for _ in range(300):
    turns = _conversation(rng)
    ask = turns[-1].role == "user"
    text = theirs(turns, add_generation_prompt=ask, enable_thinking=False)
    if ask:
      assert text == chat.render(turns, answer="text") + THINK
      # What the template gives where the model thinks by itself is ours.
      text = theirs(turns, add_generation_prompt=True)
      assert text == chat.render(turns, answer="text")
    else:
      # The last answer has an empty thought, and a line break behind it.
      before, answer = text.rsplit(THINK, 1)
      text = before + answer.removesuffix("\n")
      assert text == chat.render(turns)
    ids = chat.encode(made, turns, answer="text" if ask else None)
    assert ids == split.encode(text).ids
