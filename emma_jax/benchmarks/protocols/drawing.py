"""What benchmarks of drawing have in common."""

from typing import Any

from emma_jax.benchmarks.items import BadItem, Item
from emma_jax.benchmarks.suite import Request


def plain(item: Item) -> Request:
  """The prompt as the set has it."""
  return Request(text=item.question)


def stripped(item: Item) -> Request:
  """The prompt without white space around it."""
  return Request(text=item.question.strip())


def needed(item: Item, name: str) -> Any:
  """What a scorer needs of an item's `meta`.

  Raises:
    BadItem: it is not there, as it may be in a file of one's own.
  """
  if name not in item.meta:
    raise BadItem(
      f"The item {item.id!r} has no {name!r} in its meta, which its benchmark "
      "scores by; give the set as its repository has it, or add that."
    )
  return item.meta[name]
