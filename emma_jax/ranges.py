"""Ranges of numbers that people give: NaN and infinity are in none.

`value < 0` lets NaN pass, as every comparison with it is false. So what is
asked here is whether a number lies inside, never whether it lies outside.
"""

import argparse
import dataclasses
import math
from typing import Any


@dataclasses.dataclass(frozen=True)
class Range:
  """Numbers from `low` to `high`, both among them; `above`: `low` is not.

  >>> 1 in Range(0, 1), 2 in Range(0, 1), float("nan") in Range(0, 1)
  (True, False, False)
  >>> str(Range(0, 1)), str(Range(0, 1, above=True))
  ('a number from 0 to 1', 'a number above 0, at most 1')
  >>> str(Range(0)), str(Range())
  ('a number from 0 on', 'a finite number')
  """

  low: float = -math.inf
  high: float = math.inf
  above: bool = False

  def __contains__(self, value: Any) -> bool:
    # Whole numbers may be too large for a float, which `isfinite` needs.
    finite = isinstance(value, int) or math.isfinite(value)
    inside = self.low < value if self.above else self.low <= value
    return finite and inside and value <= self.high

  def __str__(self):
    if math.isinf(self.low):
      return "a finite number"
    if self.above:
      most = "" if math.isinf(self.high) else f", at most {self.high:g}"
      return f"a number above {self.low:g}{most}"
    most = "on" if math.isinf(self.high) else f"to {self.high:g}"
    return f"a number from {self.low:g} {most}"

  def check(self, name: str, value: Any) -> None:
    """Raises ValueError, with the name, where a number is not in the range."""
    if value not in self:
      raise ValueError(f"{name}={value} is not {self}.")

  def number(self, text: str) -> float:
    """The number that a flag's text says; the `type` of an argument."""
    try:
      value = float(text)
    except ValueError as error:
      raise argparse.ArgumentTypeError(f"{text!r} is no number") from error
    if value not in self:
      raise argparse.ArgumentTypeError(f"{text} is not {self}")
    return value


SHARE = Range(0, 1)
FINITE = Range()
POSITIVE = Range(0, above=True)
NOT_NEGATIVE = Range(0)
SECONDS = Range(0, 366 * 24 * 3600)  # of waits, a year at most
# As far as guidance may go; published values lie between 1 and 20.
GUIDANCE = Range(0, 1000)
# Of times along the flow; published values lie between 0.1 and 12.
SHIFT = Range(1e-3, 1e3)
# Characters of a prompt or instruction; published ones have a few thousand.
MOST_CHARACTERS = 20_000
TEMPERATURE = Range(0, 100)
TOP_P = Range(0, 1, above=True)
