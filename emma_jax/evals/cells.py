"""Scores as pages and tables show them: with digits, interval and n."""

from collections.abc import Collection, Sequence
import dataclasses

from emma_jax.evals.outcomes import Scores
from emma_jax.pages import formats

# Whose overall score is a mean of kinds, so no share of n.
_OF_KINDS = ("drawing", "editing")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shown:
  """A score: its texts, "" where it has none, and where it lies.

  low, high: ends of the 95% interval; None where nothing can be said.
  """

  score: str
  interval: str
  n: int
  value: float | None
  low: float | None
  high: float | None

  @property
  def text(self) -> str:
    """Score and interval."""
    return f"{self.score} ({self.interval})" if self.interval else self.score


def shown(
  value: float | None,
  n: int,
  ci95: Sequence[float] | None,
  *,
  share: bool = True,
) -> Shown:
  """A score of n; `share`: so many of n were right."""
  low, high = ci95 or (None, None)
  return Shown(
    score=formats.counted(value, n) if share else formats.score(value, n),
    interval=formats.interval(ci95, n),
    n=n,
    value=value,
    low=low,
    high=high,
  )


def is_mean_of_kinds(name: str, kinds: Collection[str]) -> bool:
  """Whether the overall score of a task or held-out set is one."""
  return len(kinds) > 1 and name.split("_")[0] in _OF_KINDS


def of_entry(name: str, entry: Scores) -> Shown:
  """The overall score of a task or held-out set of that name."""
  mean = is_mean_of_kinds(name, entry.get("kinds", ()))
  return shown(
    entry.get("score"), entry.get("n", 0), entry.get("ci95"), share=not mean
  )


def of_kind(entry: Scores) -> Shown:
  """The score of one kind."""
  return shown(entry.get("score"), entry.get("n", 0), entry.get("ci95"))
