"""Turns of a conversation, as parts to be read: texts, token ids, pictures."""

import itertools

MARK = "<image>"  # where a picture stands in a question


def message(special, *said) -> list:
  """A user's turn of texts and pictures, up to where the answer begins.

  special: a special token's id by its name.
  """
  start, end, left, right = map(
    special,
    ("<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>"),
  )
  shown = [(x,) if isinstance(x, str) else (left, x, right) for x in said]
  turn = itertools.chain.from_iterable(shown)
  return [start, "user\n", *turn, end, "\n", start, "assistant\n"]


def placed(question: str, shown: list) -> list:
  """A question's texts with its pictures at the marks, or before it."""
  first, *others = question.split(MARK)
  if not others:
    return [*shown, question]
  if len(others) != len(shown):
    raise ValueError(
      f"{len(others)} {MARK} marks for {len(shown)} pictures (they belong to "
      "the first question): mark each once, or none."
    )
  texts = [text.strip("\n") for text in others]  # line breaks of the file
  return [first.strip("\n"), *itertools.chain(*zip(shown, texts))]
