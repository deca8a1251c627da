"""Laws of decoding: the cache, turns, stops, draws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emma_jax.data.transforms import Sample, Text, further_turn
from emma_jax.models.emma import Emma
from emma_jax.sampling import context, text
from emma_jax.sampling.context import SampleError
from emma_jax.structs import Understanding
from tests.sampling import small

QUESTIONS = (("what?", "and a second question"), ("a longer question", "so?"))


def talk(s, eos: int, limit: int = 6):
  """Two rows, two turns, greedy.

  Returns prefixes, second questions, both turns' answers, and the logits
  before the second.
  """
  prefixes = [
    s.requests.to_sample(
      Understanding(
        pictures=(small.picture(i),) * (1 + i), turns=((q[0], None),)
      )
    )
    for i, q in enumerate(QUESTIONS)
  ]
  layout = context.row_layout(prefixes, s.requests.row, (64, 64))
  batch = context.one_per_row(prefixes, 2, layout)
  options = dict(
    active_B=np.ones(2, bool),
    keys_B=context.keys(0, "understanding", [0, 1]),
    temperature=np.float32(0),
    top_p=np.float32(1),
    limit=np.int32(limit),
    eos=np.int32(eos),
    allowed_V=np.ones(s.emma.config.llm.vocab_size, bool),
    room=16,
  )
  d = text.start(s.emma, s.params, batch, "versatile", 128)
  first, _, d = text.answer(s.emma, s.params, d, **options)
  blocks = [(eos, *further_turn(s.requests.tokenizer, q[1])) for q in QUESTIONS]
  width = context.static_size(max(map(len, blocks)), 32)
  tokens = np.zeros((2, width), np.int32)
  for row, ids in zip(tokens, blocks):
    row[: len(ids)] = ids
  d = text.say(s.emma, s.params, d, tokens, np.int32([*map(len, blocks)]))
  second, _, _ = text.answer(s.emma, s.params, d, **options)
  return prefixes, blocks, np.asarray(first), np.asarray(second), d.logits_BV


def cut(ids: np.ndarray, eos: int, limit: int = 6) -> list[int]:
  ids = ids[:limit].tolist()
  return ids[: ids.index(eos)] if eos in ids else ids


@pytest.mark.parametrize(
  "fusion, branch", [("channel", "gen"), ("token", "und")]
)
def test_dialogue_equals_one_pass_over_all_of_it(fusion, branch):
  """Greedy tokens are the argmax of the uncached model over the whole talk,
  rows of different lengths and early stops included."""
  s = small.session(fusion, branch)
  _, _, first, _, _ = talk(s, s.requests.tokenizer.eos)
  eos = int(first[0, 2])  # makes row 0 stop after two tokens, or one
  prefixes, blocks, first, second, logits_BV = talk(s, eos)
  stopped = [len(cut(row, eos)) for row in first]
  assert stopped[0] <= 2 and (first[0, stopped[0] :] == eos).all()
  apply = lambda *a, **k: s.emma.apply({"params": s.params}, *a, **k)
  samples, spoken = [], []
  for prefix, block, *answers in zip(prefixes, blocks, first, second):
    a, b = (tuple(cut(x, eos)) for x in answers)
    samples.append(
      Sample(
        "understanding",
        (*prefix.parts, Text(a, True), Text(block), Text(b, True)),
      )
    )
    spoken.append([*a, *b])
  layout = context.row_layout(samples, s.requests.row, (64, 64))
  batch = context.one_per_row(samples, 2, layout)

  @jax.jit
  def uncached(params):
    latents = apply(batch, method=Emma.latents)
    hidden = apply(batch, latents, None, None).hidden_BUD
    return apply(hidden, method=Emma.logits)

  want_BUV = np.asarray(uncached(s.params))
  for row, words in enumerate(spoken):
    (learned,) = np.nonzero(batch.weights_BU[row])
    assert batch.targets_BU[row][learned].tolist() == words
    assert want_BUV[row][learned].argmax(-1).tolist() == words
    end = int((batch.und_ids.segment[row] > 0).sum())
    want_V = want_BUV[row, end - len(cut(second[row], eos)) - 1]
    np.testing.assert_allclose(
      logits_BV[row], want_V, atol=1e-5 * np.abs(want_V).max()
    )


def test_pick():
  logits = jnp.log(jnp.float32([[0.5, 0.3, 0.15, 0.05]]))
  key, pick = jax.random.key(0), jax.jit(text.pick)

  def tokens(temperature, top_p, n=400):
    keys = jax.random.split(key, n)
    many = jnp.broadcast_to(logits, (n, 4))
    return np.asarray(pick(many, keys, temperature, top_p))

  assert set(tokens(0.0, 1.0)) == {0}
  assert set(tokens(1.0, 1.0)) == {0, 1, 2, 3}
  assert set(tokens(1.0, 0.79)) == {0, 1}  # 0.5 + 0.3 is enough
  assert set(tokens(2.0, 0.79)) == {0, 1, 2}  # 0.38 + 0.29 after it is not
  assert set(tokens(1.0, 1e-6)) == {0}  # never nothing
  share = np.mean(tokens(1.0, 1.0) == 0)
  assert abs(share - 0.5) < 0.1
  assert np.mean(tokens(0.3, 1.0) == 0) > share + 0.2


def test_an_answer_does_not_depend_on_its_batch():
  s = small.session()
  a, b = small.picture(0), small.picture(1)
  ask = lambda pictures, turns, **k: s.ask(
    pictures, turns, temperature=1.0, top_p=0.9, **k
  )
  (alone,) = ask([[a]], [["what?", "why?"]])
  many = ask(
    [[a], [], [b], [b], [a]],
    [
      ["what?", "why?"],
      ["hello"],
      ["a question longer?"],
      ["both?", "really?"],
      ["what?", "why?"],
    ],
  )
  assert many[0] == alone
  assert [len(x) for x in many] == [2, 1, 1, 2, 2]
  assert many[4] != alone  # another place, another draw
  assert ask([[a]], [["what?", "why?"]], seed=1) != [alone]


def test_the_picture_and_the_earlier_turn_count():
  s = small.session()
  a, b = small.picture(0), small.picture(1)
  (x, y), (z, _), (_, other) = s.ask(
    [[a], [b], [a]],
    [["what?", "and?"], ["what?", "and?"], ["who?", "and?"]],
    max_tokens=16,
  )
  assert x != z and y != other


@pytest.mark.parametrize(
  "arguments, words",
  [
    (dict(turns=[[]]), "no question"),
    (dict(turns=[["a"], ["b"]]), "1 pictures, 2 turns"),
    (dict(turns=[["a", "<image> b"]]), "first question"),
    (dict(turns=[["a"]], max_tokens=0), "max_tokens=0"),
    (dict(turns=[["a"]], temperature=-1.0), "temperature=-1.0"),
    (dict(turns=[["a"]], top_p=0.0), "top_p=0.0"),
    (dict(turns=[["a"]], seed=-1), "seed=-1"),
  ],
)
def test_requests_that_make_no_sense_are_refused(arguments, words):
  with pytest.raises(SampleError, match=words):
    small.session().ask(**dict(pictures=[[small.picture(0)]]) | arguments)
