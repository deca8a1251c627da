"""The training loop: stages in order, each resumed exactly where it stopped.

The same call again continues by itself: the newest sound checkpoint says which
stage and step it holds, and the data stream is a function of the step.
"""

import contextlib
import pathlib
import sys

import jax

from emma_jax import distributed, sharding, terminal
from emma_jax.checkpoints import checkpointer as ckpt
from emma_jax.checkpoints import saving
from emma_jax.training import (
  folder,
  goodput,
  header,
  latents,
  looks,
  run_file,
  spikes,
  starting,
)
from emma_jax.training import metrics as metrics_lib
from emma_jax.training.display import Display
from emma_jax.training.run import FREE_KEYS, Run, Stage
from emma_jax.training.session import Session
from emma_jax.training.signals import Interrupted, StopRequest
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
    Stopped: SIGINT, SIGTERM or SIGHUP came; everything is saved.
    TooManyBadRecords: more than data.max_bad_share of the records are broken.
    InUse: another run is at work in `workdir`.
    StorageError: the disk lacks space for checkpoints, or saves failed.
    Vanished: the run has saved checkpoints, but none is there.
  """
  mesh = sharding.make_mesh(run.mesh)
  first = jax.process_index() == 0
  with folder.claimed(workdir) as check, contextlib.ExitStack() as stack:
    if first:
      stack.enter_context(terminal.live())
    distributed.check_shared(workdir)
    folder.check_history(run, workdir)
    checkpoints = stack.enter_context(
      ckpt.Checkpointer(
        workdir / "checkpoints", run.keep, run.keep_every, run.goes_back_to()
      )
    )
    folder.check_space(run, checkpoints, mesh)
    stop = stack.enter_context(StopRequest(_answer if first else None))
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
      record=record or run_file.RunFile(workdir, first),
      display=Display([(s.name, s.steps) for s in run.stages], first),
    )
    return _train_all(session)


def _train_all(session: Session) -> dict | None:
  """All that is left, going back where a loss jumped; see `train`."""
  run, rewind = session.run, None
  while True:
    try:
      return _train(session, rewind)
    except spikes.Rewind as back:
      rewind = spikes.Rewind(back.stage, back.step, back.left_out)
      session.checkpoints.set_aside_after(
        run.first_step(back.stage) + back.step
      )
    except Interrupted:
      raise Stopped(
        f"Stopped by {session.stop.reason}; there was nothing new to save. The "
        "same command continues."
      ) from None


def _answer(name: str, count: int) -> None:
  """What a signal is answered, at once: of a thread, see `StopRequest`."""
  if count == 1:
    text = (
      f"{name}: stopping; what was trained is saved first. "
      "Ctrl-C again: unsaved."
    )
  elif count == 2:
    text = "Leaving without saving. Ctrl-C once more ends the process at once."
  else:
    text = "Ended."
  print(text, file=sys.stderr, flush=True)


def _train(session: Session, rewind: spikes.Rewind | None) -> dict | None:
  """What is left of a run, by its newest checkpoint, after a `rewind` as after
  a restart; returns the final parameters."""
  run, mesh, stop = session.run, session.mesh, session.stop
  # Of several processes none leaves alone.
  alone = jax.process_count() == 1
  display = session.display
  display.doing("opening the newest checkpoint")
  with stop.at_once(alone):
    index, state, meta = starting.resume(run, session.checkpoints, mesh)
  starting.check_weights(run.stages[index + 1 :], session.workdir)
  first = sum(s.steps for s in run.stages[:index])
  own = int(state.step) if state is not None else 0
  params: dict | None = None
  routed = meta.get("router_trained", False)
  with metrics_lib.MetricWriter(
    session.workdir, display, jax.process_index() == 0, run.writers, run.config
  ) as writer:
    writer.truncate_after(first + own)
    sizes = [
      (s.name, s.steps, s.layout.rows * s.layout.slots) for s in run.stages
    ]
    session.record.begin(run.name, sizes, first + own, run.log_every)
    resumed = f"stage {meta['stage']}, step {own}" if meta else ""
    for note in (
      *header.lines(run, session.workdir, mesh, first + own, resumed),
      *run.notes,
    ):
      writer.note(note)
    saver = saving.Saver(
      session.checkpoints, session.workdir, run.max_failed_saves, writer.note
    )
    for i in range(index, len(run.stages)):
      stage = run.stages[i]
      if state is None:
        display.doing(f"making or loading the weights of {stage.name}")
        with stop.at_once(alone):
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
        last = i + 1 == len(run.stages)
        _evaluate(session, writer, params, stage.name, first, last, routed)
      state, meta = None, {}
  return params


def _evaluate(
  session: Session,
  writer: metrics_lib.MetricWriter,
  params: dict,
  stage: str,
  step: int,
  last: bool,
  routed: bool,
) -> None:
  """After a stage, which is saved; its scores go to the run's writers."""
  assert session.after_stage is not None  # the caller has asked
  session.record.doing(f"evaluating {stage}")
  session.display.doing(f"evaluating {stage}")
  with session.ledger.of("evaluation"):
    with session.stop.at_once(jax.process_count() == 1):
      scores = session.after_stage(params, stage, step, last, routed)
    writer.scores(step, scores or {})
