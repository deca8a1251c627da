"""The chat layout: Qwen's ChatML without thinking, with pictures.

  <|im_start|>system\\n ... <|im_end|>\\n                  (only where given)
  <|im_start|>user\\n ... <|im_end|>\\n
  <|im_start|>assistant\\n ... <|im_end|>

and every picture as <|vision_start|><|image_pad|>...<|vision_end|>, one pad for
each of its tokens, which is where the model puts what it sees of the picture.

For text it is what the chat template of Qwen3's tokenizer_config.json makes,
with these differences, all on purpose:

- No <think>\\n\\n</think>\\n\\n before an answer, where Qwen3's template (with
  enable_thinking=False) writes it: EMMA is trained without thinking.
- Pictures, which Qwen3's template does not know; Qwen's vision models write
  them in this way.
- A sequence ends with its last learned token, the answer's <|im_end|>; the line
  break after it belongs to the next turn.
- Answers are kept as they are; Qwen3's template strips thoughts and line breaks
  from their beginning. They are split into tokens apart from the line break
  before them, since that is how they are generated.
- No tools. And what a user types never makes a special token: ids are made
  piece by piece, not from the rendered text.

>>> from emma_jax.data.text.tokenizer import TinyTokenizer
>>> turns = [Turn("user", (PICTURE, "red?")), Turn("assistant", ("no",))]
>>> print(render(turns, picture_tokens=[2]))
<|im_start|>user
<|vision_start|><|image_pad|><|image_pad|><|vision_end|>red?<|im_end|>
<|im_start|>assistant
no<|im_end|>
>>> tokenizer = TinyTokenizer(["red"])
>>> ids = encode(tokenizer, turns[:1], picture_tokens=[2])
>>> ids.count(tokenizer.special["<|image_pad|>"])
2
"""

from collections.abc import Iterable, Sequence
import dataclasses
from typing import Any, Literal

from emma_jax.data.text import tokenizer as tokens_lib

Role = Literal["system", "user", "assistant"]
# What is to be generated: a text or a picture; None: nothing.
Answer = Literal["text", "picture"] | None
# Where a picture stands in a question's text, as in LLaVA's files.
IMAGE_MARK = "<image>"
# Stands for a picture where only its place matters.
PICTURE = object()


@dataclasses.dataclass(frozen=True)
class Turn:
  """Texts (str) and pictures (anything else) in reading order."""

  role: Role
  content: tuple[Any, ...]

  def __post_init__(self):
    if self.role not in ("system", "user", "assistant"):
      raise ValueError(
        f"{self.role=} is unknown; use 'system', 'user' or 'assistant'."
      )
    if isinstance(self.content, str):
      raise ValueError(
        f"{self.content=} must be a tuple of texts and pictures."
      )


@dataclasses.dataclass(frozen=True)
class Mark:
  """A special token of the layout, by its name."""

  name: str


def turn(role: Role, content: Iterable[Any]) -> list[Any]:
  """A turn from its <|im_start|> to its <|im_end|>.

  A layout is a list of texts, each split into tokens by itself, Marks, and
  pictures.
  """
  out: list[Any] = [Mark(tokens_lib.IM_START)]
  text = f"{role}\n"
  if role == "assistant":
    # An answer's first token follows a prompt that has been split already.
    out.append(text)
    text = ""
  for piece in content:
    if isinstance(piece, str):
      text += piece
      continue
    out += [text, Mark(tokens_lib.VISION_START)]
    out += [piece, Mark(tokens_lib.VISION_END)]
    text = ""
  return [*out, text, Mark(tokens_lib.IM_END)]


def question(content: Iterable[Any], first: bool = True) -> list[Any]:
  """A user's turn up to where the answer begins.

  `first` False: the line break that follows an answer's <|im_end|> as well.
  """
  before = [] if first else ["\n"]
  return [*before, *turn("user", content), "\n", *_begin("text")]


def layout(turns: Iterable[Turn], answer: Answer = "text") -> list[Any]:
  """A conversation, and the beginning of the answer that is to be generated."""
  out: list[Any] = []
  for one in turns:
    out += ["\n"] if out else []
    out += turn(one.role, one.content)
  if answer is not None:
    out += ["\n"] if out else []
    out += _begin(answer)
  return out


def _begin(answer: Answer) -> list[Any]:
  if answer not in ("text", "picture"):
    raise ValueError(f"{answer=} is unknown; use 'text', 'picture' or None.")
  out: list[Any] = [Mark(tokens_lib.IM_START), "assistant\n"]
  if answer == "picture":
    out.append(Mark(tokens_lib.VISION_START))
  return out


def to_ids(tokenizer: tokens_lib.Tokenizer, pieces: Iterable[Any]) -> list[Any]:
  """A layout's runs of ids (tuples), and its pictures between them.

  >>> t = tokens_lib.TinyTokenizer(["red"])
  >>> [type(x).__name__ for x in to_ids(t, question(["a", PICTURE, "red"]))]
  ['tuple', 'object', 'tuple']
  """
  out: list[Any] = []
  run: list[int] = []
  for piece in pieces:
    if isinstance(piece, Mark):
      run.append(tokenizer.special[piece.name])
    elif isinstance(piece, str):
      run += tokenizer.encode(piece)
    else:
      out += [tuple(run), piece] if run else [piece]
      run = []
  return [*out, tuple(run)] if run else out


def encode(
  tokenizer: tokens_lib.Tokenizer,
  turns: Iterable[Turn],
  picture_tokens: Sequence[int] = (),
  answer: Answer = "text",
) -> list[int]:
  """Ids of a conversation; a picture is a run of <|image_pad|>.

  Args:
    tokenizer: of text.
    turns: in reading order.
    picture_tokens: the number of tokens of each picture, in reading order.
    answer: what is to follow.

  Raises:
    ValueError: more or fewer pictures than numbers.
  """
  pieces = _with_pads(layout(turns, answer), picture_tokens)
  return [i for run in to_ids(tokenizer, pieces) for i in run]


def render(
  turns: Iterable[Turn],
  picture_tokens: Sequence[int] = (),
  answer: Answer = None,
) -> str:
  """The text of a conversation, for people and for comparisons.

  Its special tokens cannot be told from text that spells them: for a model,
  use `encode`. Arguments and errors are those of `encode`.
  """
  pieces = _with_pads(layout(turns, answer), picture_tokens)
  return "".join(p.name if isinstance(p, Mark) else p for p in pieces)


def _with_pads(
  pieces: Sequence[Any], counts: Sequence[int]
) -> list[str | Mark]:
  pictures = sum(not isinstance(piece, (str, Mark)) for piece in pieces)
  if pictures != len(counts):
    raise ValueError(
      f"picture_tokens has {len(counts)} numbers for {pictures} pictures."
    )
  numbers = iter(counts)
  out: list[str | Mark] = []
  for piece in pieces:
    if isinstance(piece, (str, Mark)):
      out.append(piece)
    else:
      out += [Mark(tokens_lib.IMAGE_PAD)] * next(numbers)
  return out
