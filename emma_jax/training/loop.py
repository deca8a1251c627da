"""The training loop: stages in order, each resumed exactly where it stopped.

The same call again continues by itself: the newest sound checkpoint says which
stage and step it holds, and the data stream is a function of the step.
"""

from collections.abc import Callable
import dataclasses
import pathlib

import jax
from jax.sharding import Mesh

from emma_jax import distributed, sharding
from emma_jax import optimizer as optim
from emma_jax.checkpoints import checkpointer as ckpt
from emma_jax.checkpoints import saving
from emma_jax.data.loading import batch_stats, dataset, labels
from emma_jax.structs import Mean
from emma_jax.training import folder, goodput, latents, router, starting
from emma_jax.training import metrics as metrics_lib
from emma_jax.training import state as state_lib
from emma_jax.training.objectives import RouterObjective
from emma_jax.training.run import FREE_KEYS, Run, Stage
from emma_jax.training.signals import StopRequest
from emma_jax.training.step import abstract_step, task_norms

__all__ = ("FREE_KEYS", "Run", "Stage", "Stopped", "train")


class Stopped(Exception):
  """The run was asked to stop, and has saved."""


# Called after each stage: (params, stage name, global step, last, whether the
# router is a trained one) -> None.
AfterStage = Callable[[dict, str, int, bool, bool], None]


def train(
  run: Run,
  workdir: pathlib.Path,
  after_stage: AfterStage | None = None,
  ledger: goodput.Ledger | None = None,
  profile: goodput.Profile | None = None,
  midway: AfterStage | None = None,
) -> dict | None:
  """Trains what is left of a run; returns the final parameters.

  None where the run has no stages.

  Args:
    run: what to train.
    workdir: the same folder on all hosts.
    after_stage: called after every stage.
    ledger: books the time; one that began with the process knows its start.
    profile: steps to trace.
    midway: called within stages too, every `run.evaluate_every` steps.

  Raises:
    ContradictionError: the checkpoint was made by another config.
    Stopped: SIGINT or SIGTERM came; everything is saved.
    TooManyBadRecords: more than data.max_bad_share of the records are broken.
    InUse: another run is at work in `workdir`.
    StorageError: the disk lacks space for checkpoints, or saves failed.
    Vanished: the run has saved checkpoints, but none is there.
  """
  with folder.claimed(workdir) as check:
    return _train(run, workdir, after_stage, ledger, profile, midway, check)


def _train(
  run: Run,
  workdir: pathlib.Path,
  after_stage: AfterStage | None,
  ledger: goodput.Ledger | None,
  profile: goodput.Profile | None,
  midway: AfterStage | None,
  check: Callable[[], None],
) -> dict | None:
  """`train` in a folder that is this run's; `check` tells whether it still
  is."""
  distributed.check_shared(workdir)
  folder.check_history(run, workdir)
  ledger = ledger or goodput.Ledger()
  mesh = sharding.make_mesh(run.mesh)
  total = sum(s.steps for s in run.stages)
  with (
    ckpt.Checkpointer(
      workdir / "checkpoints", run.keep, run.keep_every
    ) as checkpoints,
    StopRequest() as stop,
  ):
    folder.check_space(run, checkpoints, mesh)
    index, state, meta = starting.resume(run, checkpoints, mesh)
    first = sum(s.steps for s in run.stages[:index])
    done = first + (int(state.step) if state is not None else 0)
    params: dict | None = None
    routed = meta.get("router_trained", False)
    display = metrics_lib.Display(total, run.name)
    with metrics_lib.MetricWriter(
      workdir, display, jax.process_index() == 0
    ) as writer:
      writer.truncate_after(done)
      for note in run.notes:
        writer.note(note)
      saver = saving.Saver(
        checkpoints, workdir, run.max_failed_saves, writer.note
      )
      shared = _Shared(
        run, mesh, saver, check, writer, stop, ledger, profile, midway
      )
      for i in range(index, len(run.stages)):
        stage = run.stages[i]
        if state is None:
          state, routed = starting.begin(run, stage, params, routed, mesh)
          params = None  # not held beside the state
        latents.check(
          stage.source.latents if stage.source else {}, state.params()
        )
        with ledger.of(goodput.STEPS):
          state = _StageLoop(shared, stage, first, routed, meta).run(state)
        routed |= stage.trains_router
        params = state.params(averaged=stage.next_stage_weights == "ema")
        first += stage.steps
        if after_stage is not None:
          with ledger.of("evaluation"):
            after_stage(
              distributed.whole(params),
              stage.name,
              first,
              i + 1 == len(run.stages),
              routed,
            )
        state, meta = None, {}
  return params


