"""Programs that are always full: a result depends on its own request alone."""

import random

import numpy as np
import pytest

from emma_jax.build import session as build_session
from emma_jax.sampling.session import Session
from tests.sampling import small

SIZES = [(64, 64), (64, 96), (64, 64), (64, 64), (64, 96), (64, 64)]
PICTURES = [small.picture(i, *size) for i, size in enumerate(SIZES)]
# Of two layouts.
PROMPTS = [" ".join(["red"] * n) for n in (1, 3, 40, 2, 4, 40)]
STREAMS = [5, 9, 1, 7, 3, 8]


@pytest.fixture(scope="module", params=["fixed", "native"])
def session(request) -> Session:
  s = small.session()
  native = request.param == "native"
  data = s.config["data"] | {"native": native}
  if native:
    data |= {"min_tokens": 1, "max_tokens": 9}
  config = s.config | {"data": data}
  return build_session.session(config, s.params, "full", 0, batch=4, fill=True)


def request_of(session: Session, task: str, places: list[int]) -> list:
  """Results of some of the requests, as one request, comparable by ==."""
  streams = [STREAMS[i] for i in places]
  prompts = [PROMPTS[i] for i in places]
  if task == "draw":
    made = session.draw(prompts, steps=2, streams=streams)
  elif task == "edit":
    pictures = [PICTURES[i] for i in places]
    made = session.edit(pictures, prompts, steps=2, streams=streams)
  else:
    pictures = [[PICTURES[i]] for i in places]
    return session.ask(
      pictures, [[x] for x in prompts], max_tokens=8, streams=streams
    )
  return [np.asarray(picture).tobytes() for picture in made]


@pytest.mark.parametrize("task", ["draw", "edit", "ask"])
def test_company_and_order_change_no_bit(session, task):
  everyone = list(range(6))
  whole = request_of(session, task, everyone)
  rng = random.Random(1)
  for count in (1, 4):
    places = rng.sample(everyone, count)
    got = request_of(session, task, places)
    assert got == [whole[i] for i in places]


def test_all_rows_are_computed(session, monkeypatch):
  """Also of one request: another number of rows may round otherwise."""
  from emma_jax.sampling import context

  rows = []
  real = context.prefill

  def prefill(emma, params, batch, route):
    rows.append(batch.tokens_BU.shape[0])
    return real(emma, params, batch, route)

  monkeypatch.setattr(context, "prefill", prefill)
  session.draw(["red"], steps=1, guidance=1.0)
  session.draw(["red"] * 5, steps=1, guidance=1.0)
  assert rows == [4, 4, 4]
