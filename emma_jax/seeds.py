"""Seeds: one range everywhere, since JAX takes no larger ones without 64 bits.

Every random stream is keyed by a seed and by names or numbers of what it is
for; none by adding to a seed, which would make one seed's streams another's.
"""

import argparse
from collections.abc import Mapping
from typing import Any

LIMIT = 2**31
RANGE = f"0..{LIMIT - 1}"


def checked(seed: Any, name: str = "seed") -> int:
  """The seed, a whole number within the range.

  >>> checked(7)
  7
  >>> checked(-1, "data.seed")
  Traceback (most recent call last):
  ValueError: data.seed=-1 must be a whole number in 0..2147483647.
  """
  # bool is an int in Python, and no seed.
  if isinstance(seed, bool) or not isinstance(seed, int):
    index = getattr(seed, "__index__", None)
    if isinstance(seed, bool) or index is None:
      raise ValueError(f"{name}={seed!r} must be a whole number in {RANGE}.")
    seed = index()
  if not 0 <= seed < LIMIT:
    raise ValueError(f"{name}={seed} must be a whole number in {RANGE}.")
  return seed


def flag(text: str) -> int:
  """The type of `--seed` flags."""
  try:
    return checked(int(text))
  except ValueError:
    raise argparse.ArgumentTypeError(
      f"{text!r} is no seed: give a whole number in {RANGE}"
    ) from None


def check_config(config: Mapping[str, Any], path: str = "") -> None:
  """Every key `seed` of a config, whatever its section.

  Raises:
    ValueError: one that is out of range, by its key.
  """
  for key, value in config.items():
    at = f"{path}.{key}".lstrip(".")
    if hasattr(value, "items"):  # a ConfigDict is no Mapping
      check_config(value, at)
    elif key == "seed" and value is not None:  # None: the default of others
      checked(value, at)
