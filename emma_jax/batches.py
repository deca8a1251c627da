"""One recipe on every machine: how a stage's batch is spread over devices.

A stage's batch in samples is the recipe's (configs/stages.py), the same on
every machine. A machine that has no room for it takes it in micro-batches,
whose gradients sum to the batch's but for rounding. One with more devices than
the batch has rows takes one row a device: then the batch is larger than the
recipe's, and

  the learning rate   is the recipe's times the square root of the ratio, the
                      rule for Adam (Malladi et al. 2022, arXiv 2205.10287);
                      its b1, b2 and eps stay the paper's
  warm-up             takes the recipe's number of samples
  the average         forgets half in the recipe's number of samples: its decay
                      to the power of the ratio (Busbridge et al. 2023, arXiv
                      2307.13813)
  the stage           ends after the recipe's number of samples
"""

import math

# A batch as close as that to the recipe's counts as the recipe's: the rate
# would change by 5%, and what a row holds is known no better.
TOLERANCE = 0.1


def fit(rows: float, shards: int, most: int) -> tuple[int, int]:
  """(rows of a batch, micro-batches) for a batch of about `rows` rows.

  The fewest micro-batches, as full as devices have room for, that come within
  TOLERANCE of it; where none do, the closest.

  Args:
    rows: what the recipe's samples fill; no integer.
    shards: devices that have rows of their own.
    most: rows of a micro-batch that a device has room for, at least one.

  >>> fit(256, shards=64, most=2), fit(171, shards=16, most=8)
  ((256, 2), (160, 2))
  >>> fit(256, shards=512, most=3)
  (512, 1)
  """
  wanted = rows / shards
  found = []
  for parts in range(max(1, round(wanted / most)), math.ceil(wanted) + 1):
    each = min(max(1, round(wanted / parts)), most)
    off = abs(each * parts / wanted - 1)
    found.append((max(off, TOLERANCE), parts, each * parts * shards))
  _, parts, total = min(found)
  return total, parts


def is_close(ratio: float) -> bool:
  """Whether a batch so many times the recipe's counts as the recipe's."""
  return abs(ratio - 1) <= TOLERANCE + 1e-9


def rate_factor(ratio: float) -> float:
  """On the learning rate, of a batch `ratio` times the recipe's."""
  return 1.0 if is_close(ratio) else ratio**0.5


def decay(samples: float, half_life: float) -> float:
  """The average's, of a step of `samples`; it forgets half in `half_life`.

  >>> decay(1000, half_life=1000)
  0.5
  """
  return 0.5 ** (samples / half_life)


def half_life_steps(decay: float) -> float:
  """Steps in which an average of this decay forgets half; 0: it keeps nothing.

  >>> half_life_steps(0.5), round(half_life_steps(0.995))
  (1.0, 138)
  """
  return math.log(0.5) / math.log(decay) if 0 < decay < 1 else 0.0
