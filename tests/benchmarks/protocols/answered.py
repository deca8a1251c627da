"""Items that were answered, and what their benchmark makes of it."""

from collections.abc import Callable
from typing import Any

from emma_jax.benchmarks import suite
from emma_jax.benchmarks.items import Item, Picture
from emma_jax.benchmarks.records import Prediction
from emma_jax.judge.base import Call, Reply

PICTURES = (Picture("row 1", lambda: b"1"), Picture("row 2", lambda: b"2"))


def item(*answers: str, question: str = "How many?", **meta: Any) -> Item:
  return Item(
    id="7",
    group="7",
    question=question,
    pictures=PICTURES,
    answers=answers,
    meta=meta,
  )


def nobody(call: Call) -> Reply:
  raise AssertionError(f"{call.id}: no judge is to be asked.")


def case(
  name: str,
  impl: str,
  of: Item,
  *texts: str,
  judge: Callable[[Call], Reply] = nobody,
  quirks: bool = False,
) -> suite.Case:
  made = [
    suite.Made(
      prediction=Prediction(
        id=of.id, repeat=n, key="k", settings="", prompt="p", text=text
      ),
      load=lambda: b"",
    )
    for n, text in enumerate(texts)
  ]
  return suite.Case(
    set_name=name, item=of, made=made, impl=impl, judge=judge, quirks=quirks
  )


def values(name: str, impl: str, of: Item, *texts: str, **more) -> list[float]:
  """Scores of the texts, one a repeat."""
  scores = suite.find(name).score(case(name, impl, of, *texts, **more))
  assert len(scores) == len(texts) and not any(s.failure for s in scores)
  return [score.value for score in scores]


def value(name: str, impl: str, of: Item, text: str, **more) -> float:
  (found,) = values(name, impl, of, text, **more)
  return found
