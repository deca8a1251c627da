"""What the stages of a run have in common, while it trains."""

from collections.abc import Callable
import dataclasses
import pathlib

from jax.sharding import Mesh

from emma_jax.checkpoints import checkpointer as ckpt
from emma_jax.training import goodput, looks, run_file
from emma_jax.training.display import Display
from emma_jax.training.run import Run
from emma_jax.training.signals import StopRequest


@dataclasses.dataclass(frozen=True, kw_only=True)
class Session:
  """A run, its folder, and who is called; see `loop.train`."""

  run: Run
  workdir: pathlib.Path
  mesh: Mesh
  check: Callable[[], None]  # raises where the folder is not ours any more
  checkpoints: ckpt.Checkpointer
  stop: StopRequest
  ledger: goodput.Ledger
  profile: goodput.Profile | None
  after_stage: looks.AfterStage | None
  midway: looks.AfterStage | None
  observer: looks.Observer | None
  record: run_file.RunFile
  display: Display
