"""The training loop: stages in order, each resumed exactly where it stopped.

The same call again continues by itself: the newest sound checkpoint says which
stage and step it holds, and the data stream is a function of the step.
"""

from collections.abc import Callable, Mapping
import dataclasses
import pathlib
from typing import Any

import jax
import jax.numpy as jnp

from emma_jax import optimizer as optim
from emma_jax import sharding
from emma_jax.data import pipeline
from emma_jax.training import checkpoint as ckpt
from emma_jax.training import metrics as metrics_lib
from emma_jax.training import state as state_lib
from emma_jax.training.objectives import Objective
from emma_jax.training.signals import StopRequest
from emma_jax.training.step import make_step

# Keys that may differ between a checkpoint and the command that continues it:
# they change what is shown and kept, never what is learned.
FREE_KEYS = (r"name", r"train\.(log_every|save_every|keep|keep_every|evaluate)"
             , r"data\.(workers|threads|buffer)", r"sample\..*",
             r"evaluate\..*")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage:
  """One stage of a run, ready to train."""

  name: str
  steps: int
  objective: Objective
  optimizer: optim.OptimizerConfig
  lr_multipliers: tuple
  policy: tuple
  load: tuple
  hand_over: str
  ema_decay: float
  source: pipeline.BatchSource

  def __post_init__(self):
    if self.hand_over not in ("ema", "raw"):
      raise ValueError(f"{self.hand_over=}: choose ema or raw.")

  def begin(self, params: dict) -> state_lib.TrainState:
    return state_lib.begin(params, self.policy, self.transformation())

  def transformation(self):
    return optim.build(self.optimizer, self.lr_multipliers)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
  """All stages, the model's shapes, and where weights come from."""

  name: str
  stages: tuple[Stage, ...]
  shapes: dict  # nested ShapeDtypeStruct
  init: Callable[[], dict]  # random parameters
  read_weights: Callable[[str], dict]  # name -> flat dict
  seed: int
  log_every: int
  save_every: int
  keep: int
  keep_every: int
  config: Mapping[str, Any]  # JSON; kept in every checkpoint
  fingerprints: Mapping[str, str]  # of preprocessing and tokenizer

  def __post_init__(self):
    for name, least in (("log_every", 1), ("save_every", 1), ("keep", 2),
                        ("keep_every", 0)):
      if getattr(self, name) < least:
        raise ValueError(f"{name}={getattr(self, name)} is below {least}.")


class Stopped(Exception):
  """The run was asked to stop, and has saved."""


# Called after each stage: (params, stage name, global step, last) -> None.
AfterStage = Callable[[dict, str, int, bool], None]


def train(
    run: Run, workdir: pathlib.Path, after_stage: AfterStage | None = None
) -> dict:
  """Trains what is left of a run; returns the final parameters.

  Raises:
    ContradictionError: the checkpoint was made by another config.
    Stopped: SIGINT or SIGTERM came; everything is saved.
    TooManyBadRecords: the share of broken records is above the fuse.
  """
  workdir.mkdir(parents=True, exist_ok=True)
  total = sum(s.steps for s in run.stages)
  with (
      ckpt.Checkpointer(workdir / "checkpoints", run.keep,
                        run.keep_every) as checkpoints,
      StopRequest() as stop,
  ):
    index, state, meta = _resume(run, checkpoints)
    first = sum(s.steps for s in run.stages[:index])
    done = first + (int(state.step) if state is not None else 0)
    params = None
    display = metrics_lib.Display(total, run.name)
    with metrics_lib.MetricWriter(workdir, display,
                                  jax.process_index() == 0) as writer:
      writer.truncate_after(done)
      for i in range(index, len(run.stages)):
        stage = run.stages[i]
        if state is None:
          params = state_lib.load(stage.load, run.shapes, params,
                                  run.read_weights, run.init)
          state = stage.begin(params)
        worker = _StageLoop(run, stage, first, checkpoints, writer, stop, meta)
        state = worker.run(state)
        params = state.params(averaged=stage.hand_over == "ema")
        first += stage.steps
        if after_stage is not None:
          after_stage(params, stage.name, first, i + 1 == len(run.stages))
        state, meta = None, {}
  return params


