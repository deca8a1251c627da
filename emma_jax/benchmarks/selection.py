"""Which items of a set are run, by which process, and with what noise."""

from collections.abc import Sequence
import dataclasses
import hashlib
import zlib


@dataclasses.dataclass(frozen=True)
class Shard:
  """One process of `count`: it makes what `has` says."""

  index: int = 0
  count: int = 1

  def __post_init__(self):
    if not 0 <= self.index < self.count:
      raise ValueError(
        f"Shard {self.index}/{self.count}: the first number counts from 0 and "
        "must be below the second."
      )

  def has(self, item: str) -> bool:
    """Whether an item's id is this process's; every id is exactly one's."""
    return rank(item) % self.count == self.index


def limited(groups: Sequence[str], limit: int) -> list[int]:
  """Places of the items that a limit leaves: whole groups, at random.

  The same groups whatever their order; of two limits the smaller one's are
  among the larger one's. At least one group, and then no more than `limit`
  items unless the first alone has more.

  >>> limited(["a", "b", "a", "c"], 3)
  [1, 3]

  Args:
    groups: of every item.
    limit: items; 0: all.
  """
  if not limit:
    return list(range(len(groups)))
  members: dict[str, list[int]] = {}
  for place, group in enumerate(groups):
    members.setdefault(group, []).append(place)
  chosen: list[int] = []
  for group in sorted(members, key=lambda g: (rank(g), g)):
    if chosen and len(chosen) + len(members[group]) > limit:
      break
    chosen += members[group]
  return sorted(chosen)


def rank(text: str) -> int:
  """A place among texts that depends on this one alone: a fixed shuffle."""
  return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def stream(name: str) -> int:
  """Of the noise of what has this name: a number that `Session` takes."""
  return zlib.crc32(name.encode()) & 0x7FFFFFFF
