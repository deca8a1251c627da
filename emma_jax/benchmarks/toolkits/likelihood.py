"""How likely a model finds an answer that is given to it."""

from collections.abc import Sequence
import dataclasses
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True, kw_only=True)
class Likelihood:
  """Of an answer's tokens, each given the question and those before it.

  Args:
    log: natural logarithm of their product.
    greedy: whether each is the likeliest: what is said at temperature 0 begins
      with them.
    tokens: how many there are.
  """

  log: float
  greedy: bool
  tokens: int


def of_answer(
  session: Any, pictures: Sequence[Any], question: str, answer: str
) -> Likelihood:
  """The likelihood of an answer, without the token that ends it.

  Args:
    session: `sampling.session.Session`.
    pictures: see `Session.answer`.
    question: the text of the only turn.
    answer: begins right behind "assistant\\n".

  Raises:
    ValueError: an answer without a token.
    SampleError, BadRecord: see `Session.to_answer`.
  """
  tokens = session.requests.tokenizer.encode(answer)
  if not tokens:
    raise ValueError(f"The answer {answer!r} has no token.")
  return of_tokens(session, pictures, question, tokens)


def of_tokens(
  session: Any, pictures: Sequence[Any], question: str, tokens: Sequence[int]
) -> Likelihood:
  """The same of an answer's tokens.

  Teacher forcing over the cache that answers are decoded from, one row and one
  token a time, so that no other answer plays a part.
  """
  from emma_jax.sampling import context, text

  (asked,) = session.to_answer([pictures], [[question]])
  runner = session.runner
  batch = context.one_per_row([asked.sample], 1, asked.row)
  dialogue = text.start(
    runner.model,
    runner.params,
    batch,
    runner.route,
    room=context.static_size(len(tokens), 16),
  )
  log, greedy = 0.0, True
  for i, token in enumerate(tokens):
    logits_V = np.asarray(dialogue.logits_BV[0], np.float64)
    top = logits_V.max()
    log += logits_V[token] - top - np.log(np.exp(logits_V - top).sum())
    greedy &= int(logits_V.argmax()) == token
    if i + 1 < len(tokens):
      dialogue = text.say(
        runner.model,
        runner.params,
        dialogue,
        np.array([[token]], np.int32),
        np.array([1], np.int32),
      )
  return Likelihood(log=float(log), greedy=greedy, tokens=len(tokens))
