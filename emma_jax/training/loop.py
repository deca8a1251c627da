"""The training loop: stages in order, each resumed exactly where it stopped.

The same call again continues by itself: the newest sound checkpoint says which
stage and step it holds, and the data stream is a function of the step.
"""

import contextlib
import pathlib

import jax

from emma_jax import distributed, sharding
from emma_jax import optimizer as optim
from emma_jax.checkpoints import checkpointer as ckpt
from emma_jax.checkpoints import saving
from emma_jax.data.loading import batch_stats, dataset, labels
from emma_jax.structs import Mean
from emma_jax.training import (
  diagnosis,
  finite,
  folder,
  goodput,
  latents,
  looks,
  router,
  run_file,
  setbacks,
  spikes,
  starting,
)
from emma_jax.training import metrics as metrics_lib
from emma_jax.training import state as state_lib
from emma_jax.training.run import FREE_KEYS, Run, Stage
from emma_jax.training.session import Session
from emma_jax.training.signals import StopRequest
from emma_jax.training.step import abstract_step, gradient_shares, task_norms

__all__ = ("FREE_KEYS", "Run", "Stage", "Stopped", "train")


class Stopped(Exception):
  """The run was asked to stop, and has saved."""


def train(
  run: Run,
  workdir: pathlib.Path,
  after_stage: looks.AfterStage | None = None,
  ledger: goodput.Ledger | None = None,
  profile: goodput.Profile | None = None,
  midway: looks.AfterStage | None = None,
  observer: looks.Observer | None = None,
  record: run_file.RunFile | None = None,
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
    observer: shown the weights at the run's looks, see `looks`.
    record: told how far the run is, for who looks from outside.

  Raises:
    ContradictionError: the checkpoint was made by another config.
    NotFinite: weights, losses or gradients are not.
    Stopped: SIGINT or SIGTERM came; everything is saved.
    TooManyBadRecords: more than data.max_bad_share of the records are broken.
    InUse: another run is at work in `workdir`.
    StorageError: the disk lacks space for checkpoints, or saves failed.
    Vanished: the run has saved checkpoints, but none is there.
  """
  mesh = sharding.make_mesh(run.mesh)
  with folder.claimed(workdir) as check, contextlib.ExitStack() as stack:
    distributed.check_shared(workdir)
    folder.check_history(run, workdir)
    checkpoints = stack.enter_context(
      ckpt.Checkpointer(
        workdir / "checkpoints", run.keep, run.keep_every, run.goes_back_to()
      )
    )
    folder.check_space(run, checkpoints, mesh)
    stop = stack.enter_context(StopRequest())
    session = Session(
      run=run,
      workdir=workdir,
      mesh=mesh,
      check=check,
      checkpoints=checkpoints,
      stop=stop,
      ledger=ledger or goodput.Ledger(),
      profile=profile,
      after_stage=after_stage,
      midway=midway,
      observer=observer,
      record=record or run_file.RunFile(workdir, jax.process_index() == 0),
    )
    rewind: spikes.Rewind | None = None
    while True:
      try:
        return _train(session, rewind)
      except spikes.Rewind as back:
        rewind = spikes.Rewind(back.stage, back.step, back.left_out)
        checkpoints.set_aside_after(run.first_step(back.stage) + back.step)


def _train(session: Session, rewind: spikes.Rewind | None) -> dict | None:
  """What is left of a run, by its newest checkpoint, after a `rewind` as after
  a restart; returns the final parameters."""
  run, mesh = session.run, session.mesh
  index, state, meta = starting.resume(run, session.checkpoints, mesh)
  first = sum(s.steps for s in run.stages[:index])
  done = first + (int(state.step) if state is not None else 0)
  params: dict | None = None
  routed = meta.get("router_trained", False)
  display = metrics_lib.Display(sum(s.steps for s in run.stages), run.name)
  with metrics_lib.MetricWriter(
    session.workdir, display, jax.process_index() == 0, run.writers, run.config
  ) as writer:
    writer.truncate_after(done)
    sizes = [
      (s.name, s.steps, s.layout.rows * s.layout.slots) for s in run.stages
    ]
    session.record.begin(run.name, sizes, done, run.log_every)
    for note in run.notes:
      writer.note(note)
    saver = saving.Saver(
      session.checkpoints, session.workdir, run.max_failed_saves, writer.note
    )
    for i in range(index, len(run.stages)):
      stage = run.stages[i]
      if state is None:
        state, routed = starting.begin(run, stage, params, routed, mesh)
        params = None  # not held beside the state
      latents.check(
        stage.source.latents if stage.source else {}, state.params()
      )
      loop = _StageLoop(session, writer, saver, stage, first, routed, meta)
      if rewind is not None and rewind.stage == stage.name:
        loop.watch.left_out = rewind.left_out
      with session.ledger.of(goodput.STEPS):
        state = loop.run(state)
      routed |= stage.trains_router
      params = state.params(averaged=stage.next_stage_weights == "ema")
      first += stage.steps
      if session.after_stage is not None:
        session.record.doing(f"evaluating {stage.name}")
        with session.ledger.of("evaluation"):
          session.after_stage(
            distributed.whole(params),
            stage.name,
            first,
            i + 1 == len(run.stages),
            routed,
          )
      state, meta = None, {}
  return params


class _StageLoop:
  """Runs one stage from the state's step to its end."""

  def __init__(
    self,
    session: Session,
    writer: metrics_lib.MetricWriter,
    saver: saving.Saver,
    stage: Stage,
    first: int,
    routed: bool,
    meta: dict,
  ):
    """`first`: steps before the stage's; `routed`: whether it starts with a
    trained router; `meta`: of a checkpoint in it."""
    if stage.source is None:
      raise ValueError(f"Stage {stage.name} was built without its data.")
    self.r, self.stage, self.first = session.run, stage, first
    self.routed = routed
    self.source = stage.source
    self.mesh, self.checkpoints = session.mesh, session.checkpoints
    self.saver, self.check = saver, session.check
    self.writer, self.stop = writer, session.stop
    self.ledger, self.profile = session.ledger, session.profile
    self.record = session.record
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
    self.watch = setbacks.Watch(
      self.r.setbacks,
      stage.name,
      self.r.save_every,
      spikes.phase_starts(data.phases),
      writer.note,
    )
    self.means = metrics_lib.Accumulator()
    self.timer = metrics_lib.Timer()
    self.looks = looks.Looks(
      self.r,
      stage,
      self.mesh,
      first=first,
      writer=self.writer,
      timer=self.timer,
      ledger=self.ledger,
      midway=session.midway,
      observer=session.observer,
    )
    # A stop does not wait for a look: it comes first when the run goes on.
    self.look_first = meta.get("look_first", False)
    if meta:  # what lay between the last log and the checkpoint
      self.bad_samples.restore(meta["fuse"])
      self.realised.restore(meta.get("realised", {}))
      if self.labels and "labels" in meta:
        self.labels.restore(meta["labels"])
      self.means.restore(meta["means"])
      self.watch.restore(meta["setbacks"])

  def run(self, state: state_lib.TrainState) -> state_lib.TrainState:
    stage, start = self.stage, int(state.step)
    if self.look_first:
      self.looks.look(start, state, self.routed)
    if start >= stage.steps:
      return state
    step_fn, _, _ = abstract_step(self.r, stage, self.mesh)
    norms_fn = task_norms(self.r, stage, self.mesh)
    data = spikes.Remaining(stage.source, start, self.watch.left_out)
    self.writer.note(f"Stage {stage.name}: {stage.steps} steps.")
    try:
      for step in range(start + 1, stage.steps + 1):
        with self.timer.waiting(), self.ledger.of("data"):
          host = next(data)
        batch = sharding.place_rows(host.batch, self.mesh)
        shares = self._gradient_shares(step, norms_fn, state, batch)
        state, measured = self._step(step, step_fn, state, batch)
        self._count(step, measured | shares, host.info)
        last = step == stage.steps
        if step % self.r.log_every == 0 or last:
          self._log(step, self._measured(state) if last else {})
        asked = self.asked
        self.look_first = asked and not last and self.looks.due(step)
        if not self.look_first:
          self.looks.look(step, state, self.routed)
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
          self.looks.midway(step, state, self.routed)
    except setbacks.Refused as refused:
      raise finite.NotFinite(self._explain(refused.step, state)) from None
    finally:
      data.close()
      if self.profile:
        self.profile.close()
    return state

  def _explain(self, step: int, state: state_lib.TrainState) -> str:
    return diagnosis.explain(
      self.r,
      self.stage,
      self.mesh,
      state,
      step,
      self.watch.left_out,
      self.checkpoints,
    )

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
      return gradient_shares(norms_fn(state, batch))

  def _count(self, step: int, measured: dict, info: dataset.BatchStats) -> None:
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
    self.means.add(self.watch.add(step, measured) | self._account(sums))
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
    """Takes in what the processes told each other last, before it counts, and
    what the last step measured."""
    self.means.add(self.watch.finish() | self._account(self.exchange.finish()))

  def _measured(self, state: state_lib.TrainState) -> dict[str, float]:
    """At a router's end: its labels were of both classes; how right it is."""
    self._settle()
    if not self.labels:
      return {}
    self.labels.check()
    params = state.params(averaged=self.stage.next_stage_weights == "ema")
    with self.timer.excluded(), self.ledger.of("evaluation"):
      found = router.measured(self.stage, params, self.mesh)
    if found is None:
      self.writer.note(
        "The router is measured on no held-out pictures: "
        "evaluate.router.samples is 0."
      )
      return {}
    for line in found.lines():
      self.writer.note(line)
    return found.values()

  def _log(self, step: int, more: dict[str, float]) -> None:
    self._settle()
    self.check()
    updates = step - self.watch.skipped
    rate = optim.schedule(self.stage.optimizer)(updates - 1)
    values: dict[str, float | int | str] = {
      "stage": self.stage.name,
      "stage_step": step,
      "learning_rate": float(rate),
      **self.means.flush(),
      **self.realised.shares(),
      **self.watch.values(),
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
    samples = self.bad_samples.seen, self.bad_samples.bad
    self.record.progress(
      self.first + step, self.stage.name, step, timing, samples
    )

  def _save(self, step: int, state: state_lib.TrainState, wait: bool) -> None:
    self._settle()
    self.check()
    bad = finite.bad_leaves(state.saved(), sharding.whole(self.mesh))
    if bad:
      raise finite.NotFinite(self._explain(step, state))
    done = self.stage.trains_router and step == self.stage.steps
    beside = {"labels": self.labels.state()} if self.labels else {}
    self.saver.save(
      self.first + step,
      state.saved(),
      wait=wait,
      first=self.writer.flush,
      meta={
        "stage": self.stage.name,
        "stage_step": step,
        # The stream's whole state.
        "data_position": spikes.position(step, self.watch.left_out),
        "setbacks": self.watch.state(),
        "fuse": self.bad_samples.state(),
        "realised": self.realised.state(),
        "means": self.means.state(),
        "router_trained": self.routed or done,
        "look_first": self.look_first,
        "config": self.r.config,
        "fingerprints": dict(self.r.fingerprints),
        **beside,
      },
    )
