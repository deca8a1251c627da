"""Sessions that need no weights: perfect, stubborn, blind."""

import numpy as np
import pytest

from emma_jax.data.pictures.images import load_picture
from emma_jax.evals import world
from emma_jax.structs import TASKS, Drawing, Understanding

CONFIG = {
  "name": "fake",
  "model": {"kind": "emma"},
  "data": {
    "height": 96,
    "width": 96,
    "sources": {"drawing": "world:drawing:train"},
  },
  "sample": {"max_tokens": 8},
  "evaluate": {
    "samples": 12,
    "stage_samples": 6,
    "held_out_samples": 6,
    "batch": 5,
    "seed": 0,
    "steps": 2,
    "split": "test",
  },
}


def bare(scores: dict) -> dict:
  """Scores without their intervals, which have tests of their own."""
  return {
    k: bare(v) if isinstance(v, dict) else v
    for k, v in scores.items()
    if k not in ("ci95", "ci_method")
  }


def _key(*parts) -> tuple:
  return tuple(
    load_picture(p).tobytes() if isinstance(p, np.ndarray) else p for p in parts
  )


class Perfect:
  """Returns the ground truth of the test split (and of `records`)."""

  def __init__(
    self,
    config=None,
    params=None,
    name="perfect",
    step=7,
    route="versatile",
    records=(),
  ):
    self.config, self.name, self.step = config or CONFIG, name, step
    self.route, self.calls = route, []
    self._known = {}
    world_records = [
      r
      for task in (*TASKS, *world.HELD_OUT)
      for r in world.records(task, "test", 12)
    ]
    for r in (*world_records, *records):
      if isinstance(r, Understanding):
        questions = tuple(q for q, _ in r.turns)
        self._known[_key(*r.pictures, *questions)] = [a for _, a in r.turns]
      elif isinstance(r, Drawing):
        self._known[_key(r.prompt)] = r.picture
      else:
        self._known[_key(*r.sources, r.instruction)] = r.target

  def ask(self, pictures, turns, *, max_tokens, temperature):
    self.calls.append(("ask", len(turns)))
    assert max_tokens == 8 and temperature == 0.0
    return [self._known[_key(*p, *q)] for p, q in zip(pictures, turns)]

  def draw(self, prompts, *, size, steps, seed, streams):
    self.calls.append(("draw", size, steps, seed, list(streams)))
    return [self._known[_key(p)] for p in prompts]

  def edit(self, pictures, instructions, *, steps, seed, streams):
    self.calls.append(("edit", steps, seed, list(streams)))
    return [self._known[_key(*p, i)] for p, i in zip(pictures, instructions)]

  def reconstruct(self, pictures):
    return list(pictures)


class Blind(Perfect):
  """White canvases, untouched sources, always "yes"."""

  def ask(self, pictures, turns, **_):
    return [["yes"] * len(questions) for questions in turns]

  def draw(self, prompts, *, size, **_):
    return [np.full((*size, 3), 255, np.uint8) for _ in prompts]

  def edit(self, pictures, instructions, **_):
    return [first for first, *_ in pictures]

  def reconstruct(self, pictures):
    return [np.full_like(p, 255) for p in pictures]


@pytest.fixture(scope="session")
def perfect() -> Perfect:
  return Perfect()


@pytest.fixture(scope="session")
def blind() -> Blind:
  return Blind(name="blind")


@pytest.fixture
def config() -> dict:
  return {k: dict(v) if isinstance(v, dict) else v for k, v in CONFIG.items()}
