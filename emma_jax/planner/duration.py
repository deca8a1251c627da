"""How long a stage takes on a machine, and how many chip-hours that is.

Seconds a step are the plan's estimate: what the compiler's cycles or a roofline
say of the compiled program, kernels, and communication that nothing hides. Data
that is late, checkpoints and looks come on top, and no chip keeps its peak: a
run tells after some steps. An MFU that was measured can stand for the estimate.
"""

from collections.abc import Sequence
import dataclasses
from typing import Any

from emma_jax.planner.plan import Plan

MINUTE, HOUR, DAY = 60, 3600, 86400


@dataclasses.dataclass(frozen=True, kw_only=True)
class Duration:
  """Of one stage.

  steps: of the stage.
  step_seconds: of a step, on average over the shapes of its rows.
  chips: of the machine.
  mfu: of that step.
  method: where the seconds come from.
  """

  stage: str
  steps: int
  step_seconds: float
  chips: int
  mfu: float
  method: str

  @property
  def seconds(self) -> float:
    """Of the whole stage."""
    return self.steps * self.step_seconds

  @property
  def chip_hours(self) -> float:
    """Of all chips together."""
    return self.chips * self.seconds / HOUR

  def __str__(self):
    return (
      f"{self.steps:,} steps x {_three(self.step_seconds)} s = "
      f"{spoken(self.seconds)}, {_three(self.chip_hours)} chip-hours"
    )

  def as_json(self) -> dict[str, Any]:
    """All numbers by name."""
    return dataclasses.asdict(self) | {
      "seconds": self.seconds,
      "chip_hours": self.chip_hours,
    }


def of(
  plans: Sequence[Plan], chips: int, mfu: float | None = None
) -> Duration | None:
  """Of the plans of one stage, each for the share of its steps.

  Args:
    plans: of `row_shapes.train`.
    chips: of the machine; a chip may be two devices.
    mfu: model FLOPs over the chips' peak that a run has shown; None: the
      estimate's own.

  Returns:
    None where a plan does not fit, or is of no train step.
  """
  first = plans[0]
  if not first.recipe or not all(p.step_seconds_estimate for p in plans):
    return None
  total = sum(p.share for p in plans)
  mean = sum(p.share * p.step_seconds_estimate for p in plans) / total
  # Useful seconds at the peak over seconds.
  useful = sum(
    p.share * p.step_seconds_estimate * p.mfu_estimate for p in plans
  )
  own = useful / total / mean
  if mfu:
    method = f"an MFU of {mfu:.2f}, as was asked for"
  else:
    method = (
      f"{first.method} + kernels + communication that nothing hides: an MFU of "
      f"{own:.2f}"
    )
  return Duration(
    stage=first.recipe.stage,
    steps=first.recipe.steps,
    step_seconds=mean * own / mfu if mfu else mean,
    chips=chips,
    mfu=mfu or own,
    method=method,
  )


def spoken(seconds: float) -> str:
  """As people say it.

  >>> spoken(0.0123), spoken(42), spoken(5400), spoken(40_000), spoken(6e5)
  ('0.0123 s', '42 s', '90 min', '11.1 hours', '6.94 days')
  """
  for unit, least, name in (
    (DAY, 3 * DAY, "days"),
    (HOUR, 2 * HOUR, "hours"),
    (MINUTE, 2 * MINUTE, "min"),
  ):
    if seconds >= least:
      return f"{_three(seconds / unit)} {name}"
  return f"{_three(seconds)} s"


def _three(n: float) -> str:
  """To three digits, and what is larger to three that count.

  >>> _three(2.4912), _three(43_212.7), _three(90.0), _three(0.0123)
  ('2.49', '43,200', '90', '0.0123')
  """
  if n >= 1000:
    digits = len(str(int(n))) - 3
    return f"{round(n / 10**digits) * 10**digits:,}"
  return f"{n:.3g}"
