"""Numbers as people read them: on pages, and the same in tables and charts."""

from collections.abc import Sequence

# Of fewer a share is written as what was counted; from so many its third digit
# is more than noise.
_COUNTED, _THREE_DIGITS = 10, 1000


def score(value: float | None, n: int | None = None) -> str:
  """A score in as many digits as it has; nothing where there is none.

  >>> score(0.5), score(0.5, 128), score(0.5, 5000), score(None)
  ('0.500', '0.50', '0.500', '')

  n: of how many samples; None: not known.
  """
  if value is None:
    return ""
  return f"{value:.{2 if n is not None and n < _THREE_DIGITS else 3}f}"


def counted(value: float | None, n: int) -> str:
  """A share of n: a score, or what was counted where that is very few.

  >>> counted(1.0, 1), counted(0.5, 4), counted(0.5, 128)
  ('1 of 1', '2 of 4', '0.50')
  """
  if value is None or n >= _COUNTED:
    return score(value, n)
  return f"{round(value * n)} of {n}"


def interval(ends: Sequence[float] | None, n: int | None = None) -> str:
  """An interval of a score, in its digits; nothing where there is none.

  >>> interval([0.2065, 1.0], 1), interval([0.95, 0.96], 2000), interval(None)
  ('0.21–1.00', '0.950–0.960', '')
  """
  if ends is None:
    return ""
  return "–".join(score(end, n) for end in ends)


def share(value: float) -> str:
  """A part of a whole in percent, to one place.

  >>> share(1 / 3), share(1)
  ('33.3%', '100.0%')
  """
  return f"{100 * value:.1f}%"


def percent(value: float) -> str:
  """A share as a chart names it, in no more digits than it has, at most four.

  >>> percent(0.5), percent(1 / 3)
  ('50%', '33.33%')
  """
  return f"{100 * value:.4g}%"


def thousands(value: int) -> str:
  """A count.

  >>> thousands(12345)
  '12,345'
  """
  return f"{value:,}"


def short(value: float) -> str:
  """A number for an axis.

  >>> [short(v) for v in (0, 0.05, 1.5, 20, 12000, 3e6)]
  ['0', '0.05', '1.5', '20', '12k', '3M']
  >>> short(999_999)
  '1M'
  """
  value = float(f"{value:.4g}")  # what is rounded up may need another letter
  for size, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
    if abs(value) >= size:
      return f"{value / (1e3 if letter == 'k' else size):.4g}{letter}"
  return f"{value:.4g}"
