"""What a construction will ask of servers, and cost.

Estimates are upper bounds of calls, and guesses of tokens: of a picture as many
as its 32x32 pixels, of a text a quarter of its letters, of a reply what is
usual for its kind. Bills are exact: of the ledger (judge/ledger.py).
"""

from collections.abc import Iterable, Sequence
import dataclasses
from typing import Any

from emma_jax.data.ingest import containers, part
from emma_jax.judge.ledger import money


@dataclasses.dataclass(frozen=True, kw_only=True)
class Estimate:
  """Of all calls of one kind; `cost` is None where no price is given."""

  name: str
  model: str
  calls: int
  input_tokens: int
  output_tokens: int
  pictures: int
  cost: float | None


def rows_of(
  inputs: Sequence[str], options: Any, rows: int, unknown: int | None = None
) -> int | None:
  """Rows of all inputs, as far as they tell before they are read.

  None where one does not (a tar), and nobody has said so (`unknown`: of them
  all). Raises OSError, ValueError or ImportError where one cannot be opened.
  """
  counts = [
    piece.rows
    for name in inputs
    for piece in containers.split(name, rows, options)
  ]
  if None in counts:
    return unknown
  return sum(count for count in counts if count is not None)


def estimates(maker: part.Converter, records: int) -> list[Estimate]:
  """Of everything that a construction asks about so many records."""
  asks = getattr(maker, "asks", None)
  return [
    estimate(one.remote, records * one.calls, one.pictures)
    for one in (asks() if asks else ())
  ]


def estimate(remote: Any, calls: int, shown: int) -> Estimate:
  """Of so many calls of a back end that is shown so many pictures in each."""
  read, written, made = remote.tokens(shown)
  each = remote.price.of(read, written, made)
  return Estimate(
    name=remote.name,
    model=remote.model,
    calls=calls,
    input_tokens=round(calls * read),
    output_tokens=round(calls * written),
    pictures=calls * made,
    cost=None if each is None else calls * each,
  )


def estimate_lines(found: Iterable[Estimate]) -> list[str]:
  """A line for each, as people read it."""
  return [
    f"{one.name}: at most {one.calls:,} calls of {one.model}, about "
    f"{one.input_tokens:,} tokens in, {one.output_tokens:,} out"
    + (f", {one.pictures:,} pictures" if one.pictures else "")
    + f", cost {money(one.cost)}"
    for one in found
  ]
