"""NaN and infinity are in no range, whatever it is."""

import argparse
import doctest
import math

import pytest

from emma_jax import ranges
from emma_jax.ranges import Range

pytestmark = pytest.mark.smoke
ALL = [x for x in vars(ranges).values() if isinstance(x, Range)]


def test_docstrings():
  assert doctest.testmod(ranges).failed == 0


@pytest.mark.parametrize("allowed", [*ALL, Range(), Range(-1, 1), Range(0, 1)])
def test_numbers_that_are_none_are_in_no_range(allowed: Range):
  for value in (math.nan, math.inf, -math.inf):
    assert value not in allowed
    with pytest.raises(ValueError, match=f"rate={value} is not a"):
      allowed.check("rate", value)
    with pytest.raises(argparse.ArgumentTypeError, match=f"{value} is not a"):
      allowed.number(str(value))


def test_ends_belong_to_a_range_unless_it_lies_above_them():
  assert 0 in Range(0, 1) and 1 in Range(0, 1) and 1.5 not in Range(0, 1)
  assert 0 not in Range(0, 1, above=True) and 1e-300 in ranges.POSITIVE
  assert 10**400 in Range(0) and 10**400 not in Range(0, 1e300)
  assert Range(0, 1).number("0.25") == 0.25
  with pytest.raises(argparse.ArgumentTypeError, match="'much' is no number"):
    ranges.SHARE.number("much")
