from concurrent import futures
import dataclasses
import threading
import time

from hypothesis import given, settings
from hypothesis import strategies as st
import pytest

from emma_jax.judge.base import JudgeError, OutOfBudget
from emma_jax.judge.cached import Cached
from emma_jax.judge.ledger import UNKNOWN, Price
from emma_jax.judge.limited import Limited
from tests.judge.common import CALL, USAGE, Counted, judge
from tests.local_server import Script, completion, error, serve

pytestmark = pytest.mark.smoke
PRICE = Price(2.0, 30.0)
COST = (100 * 2.0 + 10 * 30.0) / 1e6  # of `USAGE`


def limited(inner, most=(200, 10), **limits) -> Limited:
  return Limited(
    inner, most_tokens=lambda call: most, **{"price": PRICE} | limits
  )


def until_it_ends(one, threads: int, calls: int = 400) -> int:
  """How many of these calls got a reply before the budget ended."""

  def ask(n: int) -> bool:
    try:
      one.ask(dataclasses.replace(CALL, attempt=n))
    except OutOfBudget:
      return False
    return True

  with futures.ThreadPoolExecutor(threads) as pool:
    return sum(pool.map(ask, range(calls)))


@pytest.mark.parametrize("threads", [1, 8])
def test_no_more_calls_than_the_limit(threads):
  inner = Counted()
  one = limited(inner, max_calls=37)
  assert until_it_ends(one, threads) == len(inner.asked) == one.calls == 37
  with pytest.raises(OutOfBudget, match="max_calls=37.*raise max_calls"):
    one.ask(CALL)


@pytest.mark.parametrize("threads", [1, 8])
def test_no_more_money_than_the_limit(threads):
  """And as many calls as with one thread: who is in flight is waited for."""

  class Slow(Counted):
    def ask(self, call):
      time.sleep(0.002)
      return super().ask(call)

  most = (200 * 2.0 + 10 * 30.0) / 1e6
  budget = 30 * COST
  inner = Slow()
  one = limited(inner, max_usd=budget)
  count = until_it_ends(one, threads, 60)
  assert one.usd == pytest.approx(count * COST) and one.usd <= budget
  assert one.usd + most > budget  # the next might not have fitted
  assert count == len(inner.asked) == one.calls == 29
  with pytest.raises(OutOfBudget, match="max_usd.*spent.*raise max_usd"):
    one.ask(CALL)


@given(
  tokens=st.lists(
    st.tuples(st.integers(0, 200), st.integers(0, 10)), min_size=1, max_size=30
  ),
  budget=st.floats(1e-5, 5e-3),
  threads=st.integers(1, 8),
)
@settings(max_examples=30, deadline=None)
def test_whatever_replies_cost_the_limit_is_not_passed(tokens, budget, threads):
  left, lock, paid = list(tokens), threading.Lock(), []

  class Costs(Counted):
    def ask(self, call):
      with lock:
        read, written = left.pop() if len(left) > 1 else left[0]
        paid.append(PRICE.of(read, written, 0))
      usage = {"prompt_tokens": read, "completion_tokens": written}
      return dataclasses.replace(super().ask(call), usage=usage)

  one = limited(Costs(), max_usd=budget)
  until_it_ends(one, threads, 40)
  assert sum(paid) == pytest.approx(one.usd)
  assert one.usd <= budget


def test_guesses_follow_what_a_server_counts():
  """A model for which pictures are ten times as many tokens as for others."""

  class Slow(Counted):
    def ask(self, call):
      time.sleep(0.005)  # until all threads want to ask
      return super().ask(call)

  inner = Slow(usage={"prompt_tokens": 2000, "completion_tokens": 10})
  each = PRICE.of(2000, 10, 0)
  budget = 2.5 * each
  one = limited(inner, max_usd=budget)
  assert until_it_ends(one, 8) == 2
  assert one.usd == pytest.approx(2 * each) and one.usd <= budget


@pytest.mark.parametrize(
  "reply, cost",
  [
    ({}, COST),
    ({"usage": {}}, (200 * 2.0 + 10 * 30.0) / 1e6),  # as guessed
    ({"status": "unreachable", "usage": {}}, 0.0),
    ({"status": "unreachable"}, COST),  # it was nothing, and is paid for
    ({"status": "refused", "usage": {}}, 0.0),
    ({"status": "refused"}, COST),
  ],
)
def test_what_a_call_costs(reply, cost):
  one = limited(Counted(**reply), max_usd=1.0)
  one.ask(CALL)
  assert one.usd == pytest.approx(cost)


def test_replies_that_are_kept_cost_nothing(tmp_path):
  inner = Counted()
  one = Cached(limited(inner, max_calls=2), str(tmp_path))
  calls = [dataclasses.replace(CALL, attempt=n) for n in range(3)]
  for call in [*calls[:2]] * 5:
    assert one.ask(call).status == "ok"
  with pytest.raises(OutOfBudget):
    one.ask(calls[2])
  assert one.ask(calls[0]).status == "ok" and len(inner.asked) == 2
  assert one.identity() == inner.identity()


def test_a_call_that_ends_the_run_holds_no_money():
  class Fails(Counted):
    def ask(self, call):
      raise JudgeError("no key")

  one = limited(Fails(), max_usd=2 * COST)
  for _ in range(5):
    with pytest.raises(JudgeError, match="no key"):
      one.ask(CALL)
  assert one.usd == 0.0


@pytest.mark.parametrize(
  "limits, words",
  [
    ({"max_usd": 1.0, "price": UNKNOWN}, "needs a price"),
    ({"max_usd": 1.0, "price": Price(input=1.0)}, "needs a price"),
    ({"max_usd": -1.0}, "max_usd=-1.0"),
    ({"max_usd": float("nan")}, "max_usd=nan"),
    ({"max_calls": -1}, "max_calls=-1"),
  ],
)
def test_wrong_limits(limits, words):
  with pytest.raises(ValueError, match=words):
    limited(Counted(), **limits)


def test_a_server_of_ones_own_is_free():
  one = limited(Counted(usage={}), max_usd=1e-9, price=Price(0.0, 0.0))
  assert until_it_ends(one, 4, 20) == 20 and one.usd == 0.0


def test_with_a_server():
  choice = {"message": {"content": "Yes"}}
  script = Script(error(429), completion(choice, USAGE))
  with serve(script) as url:
    inner = judge(url)
    one = Limited(
      inner, max_usd=20 * COST, price=PRICE, most_tokens=inner.most_tokens
    )
    count = until_it_ends(one, 8, 60)
  assert 15 < count <= 20 and one.usd <= 20 * COST
  assert len(script.asked) == count + 1
