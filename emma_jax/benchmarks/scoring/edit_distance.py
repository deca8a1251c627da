"""The distance between texts that several benchmarks count by."""

from collections.abc import Sequence
from typing import Any


def distance(one: Sequence[Any], other: Sequence[Any]) -> int:
  """Levenshtein: the fewest insertions, deletions and substitutions.

  Of code points for texts, of elements for other sequences.

  >>> distance("kitten", "sitting"), distance("", "abc")
  (3, 3)
  """
  short, long = sorted((one, other), key=len)
  row = list(range(len(short) + 1))  # from the empty text to each prefix
  for count, element in enumerate(long, 1):
    diagonal, row[0] = row[0], count
    for i, candidate in enumerate(short, 1):
      kept = diagonal if element == candidate else diagonal + 1
      diagonal, row[i] = row[i], min(kept, row[i] + 1, row[i - 1] + 1)
  return row[-1]
