"""One stage's steps: measured, counted, logged, looked at and saved."""

import jax

from emma_jax import distributed, processes, sharding
from emma_jax import optimizer as optim
from emma_jax.checkpoints import saving
from emma_jax.data.loading import batch_stats, dataset, labels
from emma_jax.exits import NotFinite
from emma_jax.structs import Mean
from emma_jax.training import (
  diagnosis,
  display,
  fill,
  finite,
  goodput,
  header,
  looks,
  router,
  setbacks,
  spikes,
)
from emma_jax.training import metrics as metrics_lib
from emma_jax.training import state as state_lib
from emma_jax.training.objectives import EmmaObjective
from emma_jax.training.run import Stage
from emma_jax.training.session import Session
from emma_jax.training.step import abstract_step, gradient_shares, task_norms

# After so many steps it is said what the stage takes: earlier ones differ.
_MEASURED = 20


class Stopped(Exception):
  """The run was asked to stop, and has saved."""


class StageLoop:
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
    self.record, self.display = session.record, session.display
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
    self.fill_told = False
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
    """The state after the stage's last step.

    Raises:
      NotFinite: a step failed, and `on_nonfinite` does not leave it out.
      Rewind: a loss jumped, and the run is to go back.
      Stopped: the run was asked to stop.
    """
    stage, start = self.stage, int(state.step)
    if self.look_first:
      self.looks.look(start, state, self.routed)
    if start >= stage.steps:
      return state
    step_fn, _, _ = abstract_step(self.r, stage, self.mesh)
    norms_fn = task_norms(self.r, stage, self.mesh)
    data = spikes.Remaining(stage.source, start, self.watch.left_out)
    self.writer.note(header.stage_line(self.r, stage, start))
    self.display.begin(stage.name, start)
    self.display.doing("reading the first batch")
    try:
      for step in range(start + 1, stage.steps + 1):
        with self.timer.waiting(), self.ledger.of("data"):
          host = next(data)
        batch = sharding.place_rows(host.batch, self.mesh)
        shares = self._gradient_shares(step, norms_fn, state, batch)
        state, measured = self._step(step, step_fn, state, batch)
        self._count(step, measured | shares, host.info)
        self._tell(step, step - start)
        last = step == stage.steps
        if step % self.r.log_every == 0 or last:
          self._log(step, self._measured(state) if last else {})
        if last:
          self.display.end()
        asked = self.asked
        self.look_first = asked and not last and self.looks.due(step)
        if not self.look_first:
          self.looks.look(step, state, self.routed)
        due = step % self.r.save_every == 0 or self.saver.due
        if due or last or asked:
          with self.timer.excluded(), self.ledger.of("checkpoint"):
            if last or asked:  # it is waited for
              self.display.doing(f"saving step {self.first + step}")
            self._save(step, state, wait=last or asked)
        if asked and not last:
          raise Stopped(
            f"Stopped by {self.stop.reason or 'another process'} at step "
            f"{step} of {stage.name}; saved. The same command continues."
          )
        if not last:
          self.looks.midway(step, state, self.routed)
    except setbacks.Refused as refused:
      raise NotFinite(self._explain(refused.step, state)) from None
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
    if shape in self.shapes:
      with self.ledger.of(goodput.STEPS):
        state, measured = step_fn(state, batch)
    else:
      self.shapes.add(shape)
      self._tell_compiling(batch)
      # No part of a step's time: rates are of all other steps.
      with self.timer.excluded(), self.ledger.of("compile"):
        state, measured = step_fn(state, batch)
    if self.profile:
      self.profile.after(self.first + step, measured)
    return state, measured

  def _tell_compiling(self, batch) -> None:
    """There is a program for every shape of a batch."""
    buckets = self.source.config.framing.buckets
    count, of = len(self.shapes), max(len(buckets), 1)
    what = f"compiling the step of {self.stage.name}, {count} of {of}"
    if buckets:
      y, x = batch.gen_pixels_BMYXC.shape[2:4]
      self.writer.note(
        f"Stage {self.stage.name}: compiling for {y}x{x}, {count} of {of}."
      )
    self.display.doing(what)

  def _tell(self, step: int, done: int) -> None:
    """How far the stage is after `done` steps here; once, what it takes."""
    seconds, steps = self.timer.so_far()
    each = seconds / steps if steps > 1 else None
    self.display.step(step, each)
    if done == min(_MEASURED, self.stage.steps) and each is not None:
      takes = display.cost(self.stage.steps, each, jax.device_count())
      self.writer.note(f"Stage {self.stage.name}: {takes}.")

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
    means = self.means.flush()
    self._tell_fill(means)
    updates = step - self.watch.skipped
    rate = optim.schedule(self.stage.optimizer)(updates - 1)
    values: dict[str, float | int | str] = {
      "stage": self.stage.name,
      "stage_step": step,
      "learning_rate": float(rate),
      **means,
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
    else:  # CPUs compute in the process's own
      timing["host_memory_bytes"] = processes.peak_memory()
    self.writer.write(self.first + step, values, timing)
    samples = self.bad_samples.seen, self.bad_samples.bad
    self.record.progress(
      self.first + step, self.stage.name, step, timing, samples
    )

  def _tell_fill(self, means: dict[str, float]) -> None:
    """Says once, from the first steps, what rows lose or leave empty."""
    if self.fill_told or not isinstance(self.stage.objective, EmmaObjective):
      return  # an autoencoder or a router computes pictures alone
    self.fill_told = True
    samples = self.source.config.samples_per_batch
    layout = self.stage.layout
    for line in fill.advice(self.stage.name, layout, samples, means):
      self.writer.note(line)

  def _save(self, step: int, state: state_lib.TrainState, wait: bool) -> None:
    self._settle()
    self.check()
    bad = finite.bad_leaves(state.saved(), sharding.whole(self.mesh))
    if bad:
      raise NotFinite(self._explain(step, state))
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
