"""A result depends on its own request alone; what fails is told and counted."""

import dataclasses
import random

import pytest

from emma_jax.benchmarks.toolkits.asking import Asked, Asker, cut, error_text
from tests.benchmarks import toy

# Of two lengths: two programs of each kind.
ASKED = [
  Asked(
    name=f"t/{n}",
    text=toy.item(n % 2).question,
    pictures=(toy.png(n),),
    max_tokens=6,
    temperature=1.0,
  )
  for n in range(6)
]


def asker(batch: int = 4, **options) -> Asker:
  return Asker(toy.model().session, batch=batch, steps=2, **options)


@pytest.mark.parametrize("kind", ["answers", "pictures"])
def test_a_result_is_the_same_in_any_company(kind):
  """Whatever the batch and the order; at a temperature, noise is the name's."""
  asked = ASKED
  expected = getattr(asker(), kind)(asked)
  assert len({given.text or given.picture for given in expected}) > 2
  order = random.Random(0).sample(range(len(asked)), len(asked))
  for batch in (1, 3):
    again = getattr(asker(batch), kind)([asked[i] for i in order])
    assert again == [expected[i] for i in order]


def test_another_name_or_seed_is_another_noise():
  one = dataclasses.replace(ASKED[1], temperature=2.0)
  (first,) = asker().answers([one])
  others = [
    *asker().answers([dataclasses.replace(one, name="t/x")]),
    *asker(seed=1).answers([one]),
  ]
  assert all(other != first for other in others)


def test_failures_are_counted_and_take_no_other_with_them():
  asked = [
    ASKED[0],
    Asked(name="a", text="red?", pictures=(b"no picture",)),
    Asked(name="b", text="<image> and <image>?", pictures=(toy.png(0),)),
    ASKED[1],
  ]
  one = asker()
  found = one.answers(asked)
  assert [g.failed for g in found] == [False, True, True, False]
  assert all(g.error and not g.text for g in found[1:3])
  assert {g.status for g in found[1:3]} == {"unreadable"}
  assert dict(one.failures) == {"unreadable": 2}
  assert [found[0], found[3]] == asker().answers([ASKED[0], ASKED[1]])


def test_a_stop_ends_an_answer():
  one = dataclasses.replace(ASKED[1], temperature=0.0)
  (plain,) = asker().answers([one])
  end = plain.text[1:2]
  (found,) = asker().answers([dataclasses.replace(one, stop=(end,))])
  assert found.text == cut(plain.text, [end])
  assert len(found.text) < len(plain.text)
  assert found.status == ("ok" if found.text.strip() else "empty")


def test_an_error_is_no_answer_to_any_rule():
  text = error_text("crashed")
  assert text == text.lower() and not any(c.isdigit() for c in text)


def test_a_session_that_does_not_fill_is_refused():
  session = toy.model().session
  runner = dataclasses.replace(session.runner, fill=False)
  with pytest.raises(ValueError, match="loaded with fill"):
    Asker(dataclasses.replace(session, runner=runner))
  with pytest.raises(ValueError, match="batch=0"):
    Asker(session, batch=0)
  with pytest.raises(ValueError, match="checkpoint=NAME"):
    Asker.load("", rows=1)
