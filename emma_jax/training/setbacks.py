"""What a run does about steps that fail and losses that jump."""

from collections.abc import Callable, Mapping
import dataclasses
import math
from typing import Any

import jax

from emma_jax.structs import Mean
from emma_jax.training import finite, spikes

STOP, SKIP = "stop", "skip"
COUNT, REWIND = "count", "rewind"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setbacks:
  """The policies; keys of config.train.

  on_nonfinite: of a step whose loss or gradient is not finite. Its update is
    never applied; "stop" ends the run, "skip" leaves its batch out and goes on.
  max_skipped_steps: in a row; after one more the run ends.
  on_spike: of a loss that jumps. "count" counts and shows it; "rewind" goes
    back to the last save before it, and leaves out the batches since then.
  spike_window: losses that one is compared with.
  spike_threshold: deviations above their median that make a spike.
  max_rewinds: of a stage; later spikes are counted.
  """

  on_nonfinite: str
  max_skipped_steps: int
  on_spike: str
  spike_window: int
  spike_threshold: float
  max_rewinds: int

  def __post_init__(self):
    for name, known in (
      ("on_nonfinite", (STOP, SKIP)),
      ("on_spike", (COUNT, REWIND)),
    ):
      if getattr(self, name) not in known:
        raise ValueError(
          f"{name}={getattr(self, name)!r}: choose {' or '.join(known)}."
        )
    for name, least in (
      ("max_skipped_steps", 1),
      ("spike_window", 8),
      ("max_rewinds", 0),
    ):
      if getattr(self, name) < least:
        raise ValueError(f"{name}={getattr(self, name)} is below {least}.")
    if not 1 <= self.spike_threshold < math.inf:
      raise ValueError(
        f"spike_threshold={self.spike_threshold} is not a number of "
        "deviations from 1 on."
      )

  @property
  def most_refused(self) -> int:
    """Steps in a row that may be refused while the run goes on."""
    return self.max_skipped_steps if self.on_nonfinite == SKIP else 0


class Refused(Exception):
  """A step failed that ends the run."""

  def __init__(self, step: int):
    super().__init__(step)
    self.step = step  # of the stage


class Watch:
  """Looks at each step's metrics a step late, as `Exchange` does at counts.

  All processes see the same numbers, so they decide alike.
  """

  def __init__(
    self,
    setbacks: Setbacks,
    stage: str,
    every: int,
    phases: frozenset[int],
    tell: Callable[[str], None],
  ):
    """Of a stage from its first step on.

    Args:
      setbacks: the policies.
      stage: its name.
      every: steps between saves.
      phases: batches with which other data begin, see `spikes.phase_starts`.
      tell: shows a line.
    """
    self.setbacks, self.stage, self.every = setbacks, stage, every
    self.phases, self.tell = phases, tell
    self.window = spikes.Window(setbacks.spike_window, setbacks.spike_threshold)
    self.skipped, self.spikes, self.in_a_row = 0, 0, 0
    self.left_out: spikes.LeftOut = ()
    self._pending: tuple[int, Mapping[str, Mean]] | None = None

  def add(self, step: int, measured: Mapping[str, Mean]) -> dict[str, Mean]:
    """Takes a step's metrics; gives those of the step before, on the host.

    Nothing is given of a step that was not applied: it is no part of a mean.

    Raises:
      Refused: the step before was not applied, and that ends the run.
      spikes.Rewind: its loss is a spike, and the run goes back.
    """
    before, self._pending = self._pending, (step, measured)
    return self._take(before)

  def finish(self) -> dict[str, Mean]:
    """Those of the last step, {} where they were given already; as `add`."""
    before, self._pending = self._pending, None
    return self._take(before)

  def values(self) -> dict[str, int]:
    """What was counted in this stage, for the log."""
    return {
      "skipped_steps": self.skipped,
      "loss_spikes": self.spikes + len(self.left_out),
    }

  def state(self) -> dict[str, Any]:
    """As JSON, for a checkpoint."""
    return {
      "refused": self.in_a_row,
      "skipped": self.skipped,
      "spikes": self.spikes,
      "losses": self.window.state(),
      "left_out": [list(x) for x in self.left_out],
    }

  def restore(self, state: Mapping[str, Any]) -> None:
    """Undoes `state`; {} of a checkpoint from before there was one."""
    self.in_a_row = state.get("refused", 0)
    self.skipped = state.get("skipped", 0)
    self.spikes = state.get("spikes", 0)
    self.window.restore(state.get("losses", ()))
    self.left_out = tuple((a, n) for a, n in state.get("left_out", ()))

  def _take(
    self, pending: tuple[int, Mapping[str, Mean]] | None
  ) -> dict[str, Mean]:
    if pending is None:
      return {}
    step, on_device = pending
    measured = dict(jax.device_get(on_device))
    self.in_a_row = int(measured.pop(finite.REFUSED).total)
    if self.in_a_row > self.setbacks.most_refused:
      raise Refused(step)
    if self.in_a_row:
      self.skipped += 1
      self.tell(
        f"Step {step} of {self.stage} is left out: its loss or gradient is not "
        f"finite ({finite.listed(finite.bad_means(measured))}); "
        f"{self.in_a_row} in a row, train.max_skipped_steps="
        f"{self.setbacks.max_skipped_steps}, {self.skipped} in all."
      )
      return {}
    if not math.isfinite(measured["norm/update"].total):
      raise Refused(step)
    self._look(step, float(measured["loss/total"].total))
    return measured

  def _look(self, step: int, loss: float) -> None:
    """Whether a loss is a spike, and what follows from it."""
    if spikes.position(step, self.left_out) in self.phases:
      self.window.clear()
    score = self.window.score(loss)
    if score is None or score <= self.setbacks.spike_threshold:
      return
    said = (
      f"Step {step} of {self.stage}: the loss jumps to {loss:.4g}, "
      f"{score:.1f} deviations above the last {self.setbacks.spike_window}"
    )
    goal = spikes.target(step, self.every)
    if self.setbacks.on_spike == COUNT:
      why = "counted"
    elif not goal:
      why = "there is no save of this stage to go back to, so it is counted"
    elif len(self.left_out) >= self.setbacks.max_rewinds:
      why = f"train.max_rewinds={self.setbacks.max_rewinds} are done: counted"
    else:
      left_out = (*self.left_out, (goal, step - goal))
      self.tell(
        f"{said}. Going back to step {goal}; the {step - goal} batches up to "
        f"the jump are left out (rewind {len(left_out)} of "
        f"{self.setbacks.max_rewinds})."
      )
      raise spikes.Rewind(self.stage, goal, left_out)
    self.spikes += 1
    self.tell(f"{said}; {why}.")
