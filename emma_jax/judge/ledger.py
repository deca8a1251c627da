"""What replies cost: prices, and the ledger of what was asked.

The ledger, calls.jsonl, has a line per reply that a server sent and per try
that failed:

  {"name": "caption", "model": "m", "key": "ab12", "input_tokens": 812,
   "output_tokens": 96, "pictures": 0, "cost": 0.0007}
  {"name": "caption", "model": "m", "failed": "429"}

A reply is kept first (replies.py) and then noted, with the ledger's id (its
first line) and the run's: the next run of the same data set notes what a
process that died in between did not, so nothing is paid twice and nothing is
missing on the bill. cost is null where no price was given, tokens are null
where the server told no usage.
"""

from collections.abc import Iterable, Iterator, Mapping
import dataclasses
import functools
import json
import os
from typing import Any, NamedTuple
import uuid

LEDGER = "calls.jsonl"


class Price(NamedTuple):
  """Of a million tokens in and out, or of a picture, in one currency.

  None: not known, so neither is what such a call costs. Who sells pictures by
  the piece has a price of a picture; others sell their tokens.
  """

  input: float | None = None
  output: float | None = None
  picture: float | None = None

  def of(
    self, input_tokens: float | None, output_tokens: float | None, pictures: int
  ) -> float | None:
    """The cost of a call; None where a price or a number is missing.

    >>> Price(1.0, 2.0).of(500_000, 250_000, 0)
    1.0
    >>> Price(picture=0.25).of(None, None, 2)
    0.5
    >>> Price().of(10, 10, 1) is None
    True
    """
    if pictures and self.picture is not None:
      return pictures * self.picture
    if self.input is None or self.output is None:
      return None
    if not self.input and not self.output:
      return 0.0
    if input_tokens is None or output_tokens is None:
      return None
    return (input_tokens * self.input + output_tokens * self.output) / 1e6


UNKNOWN = Price()


def note(ledger: str, **words: Any) -> None:
  """Adds a line, on the disk when this returns; nothing without a ledger."""
  if not ledger:
    return
  # In one write, so that lines of several processes do not mix; after a break,
  # so that one which a power cut tore spoils no other.
  line = f"\n{json.dumps(words)}\n".encode()
  file = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
  try:
    os.write(file, line)
    os.fsync(file)
  finally:
    os.close(file)


def open_ledger(ledger: str) -> str:
  """The id of a ledger, which is begun if it is not there."""
  if not os.path.exists(ledger):
    note(ledger, bill=uuid.uuid4().hex)
  found = [line["bill"] for line in _lines(ledger) if "bill" in line]
  return found[0] if found else ""


@functools.lru_cache(maxsize=16)
def noted(ledger: str, run: str) -> set[str]:
  """Keys in a ledger, as it was when this run began to look at it."""
  del run
  return {line["key"] for line in _lines(ledger) if "key" in line}


@dataclasses.dataclass
class Spent:
  """What a ledger says of one kind of call. `failed`: tries by reason."""

  model: str
  calls: int = 0
  input_tokens: int = 0
  output_tokens: int = 0
  pictures: int = 0
  cost: float = 0.0
  without_usage: int = 0  # calls whose tokens the server did not tell
  without_price: int = 0  # calls whose cost is not in `cost`
  failed: dict[str, int] = dataclasses.field(default_factory=dict)

  def add(self, line: Mapping[str, Any]) -> None:
    """One line of the ledger more."""
    if "failed" in line:
      reason = str(line["failed"])
      self.failed[reason] = self.failed.get(reason, 0) + 1
      return
    self.calls += 1
    self.pictures += line["pictures"]
    if line["input_tokens"] is None:
      self.without_usage += 1
    self.input_tokens += line["input_tokens"] or 0
    self.output_tokens += line["output_tokens"] or 0
    if line["cost"] is None:
      self.without_price += 1
    self.cost += line["cost"] or 0.0


def spent(ledger: str) -> dict[str, Spent]:
  """Name of a call -> what it cost so far; empty without a ledger."""
  out: dict[str, Spent] = {}
  for line in _lines(ledger):
    if "bill" in line:
      continue
    name = str(line["name"])
    out.setdefault(name, Spent(str(line["model"]))).add(line)
  return out


def spent_lines(found: Mapping[str, Spent]) -> list[str]:
  """A line for each kind of call, with what is not known of it."""
  lines = []
  for name, one in sorted(found.items()):
    line = (
      f"{name}: {one.calls:,} calls of {one.model}, {one.input_tokens:,} "
      f"tokens in, {one.output_tokens:,} out"
      + (f", {one.pictures:,} pictures" if one.pictures else "")
      + f", cost {money(cost_of(one))}"
    )
    if one.without_usage:
      line += f" ({one.without_usage:,} calls without usage)"
    if one.failed:
      tries = ", ".join(f"{n} x {why}" for why, n in sorted(one.failed.items()))
      line += f"; failed tries: {tries}"
    lines.append(line)
  return lines


def cost_of(spent: Spent) -> float | None:
  """The cost; None where that of some call is not known."""
  return None if spent.without_price else spent.cost


def total(costs: Iterable[float | None]) -> float | None:
  """The sum; None where one is not known.

  >>> total([0.5, 1.0]), total([0.5, None])
  (1.5, None)
  """
  known = list(costs)
  return None if None in known else sum(c for c in known if c is not None)


def money(cost: float | None) -> str:
  """A cost in the currency of the prices.

  >>> money(12.3456), money(0.00012), money(None)
  ('12.35', '0.00012', 'not known (no price)')
  """
  if cost is None:
    return "not known (no price)"
  return f"{cost:.2f}" if cost >= 1 or not cost else f"{cost:.2g}"


def _lines(ledger: str) -> Iterator[Mapping[str, Any]]:
  if not os.path.exists(ledger):
    return
  with open(ledger, encoding="utf-8", errors="replace") as file:
    for text in filter(str.strip, file):
      try:
        yield json.loads(text)
      except ValueError:  # torn by a loss of power
        yield {"name": "?", "model": "?", "failed": "a torn line"}
