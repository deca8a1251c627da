"""Likelihoods are those that answers are drawn from."""

import math

import pytest

from emma_jax.benchmarks.toolkits import likelihood
from tests.benchmarks import toy

QUESTION = toy.item(1).question


def of(*tokens: int) -> likelihood.Likelihood:
  session = toy.model().session
  return likelihood.of_tokens(session, [toy.png(1)], QUESTION, tokens)


def test_what_is_said_at_temperature_zero_is_the_likeliest():
  """Of all tokens that read as it does, one is greedy; no other is."""
  session = toy.model().session
  decode = session.requests.tokenizer.decode
  ((answer,),) = session.answer([[toy.png(1)]], [[QUESTION]], max_tokens=1)
  size = session.emma.config.llm.vocab_size
  like = [n for n in range(size) if decode([n]) == answer.text]
  found = {n: of(n) for n in [*like, *range(0, size, 64)]}
  (said,) = (n for n, one in found.items() if one.greedy)
  assert said in like
  assert found[said].log == max(one.log for one in found.values())


def test_tokens_of_a_place_sum_to_one():
  from emma_jax.sampling import context, text

  session = toy.model().session
  runner = session.runner
  (asked,) = session.to_answer([[toy.png(1)]], [[QUESTION]])
  dialogue = text.start(
    runner.model,
    runner.params,
    context.one_per_row([asked.sample], 1, asked.row),
    runner.route,
    room=16,
  )
  logits = [float(x) for x in dialogue.logits_BV[0]]
  total = math.log(math.fsum(map(math.exp, logits)))
  for token in (0, 65, 500):
    assert of(token).log == pytest.approx(logits[token] - total, abs=1e-6)


def test_an_answer_is_the_product_of_its_tokens():
  """And greedy only if each is."""
  one, two = of(65), of(65, 66)
  assert (one.tokens, two.tokens) == (1, 2)
  assert two.log < one.log < 0
  assert not (two.greedy and not one.greedy)


def test_an_answer_is_split_as_answers_are_learned():
  session = toy.model().session
  tokens = session.requests.tokenizer.encode("red blue")
  found = likelihood.of_answer(session, [toy.png(1)], QUESTION, "red blue")
  assert found == of(*tokens) and found.tokens == len(tokens)
  with pytest.raises(ValueError, match="has no token"):
    likelihood.of_answer(session, [toy.png(1)], QUESTION, "")
