"""A run and its stages, ready to train: what `build.run` makes of a config."""

from collections.abc import Callable, Mapping
import dataclasses
import itertools
from typing import Any

import optax

from emma_jax import optimizer as optim
from emma_jax import sharding
from emma_jax.checkpoints import locate
from emma_jax.data.batching import row_layout
from emma_jax.data.loading import dataset, held_out, held_out_batches
from emma_jax.training import spikes
from emma_jax.training import state as state_lib
from emma_jax.training.objectives import Objective
from emma_jax.training.setbacks import REWIND, Setbacks

# Keys that may differ between a checkpoint and the command that continues it:
# they change what is shown and kept and where, never what is learned, or what
# is done from now on where a step fails.
FREE_KEYS = (
  r"name",
  r"train\.(log_every|save_every|keep|keep_every|evaluate)",
  r"train\.(gradient_shares_every|max_failed_saves)",
  r"train\.(on_nonfinite|max_skipped_steps)",
  r"train\.(on_spike|spike_window|spike_threshold|max_rewinds)",
  r"train\.validate_(every|samples|sources(\..*)?)",
  r"train\.sample_(every|count|tokens|prompts)",
  r"train\.writers",
  r"data\.(workers|threads|prefetch_batches)",
  r"sample\..*",
  r"evaluate\..*",
  r"mesh\..*",
  r"train\.loss_chunk",
  r"stages\.[^.]*\.accumulation",
  r"(.*\.)?(remat|scan_unroll|attention)",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage:
  """One stage of a run; without a source it can be planned, not trained."""

  name: str
  steps: int
  objective: Objective
  optimizer: optim.OptimizerConfig
  lr_multipliers: tuple
  policy: tuple
  load: tuple
  next_stage_weights: str
  ema_decay: float
  accumulation: int  # micro-batches of a step
  frozen_dtypes: Mapping[str, str]  # path -> what it is kept in, frozen
  layout: row_layout.Layout  # of a batch of all processes
  source: dataset.BatchDataset | None
  trains_router: bool
  held_out: held_out.HeldOutPictures | None  # what its router is measured on
  validation: held_out_batches.HeldOutBatches | None  # what it is validated on

  def __post_init__(self):
    if self.next_stage_weights not in ("ema", "raw"):
      raise ValueError(f"{self.next_stage_weights=}: choose ema or raw.")

  def begin(self, params: dict) -> state_lib.TrainState:
    """The state at the stage's step 0, of all parameters as nested dicts."""
    return state_lib.begin(
      params, self.policy, self.transformation(), self.frozen_dtypes
    )

  def transformation(self) -> optax.GradientTransformation:
    """The optimizer of the trained part, clipping and schedule included."""
    return optim.build(self.optimizer, self.lr_multipliers)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
  """All stages, the model's shapes, and where weights come from."""

  name: str
  stages: tuple[Stage, ...]
  shapes: dict  # nested ShapeDtypeStruct
  axes: Mapping[str, tuple[str | None, ...]]  # path -> logical axes
  mesh: sharding.MeshConfig
  init: Callable[[dict], dict]  # nested shardings -> random parameters
  read_weights: Callable[[str], locate.Weights]  # by name
  seed: int
  log_every: int
  save_every: int
  keep: int
  keep_every: int
  max_failed_saves: int  # in a row; with the last of them the run ends
  gradient_shares_every: int
  setbacks: Setbacks
  evaluate_every: int  # steps of the run; 0: not within stages
  validate_every: int  # steps of a stage; 0: never
  sample_every: int  # the same
  writers: tuple[str, ...]  # beside the files, see `writers`
  config: Mapping[str, Any]  # JSON; kept in every checkpoint
  notes: tuple[str, ...]  # what there is to say of it
  fingerprints: Mapping[str, str]  # of preprocessing and tokenizer

  def __post_init__(self):
    for name, least in (
      ("log_every", 1),
      ("save_every", 1),
      ("keep", 2),
      ("keep_every", 0),
      ("max_failed_saves", 1),
      ("gradient_shares_every", 0),
      ("evaluate_every", 0),
      ("validate_every", 0),
      ("sample_every", 0),
    ):
      if getattr(self, name) < least:
        raise ValueError(f"{name}={getattr(self, name)} is below {least}.")

  def first_step(self, name: str) -> int:
    """Steps of the run before a stage."""
    names = [stage.name for stage in self.stages]
    return sum(s.steps for s in self.stages[: names.index(name)])

  def goes_back_to(self) -> Callable[[int], bool] | None:
    """Whether a spike may lead back to a step of the run; None: none does."""
    if self.setbacks.on_spike != REWIND:
      return None
    ends = itertools.accumulate(s.steps for s in self.stages)
    return spikes.regular(tuple(ends), self.save_every)

  def stage(self, name: str) -> Stage:
    """The stage of this name.

    Raises:
      ValueError: there is none.
    """
    for stage in self.stages:
      if stage.name == name:
        return stage
    raise ValueError(f"No stage {name!r} in {[s.name for s in self.stages]}.")
