"""An answer is made of the tokenizer's text alone, and of numbers."""

import jax.numpy as jnp
import numpy as np
import pytest

from emma_jax import rules
from emma_jax.build import session as build_session
from emma_jax.data.text.tokenizer import TinyTokenizer
from emma_jax.exits import NotFinite
from emma_jax.sampling import text
from emma_jax.sampling.runner import Runner
from tests.sampling import small


@pytest.fixture
def said(monkeypatch) -> list[int]:
  """Filled with all tokens of all answers, as they were picked."""
  found: list[int] = []
  real = Runner.answers

  def answers(self, *args):
    for place, turns in real(self, *args):
      found.extend(i for turn in turns for i in turn)
      yield place, turns

  monkeypatch.setattr(Runner, "answers", answers)
  return found


@pytest.fixture
def tempted(monkeypatch):
  """A model that wants to say nothing but what it must not."""
  vocab = small.session().emma.config.llm.vocab_size
  wanted_BV = np.full((1, vocab), 1e4, np.float32)
  wanted_BV[:, list(small.session().requests.tokenizer.answer_ids)] = 0
  real = text.pick
  monkeypatch.setattr(
    text, "pick", lambda logits_BV, *more: real(logits_BV + wanted_BV, *more)
  )
  text.answer.clear_cache()  # compiled with the other `pick`
  yield
  text.answer.clear_cache()


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_marks_and_unused_ids_are_never_said(
  monkeypatch, said, tempted, temperature
):
  s = small.session()
  allowed = set(s.requests.tokenizer.answer_ids)
  ask = lambda: s.ask([[]], [["what?"]], temperature=temperature)
  ask()
  assert set(said) <= allowed
  said.clear()
  every = range(s.emma.config.llm.vocab_size)
  monkeypatch.setattr(TinyTokenizer, "answer_ids", every)
  ask()
  assert said and not allowed & set(said)  # so it was tempted


def test_an_answer_without_numbers_is_an_error():
  """Not silence: of NaN the first token is the likeliest."""
  s = small.session()
  flat = dict(rules.flatten(s.params))
  name = "llm/norm_und/scale"
  flat[name] = jnp.asarray(flat[name]).at[0].set(jnp.nan)
  broken = build_session.session(
    s.config, rules.unflatten(flat), "broken", 7, batch=4
  )
  message = f"An answer by broken .* 1 of the weights are not, {name} first"
  with pytest.raises(NotFinite, match=message):
    broken.ask([[]], [["what?"]])
