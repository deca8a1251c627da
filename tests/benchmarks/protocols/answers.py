"""Answers to hand-made items, and judges that follow a script."""

from collections.abc import Sequence
import random

import pytest

from emma_jax.benchmarks.items import Item, Picture
from emma_jax.benchmarks.records import Outcome, Prediction
from emma_jax.benchmarks.suite import Benchmark, Case, Made, Score
from emma_jax.judge.base import Call, Reply

COLOURS = {"A": "red", "B": "green", "C": "blue", "D": "white"}


def picture(name: str = "p") -> Picture:
  return Picture(name, lambda: name.encode())


def item(id: str = "7", **fields) -> Item:
  fields = {"question": "What?", "pictures": (picture(),)} | fields
  return Item(id=id, group=fields.pop("group", id), **fields)


class Judge:
  """Says texts and replies in order, then that there is none; counts."""

  def __init__(self, *replies: str | Reply):
    self.replies = [Reply(text=r) if isinstance(r, str) else r for r in replies]
    self.calls: list[Call] = []

  def __call__(self, call: Call) -> Reply:
    self.calls.append(call)
    return self.replies.pop(0) if self.replies else Reply(status="absent")


def score(
  benchmark: Benchmark,
  impl: str,
  of: Item,
  *texts: str,
  judge: Judge | None = None,
  **fields,
) -> Sequence[Score]:
  """Scores of answers to an item."""
  made = [
    Made(
      prediction=Prediction(
        id=of.id, repeat=n, key="", settings="", prompt="", text=text
      ),
      load=bytes,
    )
    for n, text in enumerate(texts)
  ]
  case = Case(
    set_name=benchmark.name,
    item=of,
    made=made,
    impl=impl,
    judge=judge or Judge(),
    **fields,
  )
  return benchmark.score(case)


def outcome(
  benchmark: Benchmark, impl: str, of: Item, found: Score, repeat: int = 0
) -> Outcome:
  """As a run keeps a score."""
  return Outcome(
    id=of.id,
    repeat=repeat,
    impl=impl,
    score=found.value,
    cluster=of.group,
    categories=benchmark.categories(of),
    parts=found.parts,
    failure=found.failure,
  )


def forbid_luck(monkeypatch: pytest.MonkeyPatch) -> None:
  """Makes any draw at random an error."""

  def drawn(*args, **kwargs):
    raise AssertionError("Something is drawn at random.")

  monkeypatch.setattr(random.Random, "choice", drawn)
  monkeypatch.setattr(random.Random, "random", drawn)
  monkeypatch.setattr(random, "choice", drawn)
  monkeypatch.setattr(random, "randint", drawn)
