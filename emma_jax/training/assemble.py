"""From a whole config to a run: stages, data, weights."""

from collections.abc import Mapping
import dataclasses
import hashlib
import importlib.resources
import json
import pathlib
from typing import Any

import jax

from emma_jax import build, distributed, flow, rules, sharding
from emma_jax.data import mixture, packing, pipeline
from emma_jax.data.records.latents import Settings
from emma_jax.optimizer import OptimizerConfig
from emma_jax.training import checkpoint, loop, objectives, weights

# Names of the weights that ship with the package.
PACKAGED = {"world_autoencoder": "world_autoencoder.safetensors",
            "reference": "reference.safetensors"}


def run(config: Mapping[str, Any], *, data: bool = True,
        plans: str | None = None) -> loop.Run:
  """The run that a whole config describes.

  Without `data` no file is opened, neither sources nor a vocabulary: the run
  can be planned (`step.abstract_step`), not trained. `plans`: a folder for the
  plans of the data, which all processes share; None: each makes its own.

  Raises:
    build.ConfigError: a key that is unknown, missing or out of range.
    ValueError: sources, phases or layouts that cannot work together.
  """
  model = build.model(config["model"])
  # Now: an id beyond the vocabulary would be no error in the embedding.
  if data:
    build.tokenizer(config["data"], config["model"])
  train = config["train"]
  stages = tuple(
      _stage(config, model, name, section, i, data, plans)
      for i, (name, section) in enumerate(config["stages"].items())
  )
  for stage in stages:
    _check_tables(stage, model.shapes)
  return build.make(
      loop.Run, {}, "train",
      name=config["name"],
      stages=stages,
      shapes=model.shapes,
      axes=model.axes,
      mesh=build.make(sharding.MeshConfig, config["mesh"], "mesh"),
      init=lambda shardings: model.init(train["seed"], shardings),
      read_weights=lambda name: rules.flatten(read_weights(name)[0]),
      seed=train["seed"],
      log_every=train["log_every"],
      save_every=train["save_every"],
      keep=train["keep"],
      keep_every=train["keep_every"],
      config=build.plain(config),
      fingerprints=_fingerprints(config, stages) if data else {},
  )


def _fingerprints(
    config: Mapping[str, Any], stages: tuple[loop.Stage, ...]
) -> dict[str, str]:
  """Of all that a checkpoint can be continued, or sampled from, with alone."""
  out = build.fingerprints(config["data"])
  for stage in stages:
    for name, value in stage.source.fingerprints().items():
      out[f"{name} of stages.{stage.name}" if name == "plan" else name] = value
  return out


def read_weights(name: str) -> tuple[dict, dict]:
  """(parameters, metadata) of a packaged name, a file, or a run's folder.

  Parameters are nested and float32; of a run they are averaged (EMA).
  """
  if name in PACKAGED:
    files = importlib.resources.files("emma_jax.assets")
    with importlib.resources.as_file(files / PACKAGED[name]) as path:
      return weights.load_weights(path, dtype="float32")
  path = pathlib.Path(name)
  if path.is_dir():
    if (path / "checkpoints").is_dir():
      path = path / "checkpoints"
    parts, meta = checkpoint.restore_params(path, ("ema", "frozen"))
    return rules.merge(parts["ema"], parts["frozen"]), meta
  return weights.load_weights(path, dtype="float32")


def _stage(config: Mapping[str, Any], model: build.Model, name: str,
           section: Mapping[str, Any], index: int, data: bool,
           plans: str | None) -> loop.Stage:
  where = f"stages.{name}"
  optimizer = build.make(
      OptimizerConfig,
      {k: section[k] for k in
       ("learning_rate", "schedule", "warmup_steps", "final_ratio")}
      | dict(config["optimizer"]),
      where, total_steps=section["steps"])
  layout = _layout(config, section, where)
  try:
    source = None
    if data:
      source = _source(config, section, where, layout, index, plans)
  except build.ConfigError:
    raise
  except ValueError as error:
    raise build.ConfigError(f"config.{where}: {error}") from error
  return build.make(
      loop.Stage, {}, where,
      name=name,
      steps=section["steps"],
      objective=_objective(
          model, section, where, config["train"]["loss_chunk"]),
      optimizer=optimizer,
      lr_multipliers=section["lr_multipliers"],
      policy=section["policy"],
      load=_load_table(config, section["load"], where),
      hand_over=section["hand_over"],
      ema_decay=section["ema_decay"],
      frozen_dtype=config["train"]["frozen_dtype"],
      layout=layout,
      source=source,
  )


def batches(
    config: Mapping[str, Any], name: str, plans: str | None = None,
    share: distributed.Share | None = None,
) -> pipeline.BatchSource:
  """The data of one stage, without the model; `share` of its rows."""
  section = config["stages"][name]
  where = f"stages.{name}"
  layout = _layout(config, section, where)
  index = list(config["stages"]).index(name)
  return _source(config, section, where, layout, index, plans, share)


def latent_settings(config: Mapping[str, Any]) -> Settings:
  """What the latents of a config's pictures must have been made for."""
  preprocess, model = build.preprocess(config["data"]), config["model"]
  sizes = json.dumps(build.plain(model["autoencoder"]), sort_keys=True)
  return Settings(
      understanding=preprocess,
      generation=dataclasses.replace(preprocess, native=False),
      autoencoder=hashlib.sha256(sizes.encode()).hexdigest()[:12],
      dtype=model["dtype"],
      buckets=tuple(map(tuple, config["data"]["buckets"])))


