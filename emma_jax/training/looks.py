"""What is looked at while a stage runs: held-out losses, samples, the report.

At multiples of `validate_every` and `sample_every` steps of a stage, and at its
end. What a look finds goes into the log before the checkpoint of its step is
written: a run that is killed in between looks again, and the log of one that
goes on is that of one that was not disturbed.
"""

from collections.abc import Callable, Mapping
import dataclasses
import time
from typing import Any

from jax.sharding import Mesh

from emma_jax.training import goodput, validation
from emma_jax.training.metrics import MetricWriter, Timer
from emma_jax.training.objectives import SummedObjective
from emma_jax.training.run import Run, Stage
from emma_jax.training.state import TrainState


@dataclasses.dataclass(frozen=True, kw_only=True)
class Look:
  """What an observer is shown; all processes call it.

  Args:
    stage: name of the stage.
    step: of the run.
    last: whether the stage ends here.
    samples: whether samples are to be made.
    router_trained: whether the router is a trained one.
    params: whether averaged -> the weights, where they lie on the mesh.
    mesh: of the training.
    writer: of the run.
  """

  stage: str
  step: int
  last: bool
  samples: bool
  router_trained: bool
  params: Callable[[bool], dict]
  mesh: Mesh
  writer: MetricWriter


Observer = Callable[[Look], None]
# Called after each stage, by all processes: (params as they lie on the run's
# mesh, stage name, global step, last, whether the router is a trained one).
# Returns scores by name, for the run's writers; or None.
AfterStage = Callable[[dict, str, int, bool, bool], Mapping[str, float] | None]


class Looks:
  """Those of one stage."""

  def __init__(
    self,
    run: Run,
    stage: Stage,
    mesh: Mesh,
    *,
    first: int,
    writer: MetricWriter,
    timer: Timer,
    ledger: goodput.Ledger,
    midway: AfterStage | None,
    observer: Observer | None,
  ):
    """`first`: steps before the stage's; `midway`: scores weights, also within
    stages; `observer`: draws and writes pages."""
    self._run, self._stage, self._mesh, self._first = run, stage, mesh, first
    self._writer, self._timer, self._ledger = writer, timer, ledger
    self._midway, self._observer = midway, observer
    self._validator = None
    objective, held_out = stage.objective, stage.validation
    if (
      run.validate_every
      and held_out is not None
      and isinstance(objective, SummedObjective)
    ):
      self._validator = validation.Validator(objective, held_out, mesh)

  def due(self, step: int) -> bool:
    """Whether anything is looked at after a step of the stage."""
    return self._validates(step) or self._samples(step) or self._last(step)

  def look(self, step: int, state: TrainState, router_trained: bool) -> None:
    """Looks at the weights after `step`, if it is time; a collective."""
    if not self.due(step):
      return
    with self._timer.excluded():
      if self._validates(step):
        self._writer.doing("measuring held-out records")
        with self._ledger.of("validation"):
          self._validate(step, state)
      if self._observer is not None:
        cause = "samples" if self._samples(step) else "report"
        if cause == "samples":
          self._writer.doing("drawing, editing and answering samples")
        with self._ledger.of(cause):
          self._observe(step, state, router_trained)

  def midway(self, step: int, state: TrainState, router_trained: bool) -> None:
    """Hands the weights out, every so many steps of the run."""
    every, step = self._run.evaluate_every, self._first + step
    if self._midway is None or not every or step % every:
      return
    with self._timer.excluded(), self._ledger.of("evaluation"):
      averaged = self._stage.next_stage_weights == "ema"
      params = state.params(averaged=averaged)
      found = self._midway(
        params, self._stage.name, step, False, router_trained
      )
    self._writer.scores(step, found or {})

  def _last(self, step: int) -> bool:
    return step == self._stage.steps

  def _validates(self, step: int) -> bool:
    if self._validator is None:
      return False
    return self._last(step) or step % self._run.validate_every == 0

  def _samples(self, step: int) -> bool:
    if self._observer is None or not self._run.sample_every:
      return False
    return self._last(step) or step % self._run.sample_every == 0

  def _validate(self, step: int, state: TrainState) -> None:
    start = time.perf_counter()
    assert self._validator is not None  # `_validates` has asked
    found = self._validator.values(state)
    seconds = time.perf_counter() - start
    for note in self._validator.notes():
      self._writer.note(note)
    values: dict[str, Any] = {"stage": self._stage.name, "stage_step": step}
    self._writer.write(
      self._first + step,
      values | found,
      {"validation_seconds": seconds},
      shown=False,
    )
    self._writer.note(
      f"Held out, at step {step} of {self._stage.name}: "
      f"{validation.line(found)} [{seconds:.1f} s]"
    )

  def _observe(
    self, step: int, state: TrainState, router_trained: bool
  ) -> None:
    assert self._observer is not None  # `look` has asked
    self._observer(
      Look(
        stage=self._stage.name,
        step=self._first + step,
        last=self._last(step),
        samples=self._samples(step),
        router_trained=router_trained,
        params=lambda averaged: state.params(averaged=averaged),
        mesh=self._mesh,
        writer=self._writer,
      )
    )
