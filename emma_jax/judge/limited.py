"""Budgets: a run ends before it passes what its user will ask or pay."""

from collections.abc import Callable, Mapping
import math
import threading
from typing import Any

from emma_jax.judge import base
from emma_jax.judge.base import Call, Judge, OutOfBudget, Reply
from emma_jax.judge.ledger import UNKNOWN, Price, money


class Limited:
  """A judge with a budget, to be put below what keeps replies.

  A call is let through if its cost at the most fits beside what is spent and
  what calls in flight may cost; else it waits for these, and ends the run where
  there are none. Tokens in are guessed, so the first call goes alone, and
  guesses grow with the largest share by which the server counted more. A reply
  whose usage the server does not tell costs what was guessed; none costs
  nothing. What a server bills for a try that broke off is not seen.

  Args:
    judge: that is asked.
    max_calls: 0: without a limit. Retries of a call are not counted.
    max_usd: 0: without a limit.
    price: of a million tokens.
    most_tokens: of a call: (tokens in, tokens out) at the most.

  Raises:
    ValueError: a limit below 0, or one of money without a price.
  """

  def __init__(
    self,
    judge: Judge,
    *,
    max_calls: int = 0,
    max_usd: float = 0.0,
    price: Price = UNKNOWN,
    most_tokens: Callable[[Call], tuple[int, int]],
  ):
    for name, value in (("max_calls", max_calls), ("max_usd", max_usd)):
      if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{name}={value!r}: a limit, or 0 for none.")
    if max_usd and price.of(1, 1, 0) is None:
      raise ValueError(
        f"{max_usd=} needs a price of a million tokens, input and output; "
        f"there is {price}. Of a server of your own both are 0."
      )
    self.judge, self.price = judge, price
    self.max_calls, self.max_usd = max_calls, max_usd
    self._most_tokens = most_tokens
    self._changed = threading.Condition()
    self._flying: dict[object, float] = {}  # cost of each at the most
    self._calls, self._usd = 0, 0.0
    self._measured, self._scale = False, 1.0

  @property
  def calls(self) -> int:
    """Calls that were let through."""
    return self._calls

  @property
  def usd(self) -> float:
    """Cost of the replies so far; 0 without a price."""
    return self._usd

  def identity(self) -> Mapping[str, Any]:
    """The judge's: a budget decides no reply."""
    return self.judge.identity()

  def close(self) -> None:
    """Of the judge."""
    base.close(self.judge)

  def ask(self, call: Call) -> Reply:
    """The judge's reply.

    Raises:
      OutOfBudget: it might pass a limit; nothing was asked.
    """
    guess = self._most_tokens(call)
    flight = object()
    most = self._reserve(flight, guess)
    reply = None
    try:
      reply = self.judge.ask(call)
    finally:
      self._settle(flight, reply, guess[0], most)
    return reply

  def _reserve(self, flight: object, guess: tuple[int, int]) -> float:
    """Cost at the most, once it fits."""
    with self._changed:
      while True:
        if self.max_calls and self._calls >= self.max_calls:
          raise OutOfBudget(
            f"max_calls={self.max_calls} are asked. What is done is kept: "
            "raise max_calls and give the same command again."
          )
        most = self.price.of(guess[0] * self._scale, guess[1], 0) or 0.0
        taken = self._usd + sum(self._flying.values())
        fits = not self.max_usd or taken + most <= self.max_usd
        if fits and (not self.max_usd or self._measured or not self._flying):
          self._calls += 1
          self._flying[flight] = most
          return most
        if not self._flying:
          raise OutOfBudget(
            f"max_usd={self.max_usd} might be passed: {money(self._usd)} are "
            f"spent, and the next call may cost {money(most)}. What is done is "
            "kept: raise max_usd and give the same command again."
          )
        self._changed.wait()

  def _settle(
    self, flight: object, reply: Reply | None, guessed: int, most: float
  ) -> None:
    usage = reply.usage if reply else {}
    read = usage.get("prompt_tokens")
    written = usage.get("completion_tokens")
    cost = self.price.of(read, written, 0)
    if cost is None:
      cost = most if reply and reply.status == "ok" else 0.0
    with self._changed:
      del self._flying[flight]
      self._usd += cost
      self._measured = True
      if read and guessed:
        self._scale = max(self._scale, read / guessed)
      self._changed.notify_all()
