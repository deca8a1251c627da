"""From a whole config to a run: its stages, their data, their weights."""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any

import jax

from emma_jax import flow, rules, sharding
from emma_jax.build import bounds, held_out, measured
from emma_jax.build import data as build_data
from emma_jax.build import model as build_model
from emma_jax.build.sections import ConfigError, make, plain
from emma_jax.checkpoints import locate
from emma_jax.data.loading.held_out_batches import HeldOutBatches
from emma_jax.optimizer import OptimizerConfig
from emma_jax.training import objectives, writers
from emma_jax.training.run import Run, Stage
from emma_jax.training.setbacks import Setbacks
from emma_jax.training.state import TRAIN

# Without any of these a config describes no run.
_SECTIONS = (
  *("data", "evaluate", "mesh", "model", "name", "optimizer"),
  *("sample", "stages", "train"),
)


def run(
  config: Mapping[str, Any], *, data: bool = True, plans: str | None = None
) -> Run:
  """The run that a whole config describes.

  Without `data` no file is opened, neither sources nor a vocabulary: the run
  can be planned (`step.abstract_step`), not trained. `plans`: a folder for the
  plans of the data, which all processes share; None: each makes its own.

  Raises:
    ConfigError: a key that is unknown, missing or out of range.
    ValueError: sources, phases or layouts that cannot work together.
  """
  _check_sections(config)
  bounds.check(config)
  model = build_model.model(config["model"])
  notes: tuple[str, ...] = ()
  # Now: an id beyond the vocabulary would be no error in the embedding.
  if data:
    _check_writers(config["train"]["writers"])
    build_data.tokenizer(config["data"], config["model"])
    config, notes = measured.config(config, plans)
  train = config["train"]
  looked_at: dict[str, Any] = dict.fromkeys(config["stages"])
  for name in config["stages"] if data else ():
    looked_at[name], more = held_out.batches(config, name)
    notes += more
  stages = tuple(
    _stage(config, model, name, data, plans, looked_at[name])
    for name in config["stages"]
  )
  for stage in stages:
    _check_tables(stage, model.shapes)
  return make(
    Run,
    {},
    "train",
    name=config["name"],
    stages=stages,
    shapes=model.shapes,
    axes=model.axes,
    mesh=make(sharding.MeshConfig, config["mesh"], "mesh"),
    init=lambda shardings: model.init(train["seed"], shardings),
    read_weights=locate.read,
    seed=train["seed"],
    log_every=train["log_every"],
    save_every=train["save_every"],
    keep=train["keep"],
    keep_every=train["keep_every"],
    max_failed_saves=train["max_failed_saves"],
    gradient_shares_every=train["gradient_shares_every"],
    setbacks=_setbacks(train),
    evaluate_every=config["evaluate"]["benchmarks"]["every"],
    validate_every=train["validate_every"],
    sample_every=train["sample_every"],
    writers=tuple(train["writers"]),
    config=plain(config),
    notes=notes,
    fingerprints=_fingerprints(config, stages) if data else {},
  )


def _check_sections(config: Mapping[str, Any]) -> None:
  """Raises ConfigError for a config that lacks one."""
  if missing := [name for name in _SECTIONS if name not in config]:
    raise ConfigError(
      f"config.{missing[0]} is missing"
      + (f", and {', '.join(missing[1:])}" if missing[1:] else "")
      + "; begin with configs/defaults.py, as configs/tiny.py does."
    )


def _setbacks(train: Mapping[str, Any]) -> Setbacks:
  keys = [field.name for field in dataclasses.fields(Setbacks)]
  return make(Setbacks, {k: train[k] for k in keys}, "train")


def _check_writers(names: Sequence[str]) -> None:
  try:
    writers.check(names)
  except ValueError as error:
    raise ConfigError(f"config.train.{error}") from error


def _fingerprints(
  config: Mapping[str, Any], stages: tuple[Stage, ...]
) -> dict[str, str]:
  """Of all that a checkpoint can be continued, or sampled from, with alone."""
  out = build_data.fingerprints(config["data"])
  for stage in stages:
    assert stage.source is not None  # a run with data
    for name, value in stage.source.fingerprints().items():
      out[f"{name} of stages.{stage.name}" if name == "plan" else name] = value
  return out


