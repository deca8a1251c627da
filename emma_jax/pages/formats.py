"""Numbers as people read them: on pages, and the same in tables and charts."""


def score(value: float | None) -> str:
  """A score to three digits; nothing where there is none.

  >>> score(0.5), score(None)
  ('0.500', '')
  """
  return "" if value is None else f"{value:.3f}"


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
