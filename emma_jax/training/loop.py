"""The training loop: stages in order, each resumed exactly where it stopped.

The same call again continues by itself: the newest sound checkpoint says which
stage and step it holds, and the data stream is a function of the step.
"""

import contextlib
import pathlib

import jax

from emma_jax import distributed, sharding
from emma_jax.checkpoints import checkpointer as ckpt
from emma_jax.checkpoints import saving
from emma_jax.training import (
  folder,
  goodput,
  latents,
  looks,
  run_file,
  spikes,
  starting,
)
from emma_jax.training import metrics as metrics_lib
from emma_jax.training.run import FREE_KEYS, Run, Stage
from emma_jax.training.session import Session
from emma_jax.training.signals import StopRequest
from emma_jax.training.stage_loop import StageLoop, Stopped

__all__ = ("FREE_KEYS", "Run", "Stage", "Stopped", "train")


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
      loop = StageLoop(session, writer, saver, stage, first, routed, meta)
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
            params, stage.name, first, i + 1 == len(run.stages), routed
          )
      state, meta = None, {}
  return params