def _stage(
  config: Mapping[str, Any],
  model: build_model.Model,
  name: str,
  data: bool,
  plans: str | None,
  validation: HeldOutBatches | None,
) -> Stage:
  section, where = config["stages"][name], f"stages.{name}"
  if section["warmup_steps"] > section["steps"]:
    raise ConfigError(
      f"config.{where}.warmup_steps={section['warmup_steps']} are more than "
      f"config.{where}.steps={section['steps']}: set both, or shorten all "
      f"stages with --max_steps {section['steps']}."
    )
  optimizer = make(
    OptimizerConfig,
    {
      k: section[k]
      for k in ("learning_rate", "schedule", "warmup_steps", "final_ratio")
    }
    | dict(config["optimizer"]),
    where,
    total_steps=section["steps"],
  )
  layout = build_data.stage_layout(config, name)
  try:
    source = build_data.batches(config, name, plans) if data else None
    router, pictures = section["objective"] == "router", None
    if router and source is not None:
      source.check_labels(f"config.{where}")
      pictures = build_data.held_out_pictures(config, name)
  except ConfigError:
    raise
  except ValueError as error:
    raise ConfigError(f"config.{where}: {error}") from error
  return make(
    Stage,
    {},
    where,
    name=name,
    steps=section["steps"],
    objective=_objective(model, section, where, config["train"]["loss_chunk"]),
    optimizer=optimizer,
    lr_multipliers=section["lr_multipliers"],
    policy=section["policy"],
    load=_load_table(config, section["load"], where),
    next_stage_weights=section["next_stage_weights"],
    ema_decay=section["ema_decay"],
    accumulation=section["accumulation"],
    frozen_dtypes=_frozen_dtypes(config, model),
    layout=layout,
    source=source,
    trains_router=router,
    held_out=pictures,
    validation=validation,
  )


def _frozen_dtypes(
  config: Mapping[str, Any], model: build_model.Model
) -> dict[str, str]:
  """Path -> `train.frozen_dtype`, of what is rounded to it before every use.

  All else stays in float32, as frozen as it may be: the velocity head, the
  positions of patches and the router compute at full precision.
  """
  dtype = config["train"]["frozen_dtype"]
  if dtype not in ("float32", "bfloat16"):
    raise ConfigError(
      f"config.train.frozen_dtype={dtype!r}: choose float32 or bfloat16."
    )
  if dtype not in ("float32", model.dtype):
    raise ConfigError(
      f"config.train.frozen_dtype={dtype!r} would round what "
      f"config.model.dtype={model.dtype!r} computes with; set both alike, or "
      "frozen_dtype=float32."
    )
  if dtype == "float32":
    return {}
  return {p: dtype for p, used in model.rounded_to.items() if used == dtype}


def _check_tables(stage: Stage, shapes: dict):
  """Raises ConfigError for tables that do not fit the model: now, since the
  stage itself may begin hours later."""
  try:
    rules.resolve(stage.load, rules.flatten(shapes), "load")
    policy = rules.resolve(stage.policy, rules.flatten(shapes), "policy")
    if stage.trains_router and not any(
      done == TRAIN for path, done in policy.items() if "vision/router/" in path
    ):
      raise ValueError(
        "objective='router' with a policy that freezes vision/router/.* would "
        'train nothing; add ("vision/router/.*", "train").'
      )
    jax.eval_shape(stage.begin, shapes)
  except ValueError as error:
    raise ConfigError(f"config.stages.{stage.name}: {error}") from error


def _load_table(config: Mapping[str, Any], table: tuple, where: str) -> tuple:
  """`{key}` in a source stands for a top-level key of the config."""
  try:
    return tuple((regex, source.format_map(config)) for regex, source in table)
  except KeyError as error:
    raise ConfigError(
      f"config.{where}.load names the key {error}, which the config lacks."
    ) from error


def _objective(
  model: build_model.Model,
  section: Mapping[str, Any],
  where: str,
  loss_chunk: int,
):
  kind = section["objective"]
  if (kind == "autoencoder") != (model.kind == "autoencoder"):
    raise ConfigError(
      f"config.{where}.objective={kind!r} does not fit "
      f"config.model.kind={model.kind!r}."
    )
  if kind == "autoencoder":
    return objectives.AutoencoderObjective(
      model=model.module,
      dtype=model.dtype,
      l1_weight=section["l1_weight"],
      l2_weight=section["l2_weight"],
    )
  if kind == "router":
    return make(objectives.RouterObjective, {}, where, model=model.module)
  if kind == "emma":
    times = ("time_mean", "time_std", "shift")
    keys = ("route", "text_weight", "velocity_weight", "time_bins", "draws")
    return make(
      objectives.EmmaObjective,
      {k: section[k] for k in keys},
      where,
      model=model.module,
      loss_chunk=loss_chunk,
      task_weights=make(
        objectives.TaskWeights, section["task_weights"], f"{where}.task_weights"
      ),
      flow=make(flow.FlowConfig, {k: section[k] for k in times}, where),
    )
  raise ConfigError(
    f"config.{where}.objective={kind!r}: choose emma, router or autoencoder."
  )
