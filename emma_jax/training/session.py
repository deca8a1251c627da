"""What the stages of a run have in common, while it trains."""

from collections.abc import Callable
import dataclasses
import pathlib

from jax.sharding import Mesh

from emma_jax.checkpoints import checkpointer as ckpt
from emma_jax.training import goodput
from emma_jax.training.run import Run
from emma_jax.training.signals import StopRequest

# Called after each stage: (params, stage name, global step, last, whether the
# router is a trained one) -> None.
AfterStage = Callable[[dict, str, int, bool, bool], None]


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
  after_stage: AfterStage | None
  midway: AfterStage | None
