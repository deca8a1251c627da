"""Machines by the names that configs give them: v5e-256, 8xh100, 2xv6e-256."""

import math
import re
from typing import NamedTuple

from emma_jax.planner import chips

# Google counts two cores of these a chip: v5p-128 has 64 chips.
_TWO_CORES = ("v4", "v5p")


class Machine(NamedTuple):
  """What `chips.topology` takes."""

  topology: str
  slices: int


def of_config(name: str) -> Machine | None:
  """The machine after the colon of a config's name; None where there is none.

  >>> of_config("configs/emma_4b.py:stage1,v5e-256")
  Machine(topology='v5e:16x16', slices=1)
  >>> of_config("emma_4b:2xv6e:16x16")
  Machine(topology='v6e:16x16', slices=2)
  >>> of_config("tiny:token_fusion") is None
  True
  """
  for word in name.partition(":")[2].split(","):
    found = parse(word)
    if found is not None:
      return found
  return None


def parse(word: str) -> Machine | None:
  """Of one name; None where it is no machine's.

  >>> [parse(x).topology for x in ("v5p-128", "8xh100", "h100", "v5e:4x4")]
  ['v5p:4x4x4', 'h100:8', 'h100:1', 'v5e:4x4']
  """
  found = re.fullmatch(r"(?:(\d+)x)?(\w+?)(?:-(\d+)|:(\d+(?:x\d+)*))?", word)
  if not found or found[2] not in chips.CHIPS:
    return None
  chip, count = chips.CHIPS[found[2]], int(found[1] or 1)
  if found[4]:
    return Machine(f"{chip.name}:{found[4]}", count)
  if chip.platform == "cuda":
    return Machine(f"{chip.name}:{int(found[3] or 1) * count}", 1)
  if not found[3]:
    return None
  number = int(found[3]) // (2 if chip.name in _TWO_CORES else 1)
  sides = _sides(number, chip.axes)
  if sides is None:
    return None
  return Machine(f"{chip.name}:{'x'.join(map(str, sides))}", count)


def _sides(number: int, axes: int) -> tuple[int, ...] | None:
  """Powers of two, rising and as even as they can be; None for other numbers.

  >>> _sides(256, 2), _sides(64, 3), _sides(32, 2)
  ((16, 16), (4, 4, 4), (4, 8))
  """
  if number < 1 or number & (number - 1):
    return None
  out, left = [], int(math.log2(number))
  for n in range(axes, 0, -1):
    out.append(2 ** (left // n))
    left -= left // n
  return tuple(out)
