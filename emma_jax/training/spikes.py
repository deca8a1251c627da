"""Spikes of the loss, and batches that are left out because of one.

A loss is a spike where it lies far above those of the steps before: by its
robust z-score, (loss - median) / (1.4826 * median deviation from the median),
which spikes in the window do not move, as means would be.
"""

from collections import deque
from collections.abc import Callable, Sequence
import statistics
from typing import Any

from emma_jax.data.loading import dataset

# The standard deviation of normal numbers, over their median deviation.
_TO_DEVIATION = 1.4826
# Of the median: losses that hardly differ have no spikes of hundredths.
_LEAST_DEVIATION = 1e-3

# (steps of the stage, batches): so many batches after this step are left out.
LeftOut = tuple[tuple[int, int], ...]


class Rewind(Exception):
  """Ends a stage's loop: it goes on from `step`, without some batches.

  stage, step: of the stage.
  left_out: of all rewinds so far.
  """

  def __init__(self, stage: str, step: int, left_out: LeftOut):
    super().__init__(stage, step, left_out)
    self.stage, self.step, self.left_out = stage, step, left_out


class Window:
  """The losses of the last steps.

  >>> window = Window(4, 8.0)
  >>> [window.score(loss) for loss in (2.0, 3.0, 2.0, 3.0)]
  [None, None, None, None]
  >>> window.score(20.0) > 8.0
  True
  """

  def __init__(self, size: int, threshold: float):
    """`size` losses; above `threshold` deviations a loss is a spike."""
    self.threshold = threshold
    self._losses: deque[float] = deque(maxlen=size)

  def score(self, loss: float) -> float | None:
    """How many deviations it lies above the losses before; takes it in.

    None as long as the window is not full.
    """
    found = None
    if len(self._losses) == self._losses.maxlen:
      middle = statistics.median(self._losses)
      spread = statistics.median(abs(x - middle) for x in self._losses)
      least = max(_LEAST_DEVIATION * abs(middle), 1e-12)
      found = (loss - middle) / max(_TO_DEVIATION * spread, least)
    self._losses.append(loss)
    return found

  def clear(self) -> None:
    """Other data begin, whose losses may be others."""
    self._losses.clear()

  def state(self) -> list[float]:
    """As JSON; exact."""
    return list(self._losses)

  def restore(self, state: Sequence[float]) -> None:
    """Undoes `state`."""
    self._losses.clear()
    self._losses.extend(state)


def position(step: int, left_out: LeftOut) -> int:
  """Number of the batch of a step: both from 1.

  >>> [position(step, ((4, 10),)) for step in (3, 4, 5)]
  [3, 4, 15]
  """
  return step + sum(count for after, count in left_out if step > after)


class Remaining:
  """A stage's batches from a step on, without those that are left out."""

  def __init__(self, source: Any, start: int, left_out: LeftOut):
    """`start`: steps that are done."""
    self._source, self._step, self._left_out = source, start, left_out
    self._open()

  def _open(self) -> None:
    first = position(self._step + 1, self._left_out)
    self._data = dataset.stream(self._source, first - 1)

  def __next__(self) -> dataset.HostBatch:
    """The next step's."""
    batch = next(self._data)
    self._step += 1
    if any(after == self._step for after, _ in self._left_out):
      self._data.close()
      self._open()
    return batch

  def close(self) -> None:
    """Ends the reading ahead."""
    self._data.close()


def phase_starts(phases: Sequence[Any]) -> frozenset[int]:
  """Numbers of the batches, from 1, with which a mixture's phases begin."""
  starts, first = set(), 1
  for phase in phases:
    starts.add(first)
    first += phase.steps if phase.steps is not None else 0
  return frozenset(starts)


def target(step: int, every: int) -> int:
  """The step to go back to from a spike at `step`: the last regular save
  before it, 0 where there is none. By the step's number alone, not by what
  happens to be saved: a run that was stopped on the way ends alike."""
  return (step - 1) // every * every


def regular(ends: Sequence[int], every: int) -> Callable[[int], bool]:
  """Whether a step of the run is a `target`, of stages that end with these.

  >>> [step for step in range(1, 12) if regular((5, 12), 3)(step)]
  [3, 8, 11]
  """

  def of(step: int) -> bool:
    first = max((end for end in ends if end < step), default=0)
    return not (step - first) % every

  return of