@dataclasses.dataclass(frozen=True)
class _Shared:
  """What the stages of a run have in common."""

  run: Run
  mesh: Mesh
  saver: saving.Saver
  check: Callable[[], None]  # raises where the folder is not ours any more
  writer: metrics_lib.MetricWriter
  stop: StopRequest
  ledger: goodput.Ledger
  profile: goodput.Profile | None
  midway: AfterStage | None


class _StageLoop:
  """Runs one stage from the state's step to its end."""

  def __init__(
    self, shared: _Shared, stage: Stage, first: int, routed: bool, meta: dict
  ):
    """`first`: steps before the stage's; `routed`: whether it starts with a
    trained router; `meta`: of a checkpoint in it."""
    if stage.source is None:
      raise ValueError(f"Stage {stage.name} was built without its data.")
    self.r, self.stage, self.first = shared.run, stage, first
    self.routed = routed
    self.source = stage.source
    self.mesh, self.saver, self.check = shared.mesh, shared.saver, shared.check
    self.writer, self.stop = shared.writer, shared.stop
    self.ledger, self.profile = shared.ledger, shared.profile
    self.midway = shared.midway
    self.exchange, self.asked = distributed.Exchange(), False
    self.shapes: set[tuple] = set()  # of batches that have been seen
    data = self.source.config
    self.bad_samples = dataset.BadSampleLimit(
      data.max_bad_share, data.min_samples
    )
    self.realised = batch_stats.ObservedMixture()
    self.labels = None
    if stage.trains_router:
      self.labels = labels.LabelBalance(stage.name, data.min_samples)
    self.means = metrics_lib.Accumulator()
    self.timer = metrics_lib.Timer()
    if meta:  # what lay between the last log and the checkpoint
      self.bad_samples.restore(meta["fuse"])
      self.realised.restore(meta.get("realised", {}))
      if self.labels and "labels" in meta:
        self.labels.restore(meta["labels"])
      self.means.restore(meta["means"])

  def run(self, state: state_lib.TrainState) -> state_lib.TrainState:
    stage, start = self.stage, int(state.step)
    if start >= stage.steps:
      return state
    step_fn, _, _ = abstract_step(self.r, stage, self.mesh)
    norms_fn = task_norms(self.r, stage, self.mesh)
    data = dataset.stream(stage.source, start)
    self.writer.note(f"Stage {stage.name}: {stage.steps} steps.")
    try:
      for step in range(start + 1, stage.steps + 1):
        with self.timer.waiting(), self.ledger.of("data"):
          host = next(data)
        batch = sharding.place_rows(host.batch, self.mesh)
        shares = self._gradient_shares(step, norms_fn, state, batch)
        state, measured = self._step(step, step_fn, state, batch)
        self._count(measured | shares, host.info)
        last = step == stage.steps
        if step % self.r.log_every == 0 or last:
          self._log(step, self._measured(state) if last else {})
        asked = self.asked
        due = step % self.r.save_every == 0 or self.saver.due
        if due or last or asked:
          with self.timer.excluded(), self.ledger.of("checkpoint"):
            self._save(step, state, wait=last or asked)
        if asked and not last:
          raise Stopped(
            f"Stopped by {self.stop.reason or 'another process'} at step "
            f"{step} of {stage.name}; saved. The same command continues."
          )
        if not last:
          self._evaluate(self.first + step, state)
    finally:
      data.close()
      if self.profile:
        self.profile.close()
    return state

  def _evaluate(self, step: int, state: state_lib.TrainState) -> None:
    """Hands the weights out, every so many steps of the run."""
    every = self.r.evaluate_every
    if self.midway is None or not every or step % every:
      return
    with self.timer.excluded(), self.ledger.of("evaluation"):
      averaged = self.stage.next_stage_weights == "ema"
      params = distributed.whole(state.params(averaged=averaged))
      self.midway(params, self.stage.name, step, False, self.routed)

  def _step(self, step: int, step_fn, state, batch):
    """One step; the first of every shape is compiled before it starts."""
    if self.profile:
      self.profile.before(self.first + step)
    shape = tuple(x.shape for x in jax.tree.leaves(batch))
    new = shape not in self.shapes
    if new and self.source.config.framing.buckets:
      y, x = batch.gen_pixels_BMYXC.shape[2:4]
      self.writer.note(f"Stage {self.stage.name}: compiling for {y}x{x}.")
    self.shapes.add(shape)
    with self.ledger.of("compile" if new else goodput.STEPS):
      state, measured = step_fn(state, batch)
    if self.profile:
      self.profile.after(self.first + step, measured)
    return state, measured

  def _gradient_shares(self, step: int, norms_fn, state, batch):
    """Of the gradients of the tasks' losses, at their steps: each one's norm,
    and its share of the sum of all norms. Before the step: it takes the state.
    """
    every = self.r.gradient_shares_every
    if norms_fn is None or not every or step % every:
      return {}
    with self.timer.excluded(), self.ledger.of("gradient shares"):
      norms = jax.device_get(norms_fn(state, batch))
    total = sum(norms.values())
    return {
      f"norm/gradient_{task}": Mean(norm, 1.0) for task, norm in norms.items()
    } | {
      f"gradient_share/{task}": Mean(norm, total)
      for task, norm in norms.items()
    }

  def _count(self, measured: dict, info: dataset.BatchStats) -> None:
    """Counts a step. Its device values are fetched one step later, so that
    the device has the next step to do meanwhile."""
    for where, reason in info.unusable:
      self.writer.note(f"Left out {where}: {reason}", everywhere=True)
    self.bad_samples.see(info.unusable)
    counts = info.counts() | {"stop": self.stop.requested}
    counts |= self.saver.counts()
    if self.labels:
      counts |= info.label_counts()
    sums = self.exchange.add(counts)
    self.means.add(measured | self._account(sums))
    self.timer.step()

  def _account(self, sums: dict[str, int] | None) -> dict[str, Mean]:
    """Takes in the sums over all processes, the same in each of them."""
    if sums is None:
      return {}
    self.asked |= sums["stop"] > 0
    self.saver.take(sums)
    self.timer.count(sums["tokens"])
    self.bad_samples.add(sums["drawn"], sums["unusable"])
    self.realised.add(sums)
    if self.labels:
      self.labels.add(sums)
    return batch_stats.means(sums)

  def _settle(self) -> None:
    """Takes in what the processes told each other last, before it counts."""
    self.means.add(self._account(self.exchange.finish()))

  def _measured(self, state: state_lib.TrainState) -> dict[str, float]:
    """At a router's end: its labels were of both classes; how right it is."""
    self._settle()
    if not self.labels:
      return {}
    self.labels.check()
    pictures, objective = self.stage.held_out, self.stage.objective
    if pictures is None or not isinstance(objective, RouterObjective):
      self.writer.note(
        "The router is measured on no held-out pictures: "
        "evaluate.router.samples is 0."
      )
      return {}
    params = state.params(averaged=self.stage.next_stage_weights == "ema")
    with self.timer.excluded(), self.ledger.of("evaluation"):
      found = router.measure(objective, pictures, params, self.mesh)
    for line in found.lines():
      self.writer.note(line)
    return found.values()

  def _log(self, step: int, more: dict[str, float]) -> None:
    self._settle()
    self.check()
    rate = optim.schedule(self.stage.optimizer)(step - 1)
    values: dict[str, float | int | str] = {
      "stage": self.stage.name,
      "stage_step": step,
      "learning_rate": float(rate),
      **self.means.flush(),
      **self.realised.shares(),
      **(self.labels.shares() if self.labels else {}),
      **more,
    }
    timing = self.timer.flush() | {
      f"share/{cause}": x for cause, x in self.ledger.shares().items()
    }
    peak = goodput.peak_memory()
    if peak is not None:
      timing["peak_memory_bytes"] = peak
    self.writer.write(self.first + step, values, timing)

  def _save(self, step: int, state: state_lib.TrainState, wait: bool) -> None:
    self._settle()
    self.check()
    done = self.stage.trains_router and step == self.stage.steps
    beside = {"labels": self.labels.state()} if self.labels else {}
    self.saver.save(
      self.first + step,
      state,
      wait=wait,
      first=self.writer.flush,
      meta={
        "stage": self.stage.name,
        "stage_step": step,
        "data_position": step,  # the stream's whole state
        "fuse": self.bad_samples.state(),
        "realised": self.realised.state(),
        "means": self.means.state(),
        "router_trained": self.routed or done,
        "config": self.r.config,
        "fingerprints": dict(self.r.fingerprints),
        **beside,
      },
    )