def _layout(config: Mapping[str, Any], section: Mapping[str, Any],
            where: str) -> packing.Layout:
  """The stage's static shapes; stored latents come with the samples."""
  data, model = config["data"], config["model"]
  if data["latents"] not in ("step", "stored"):
    raise build.ConfigError(
        f"config.data.latents={data['latents']!r}: choose step or stored.")
  stored = data["latents"] == "stored" and model["kind"] == "emma"
  if section["und_patches"] and not data["native"]:
    raise build.ConfigError(
        f"config.{where}.und_patches={section['und_patches']} is for pictures "
        "of native sizes; set config.data.native=True.")
  if section["und_patches"] and not stored:
    raise build.ConfigError(
        f"config.{where}.und_patches={section['und_patches']}: pictures of "
        "native sizes need latents made beforehand. Run `emma-data "
        "encode-latents DIR --config C --weights W` and set "
        "config.data.latents=stored.")
  channels = model["autoencoder"]["latent_channels"] if stored else 0
  return build.layout(config, section, where, latent_channels=channels)


def _check_tables(stage: loop.Stage, shapes: dict):
  """Raises ConfigError for tables that do not fit the model: now, since the
  stage itself may begin hours later."""
  try:
    rules.resolve(stage.load, rules.flatten(shapes), "load")
    jax.eval_shape(stage.begin, shapes)
  except ValueError as error:
    raise build.ConfigError(f"config.stages.{stage.name}: {error}") from error


def _load_table(config: Mapping[str, Any], table: tuple, where: str) -> tuple:
  """`{key}` in a source stands for a top-level key of the config."""
  try:
    return tuple((regex, source.format_map(config)) for regex, source in table)
  except KeyError as error:
    raise build.ConfigError(f"config.{where}.load names the key {error}, which "
                            "the config lacks.") from error


def _objective(model: build.Model, section: Mapping[str, Any], where: str,
               loss_chunk: int):
  kind = section["objective"]
  if (kind == "autoencoder") != (model.kind == "autoencoder"):
    raise build.ConfigError(f"config.{where}.objective={kind!r} does not fit "
                            f"config.model.kind={model.kind!r}.")
  if kind == "router":
    return objectives.RouterObjective(model=model.module)
  if kind == "autoencoder":
    return objectives.AutoencoderObjective(
        model=model.module, dtype=model.dtype,
        l1_weight=section["l1_weight"], l2_weight=section["l2_weight"])
  if kind == "emma":
    times = ("time_mean", "time_std", "shift")
    keys = ("route", "text_weight", "velocity_weight", "time_bins",
            "draws")
    return build.make(
        objectives.EmmaObjective, {k: section[k] for k in keys}, where,
        model=model.module, loss_chunk=loss_chunk,
        flow=build.make(flow.FlowConfig, {k: section[k] for k in times}, where))
  raise build.ConfigError(f"config.{where}.objective={kind!r}: choose emma, "
                          "router or autoencoder.")


def _source(config: Mapping[str, Any], section: Mapping[str, Any], where: str,
            layout: packing.Layout, index: int, plans: str | None,
            share: distributed.Share | None = None) -> pipeline.BatchSource:
  """The stage's data; its rows on this host are this process's share."""
  data = config["data"]
  preprocess = build.preprocess(data)
  if not layout.und_patches:  # all of one size
    preprocess = dataclasses.replace(preprocess, native=False)
  latents = None
  if layout.latent_channels:
    latents = dataclasses.replace(
        latent_settings(config), understanding=preprocess)
  keys = ("text_dropout", "reference_dropout", "max_turns", "max_pixels",
          "max_bad_share", "min_seen", "workers", "threads", "buffer",
          "parts", "buckets")
  settings = build.make(
      pipeline.DataConfig, {k: data[k] for k in keys}, "data",
      # Every stage draws other samples of an endless source.
      seed=data["seed"] + 1000 * index,
      sources=dict(data["sources"]),
      phases=_phases(section, where),
      samples_per_batch=section["samples_per_batch"],
      layout=layout,
      preprocess=preprocess,
      latents=latents,
  )
  mesh = sharding.make_mesh(
      build.make(sharding.MeshConfig, config["mesh"], "mesh"))
  sharding.check_rows(layout.rows, where, mesh)
  share = share or distributed.share_of_rows(sharding.rows(mesh), layout.rows)
  return pipeline.open_pipeline(
      settings, build.tokenizer(data), shard_index=share.index,
      shard_count=share.count, counted=share.first, plans=plans)


def _phases(
    section: Mapping[str, Any], where: str
) -> tuple[mixture.Phase, ...]:
  """Of (share of the stage done, weights) or (share, weights, options)."""
  steps = section["steps"]
  starts = [round(phase[0] * steps) for phase in section["mixture"]]
  if starts[0] != 0:
    raise build.ConfigError("The first phase of a mixture starts at 0.0, not "
                            f"{section['mixture'][0][0]}.")
  out = []
  for (_, parts, *options), start, stop in zip(
      section["mixture"], starts, [*starts[1:], steps]):
    if stop <= start:
      continue
    told = {"unit": section["mixture_unit"]}
    for option in options:
      told |= option
    out.append(build.make(mixture.Phase, told, f"{where}.mixture",
                          weights=dict(parts), steps=stop - start))
  return tuple(out)