def _resume(run: Run, checkpoints: ckpt.Checkpointer):
  """(stage index, state or None, metadata) of the newest sound checkpoint."""
  if checkpoints.latest_step() is None:
    return 0, None, {}
  names = [s.name for s in run.stages]

  def abstract(meta: dict) -> state_lib.TrainState:
    differences = ckpt.config_differences(
        meta["config"], dict(run.config), FREE_KEYS)
    differences += [
        f"{k}: checkpoint {meta['fingerprints'].get(k)}, now {v}"
        for k, v in run.fingerprints.items()
        if meta["fingerprints"].get(k) != v
    ]
    if differences:
      raise ckpt.ContradictionError(differences)
    stage = run.stages[names.index(meta["stage"])]
    return jax.eval_shape(stage.begin, run.shapes)

  state, meta = checkpoints.restore(abstract)
  state = jax.tree.map(jnp.asarray, state)
  print(f"Continuing at stage {meta['stage']}, step {int(state.step)}.",
        flush=True)
  return names.index(meta["stage"]), state, meta


class _StageLoop:
  """Runs one stage from the state's step to its end."""

  def __init__(self, run: Run, stage: Stage, first: int,
               checkpoints: ckpt.Checkpointer,
               writer: metrics_lib.MetricWriter, stop: StopRequest,
               meta: dict):
    self.r, self.stage, self.first = run, stage, first
    self.checkpoints, self.writer, self.stop = checkpoints, writer, stop
    data = stage.source.config
    self.fuse = pipeline.Fuse(data.max_bad_share, data.min_seen)
    self.means = metrics_lib.Accumulator()
    self.timer = metrics_lib.Timer()
    if meta:  # what lay between the last log and the checkpoint
      self.fuse.restore(meta["fuse"])
      self.means.restore(meta["means"])

  def run(self, state: state_lib.TrainState) -> state_lib.TrainState:
    stage, start = self.stage, int(state.step)
    if start >= stage.steps:
      return state
    mesh = sharding.data_mesh()
    sharding.check_rows(stage.source.config.layout.rows, f"stages.{stage.name}")
    step_fn = make_step(
        stage.objective, stage.transformation(), ema_decay=stage.ema_decay,
        seed=self.r.seed, name=stage.name, mesh=mesh,
    )
    state = jax.device_put(state, sharding.replicated(mesh))
    data = pipeline.stream(stage.source, start)
    self.writer.note(f"Stage {stage.name}: {stage.steps} steps.")
    try:
      for step in range(start + 1, stage.steps + 1):
        with self.timer.waiting():
          host = next(data)
        batch = sharding.place_rows(host.batch, mesh)
        state, measured = step_fn(state, batch)
        self._count(measured, host.info)
        last = step == stage.steps
        if step % self.r.log_every == 0 or last:
          self._log(step)
        asked = self.stop.agreed()
        if step % self.r.save_every == 0 or last or asked:
          with self.timer.excluded():
            self._save(step, state, wait=last or asked)
        if asked and not last:
          raise Stopped(
              f"Stopped by {self.stop.reason or 'another process'} at step "
              f"{step} of {stage.name}; saved. The same command continues."
          )
    finally:
      data.close()
    return state

  def _count(self, measured: dict, info: pipeline.Info) -> None:
    """Counts a step. Its device values are fetched one step later, so that
    the device has the next step to do meanwhile."""
    self.means.add(measured | info.means())
    self.timer.step(info.tokens)
    for where, reason in info.unusable:
      self.writer.note(f"Left out {where}: {reason}")
    self.fuse.add(info)

  def _log(self, step: int) -> None:
    rate = optim.schedule(self.stage.optimizer)(step - 1)
    values = {"stage": self.stage.name, "stage_step": step,
              "learning_rate": float(rate), **self.means.flush()}
    self.writer.write(self.first + step, values, self.timer.flush())

  def _save(self, step: int, state: state_lib.TrainState, wait: bool) -> None:
    self.checkpoints.save(
        self.first + step, state, wait=wait,
        meta={
            "stage": self.stage.name,
            "stage_step": step,
            "data_position": step,  # the stream's whole state
            "fuse": self.fuse.state(),
            "means": self.means.state(),
            "config": self.r.config,
            "fingerprints": dict(self.r.fingerprints),
        },
    )
