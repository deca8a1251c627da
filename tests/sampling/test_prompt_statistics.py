"""How unlike a training's texts a text is: a number, and a quantile of it."""

import math
import re

import pytest

from emma_jax.data.text.tokenizer import TinyTokenizer
from emma_jax.sampling import prompt_statistics
from emma_jax.sampling.prompt_statistics import PromptStatistics

TOKENIZER = TinyTokenizer()
COLOURS = ("red", "blue", "green")
TEXTS = [f"a {c} {s}" for c in COLOURS for s in ("star", "circle", "square")]


@pytest.fixture(scope="module")
def statistics() -> PromptStatistics:
  tokens = [TOKENIZER.encode(text) for text in TEXTS * 20]
  one = prompt_statistics.count(tokens[1:], tokens, TOKENIZER.vocab_size)
  return PromptStatistics(
    tokenizer=TOKENIZER.fingerprint(), tasks={"drawing": one}, earlier=None
  )


def test_surprise_is_the_mean_of_minus_log_probability_by_witten_and_bell():
  one = prompt_statistics.count([[1, 2], [1, 3]], [[1]], vocabulary=10)
  # Behind the beginning: token 1 twice of two, of one kind; of four tokens in
  # all 1 was seen twice, and each of ten has one more.
  first = (2 + 1 * (2 + 1) / 14) / (2 + 1)
  second = (1 + 2 * (1 + 1) / 14) / (2 + 2)
  wanted = -(math.log(first) + math.log(second)) / 2
  assert one.surprise([1, 2]) == pytest.approx(wanted, rel=1e-12)
  assert one.surprise([]) == 0 and 0 <= one.limit + math.log(first) < 1e-3
  shares = [math.exp(-one.surprise([t])) for t in range(10)]
  assert sum(shares) == pytest.approx(1.0)  # a distribution


@pytest.mark.smoke
def test_own_texts_pass_and_others_get_a_short_line(statistics):
  note = lambda text: statistics.note("m", "drawing", text, TOKENIZER)
  assert not any(map(note, TEXTS))
  for text in ("a purple elephant", "star red a", "一个红色的星形"):
    assert "nats a token" in (note(text) or "")
  long = note("a red star " * 500)
  assert long and len(long) < 300 and "the longest has 3" in long
  assert statistics.note("m", "editing", "a purple", TOKENIZER) is None
  other = TinyTokenizer(["red"])
  assert statistics.note("m", "drawing", "a purple elephant", other) is None


def test_they_come_back_from_their_file(statistics):
  again = PromptStatistics.from_json(statistics.to_json())
  assert again.to_json() == statistics.to_json()
  whole = statistics.to_json()
  for wrong in (
    *("", "[]", "{}", '{"tokenizer": "a", "tasks": {"x": 1}}'),
    "[" * 100_000,
    re.sub('"vocabulary": [0-9]+', '"vocabulary": 0', whole),
    re.sub('"texts": [0-9]+', '"texts": Infinity', whole),
    re.sub(":[0-9]+", ":-3", whole, count=1),
  ):
    with pytest.raises(ValueError, match="prompt statistics"):
      PromptStatistics.from_json(wrong)


def test_what_was_learned_before_stays_known(statistics):
  tokens = [TOKENIZER.encode("the picture of my cat")]
  one = prompt_statistics.count(tokens, tokens, TOKENIZER.vocab_size)
  both = PromptStatistics(
    tokenizer=TOKENIZER.fingerprint(),
    tasks={"drawing": one, "editing": one},
    earlier=statistics,
  )
  both = PromptStatistics.from_json(both.to_json())
  note = lambda task, text: both.note("m", task, text, TOKENIZER)
  for text in (*TEXTS, "the picture of my cat"):
    assert note("drawing", text) is None
  assert note("editing", "the picture of my cat") is None
  assert note("drawing", "a purple elephant") and note("editing", TEXTS[0])
  # Of what only the earlier one has learned, that one tells.
  both = PromptStatistics(tokenizer="other", tasks={}, earlier=statistics)
  assert note("drawing", "a purple elephant") and not note("drawing", TEXTS[0])
  assert note("editing", "a purple elephant") is None


def test_nothing_cannot_be_counted():
  with pytest.raises(ValueError, match="no texts"):
    prompt_statistics.count([], [[1]], 10)
