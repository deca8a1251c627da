"""What packing placed where, and what it had to leave out."""

from collections.abc import Sequence
import dataclasses


@dataclasses.dataclass(frozen=True)
class Dropped:
  """A sample that was not placed; `never`: no empty row could hold it."""

  index: int
  id: str
  reason: str
  never: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class PackInfo:
  """What went where. Indices are those of the samples given to `pack`."""

  placed: tuple[tuple[int, ...], ...]  # per row, in reading order
  dropped: tuple[Dropped, ...]
  samples_per_task: dict[str, int]
  tokens_per_task: dict[str, int]  # of both buffers
  und_tokens: int  # used, over all rows
  gen_tokens: int
  fill: float  # used share of all slots

  def shifted(self, start: int) -> "PackInfo":
    """The same, for samples that are a list's from `start` on."""
    move = lambda d: dataclasses.replace(d, index=d.index + start)
    return dataclasses.replace(
      self,
      placed=tuple(tuple(i + start for i in row) for row in self.placed),
      dropped=tuple(map(move, self.dropped)),
    )


def joined(parts: Sequence[PackInfo], slots: int) -> PackInfo:
  """What lies in several stretches of rows; `slots` of each row."""

  def total(name: str) -> dict[str, int]:
    out: dict[str, int] = {}
    for part in parts:
      for task, count in getattr(part, name).items():
        out[task] = out.get(task, 0) + count
    return out

  placed = tuple(row for part in parts for row in part.placed)
  und = sum(part.und_tokens for part in parts)
  gen = sum(part.gen_tokens for part in parts)
  return PackInfo(
    placed=placed,
    dropped=tuple(d for part in parts for d in part.dropped),
    samples_per_task=total("samples_per_task"),
    tokens_per_task=total("tokens_per_task"),
    und_tokens=und,
    gen_tokens=gen,
    fill=(und + gen) / max(len(placed) * slots, 1),
  )
