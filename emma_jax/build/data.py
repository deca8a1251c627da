"""From a config to the data of a stage, and to what samplers must share.

The tokenizer, the preprocessing and the texts around a picture are made here
for training, sampling and the tools alike.
"""

from collections.abc import Iterable, Mapping
import dataclasses
import hashlib
import json
from typing import TYPE_CHECKING, Any

import jax

from emma_jax import sharding
from emma_jax.build.sections import ConfigError, make, plain
from emma_jax.data.batching import mixture
from emma_jax.data.batching.row_layout import Layout
from emma_jax.data.pictures.framing import Framing
from emma_jax.data.pictures.preprocess import Preprocess
from emma_jax.data.text import tokenizer as tokenizer_lib
from emma_jax.data.transforms import ToSample

if TYPE_CHECKING:  # whoever only samples loads no loader: a second of imports
  from emma_jax.data.loading.dataset import BatchDataset
  from emma_jax.data.loading.held_out import HeldOutPictures
  from emma_jax.data.records.latents import Settings

# data.fit -> how `Preprocess` fits what is drawn. "pad_learned": as runs of
# before there was a choice, whose targets' padding is learned like the rest.
_FITS = {"cover": "cover", "pad": "pad_cells", "pad_learned": "pad"}


def tokenizer(
  data: Mapping[str, Any], model: Mapping[str, Any] | None = None
) -> tokenizer_lib.Tokenizer:
  """The tokenizer that `config.data.tokenizer` names: tiny or qwen3:PATH.

  PATH is a file or folder as in `QwenTokenizer`. With `model` (the config's
  section) its vocabulary must have room for the tokenizer's.
  """
  name = data["tokenizer"]
  kind, _, path = name.partition(":")
  made: tokenizer_lib.Tokenizer
  if name == "tiny":
    made = tokenizer_lib.TinyTokenizer()
  elif kind == "qwen3" and path:
    try:
      made = tokenizer_lib.QwenTokenizer(path)
    except (ImportError, OSError, ValueError) as error:
      raise ConfigError(f"config.data.tokenizer={name!r}: {error}") from error
  else:
    raise ConfigError(
      f"config.data.tokenizer={name!r}: choose tiny, or "
      "qwen3:PATH with Qwen3's tokenizer.json, qwen.tiktoken "
      "or a folder that holds one."
    )
  if model is not None and model["kind"] == "emma":
    room = model["llm"]["vocab_size"]
    if made.vocab_size > room:
      raise ConfigError(
        f"config.model.llm.vocab_size={room} has no room for the "
        f"{made.vocab_size} tokens of config.data.tokenizer={name!r}; raise "
        "it (Qwen3's models have 151936), or choose another tokenizer."
      )
  return made


def framing(data: Mapping[str, Any], native: bool | None = None) -> Framing:
  """How pictures are framed, in training and in sampling.

  `native`: whether pictures in questions keep their sizes, where that is not as
  `data.native` says (a stage without `und_patches` has all of one size).
  """
  keys = ("height", "width", "native", "min_tokens", "max_tokens", "codec")
  values = {k: data[k] for k in keys}
  if native is not None:
    values["native"] = native
  if data["fit"] not in _FITS:
    raise ConfigError(
      f"config.data.fit={data['fit']!r}: choose one of {tuple(_FITS)}."
    )
  whole: dict[str, Any] = dict(fit="pad", max_crop=0.0)
  drawn: dict[str, Any] = dict(native=False, fit=_FITS[data["fit"]])
  if data["fit"] != "pad_learned":
    drawn["max_crop"] = data["max_crop"]
  return Framing(
    understanding=make(Preprocess, values | whole, "data"),
    generation=make(Preprocess, values | whole | drawn, "data"),
    buckets=tuple(map(tuple, data["buckets"])),
  )


def _turns(data: Mapping[str, Any]) -> int | None:
  """Turns kept of a conversation; the config says 0 for all."""
  return data["max_turns"] or None


def to_sample(data: Mapping[str, Any], *, training: bool) -> ToSample:
  """Records to sequences; conditions are dropped in training only."""
  dropout = dict.fromkeys(("text_dropout", "reference_dropout"), 0.0)
  if training:
    dropout = {k: data[k] for k in dropout}
  return make(
    ToSample,
    {"max_pixels": data["max_pixels"], "max_turns": _turns(data)} | dropout,
    "data",
    tokenizer=tokenizer(data),
    framing=framing(data),
  )


def layout(
  config: Mapping[str, Any],
  section: Mapping[str, Any],
  name: str,
  **changes: Any,
) -> Layout:
  """Static shapes of a batch: capacities of `section`, the config's sizes.

  `changes` of fields; without, the step makes the latents.
  """
  keys = (
    "rows",
    "und_tokens",
    "und_pictures",
    "references",
    "targets",
    "und_patches",
  )
  sizes = {k: section[k] for k in keys}
  sizes |= dict(height=config["data"]["height"], width=config["data"]["width"])
  if config["model"]["kind"] == "emma":
    fusion = config["model"]["fusion"]
  else:  # it has targets alone, which all look alike
    fusion = dict(mode="channel", reference_branch="gen")
  sizes |= dict(
    latent_channels=0,
    fusion=fusion["mode"],
    reference_branch=fusion["reference_branch"],
  )
  return make(Layout, sizes | changes, name)


def row(config: Mapping[str, Any], height: int, width: int) -> Layout:
  """A layout of one row with room for nothing; what is sampled adds its own."""
  none = dict(
    rows=1, und_tokens=1, und_pictures=0, references=0, targets=0, und_patches=0
  )
  return layout(config, none, "sample", height=height, width=width)


def fingerprints(data: Mapping[str, Any]) -> dict[str, str]:
  """Hashes of what a sampler must share with the training."""
  out = {"tokenizer": tokenizer(data).fingerprint()}
  return framing(data).fingerprints() | out


def latent_settings(config: Mapping[str, Any]) -> "Settings":
  """What the latents of a config's pictures must have been made for."""
  from emma_jax.data.records.latents import Settings

  model = config["model"]
  sizes = plain(model["autoencoder"])
  if sizes["kind"] == "dcae":  # the one kind that there was as the hash began
    del sizes["kind"]
  return Settings(
    framing=framing(config["data"]),
    autoencoder=hashlib.sha256(
      json.dumps(sizes, sort_keys=True).encode()
    ).hexdigest()[:12],
    dtype=model["dtype"],
  )


def stage_layout(config: Mapping[str, Any], name: str) -> Layout:
  """A stage's static shapes; stored latents come with the samples."""
  data, model = config["data"], config["model"]
  section, where = config["stages"][name], f"stages.{name}"
  if data["latents"] not in ("step", "stored"):
    raise ConfigError(
      f"config.data.latents={data['latents']!r}: choose step or stored."
    )
  stored = data["latents"] == "stored" and model["kind"] == "emma"
  if section["und_patches"] and not data["native"]:
    raise ConfigError(
      f"config.{where}.und_patches={section['und_patches']} is for pictures "
      "of native sizes; set config.data.native=True."
    )
  if section["und_patches"] and not stored:
    raise ConfigError(
      f"config.{where}.und_patches={section['und_patches']}: pictures of "
      "native sizes need latents made beforehand. Run `emma-data "
      "encode-latents DIR --config C --weights W` and set "
      "config.data.latents=stored."
    )
  channels = model["autoencoder"]["latent_channels"] if stored else 0
  return layout(config, section, where, latent_channels=channels)


def batches(
  config: Mapping[str, Any],
  name: str,
  plans: str | None = None,
  share: sharding.Share | None = None,
) -> "BatchDataset":
  """The data of a stage, without the model.

  `plans`: a folder for the plans of the batches, None for one of its own.
  `share`: of the rows, read here; None: those of this process's devices.
  """
  from emma_jax.data.loading import dataset

  data, section = config["data"], config["stages"][name]
  where = f"stages.{name}"
  sizes = stage_layout(config, name)
  seen = framing(data, native=sizes.und_patches > 0)
  latents = None
  if sizes.latent_channels:
    latents = dataclasses.replace(latent_settings(config), framing=seen)
  keys = (
    "text_dropout",
    "reference_dropout",
    "max_pixels",
    "max_bad_share",
    "min_samples",
    "workers",
    "threads",
    "prefetch_batches",
    "packing_groups",
    "plan_segment",
  )
  settings = make(
    dataset.DataConfig,
    {k: data[k] for k in keys} | {"max_turns": _turns(data)},
    "data",
    # Every stage draws other samples of an endless source.
    seed=data["seed"] + 1000 * list(config["stages"]).index(name),
    sources=dict(data["sources"]),
    phases=phases(section, where),
    samples_per_batch=section["samples_per_batch"],
    layout=sizes,
    framing=seen,
    latent_settings=latents,
  )
  of_process = _share(config, name, sizes)
  share = share or of_process
  return dataset.open_pipeline(
    settings,
    tokenizer(data),
    shard_index=share.index,
    shard_count=share.count,
    counted=share.first,
    plans=plans,
  )


def held_out_pictures(
  config: Mapping[str, Any], name: str
) -> "HeldOutPictures | None":
  """Labelled pictures that measure the router of a stage; None: not asked for.

  Raises:
    ConfigError: there are none, of one class alone, or trained on.
  """
  from emma_jax.data.loading import held_out, labels, sources

  section = config["evaluate"]["router"]
  key = "config.evaluate.router"
  if section["samples"] < 0:
    raise ConfigError(f"{key}.samples={section['samples']} is negative.")
  if not section["samples"]:
    return None
  trained = {
    config["data"]["sources"][source]
    for _, weights, *_ in config["stages"][name]["mixture"]
    for source in weights
  }
  specs = tuple(section["sources"]) or _held_out_worlds(config, trained)
  if not specs or trained & set(specs):
    raise ConfigError(
      f"{key}.sources={specs} must name labelled pictures for the router's "
      f"accuracy that stages.{name} does not train on ({sorted(trained)}), "
      f"such as records:DIR; or set {key}.samples=0 to do without."
    )
  try:
    opened = {spec: sources.open_source(spec) for spec in specs}
    labels.check(opened, {spec: key for spec in specs}, f"{key}.sources")
  except (OSError, ValueError) as error:
    raise ConfigError(
      f"{key}.sources={specs}: {error} Or set {key}.samples=0 to do without."
    ) from error
  layout = dataclasses.replace(stage_layout(config, name), latent_channels=0)
  seen = framing(config["data"], native=layout.und_patches > 0)
  share = _share(config, name, layout)
  rows = layout.rows // share.count
  return held_out.HeldOutPictures(
    sources=opened,
    samples=section["samples"],
    to_sample=dataclasses.replace(
      to_sample(config["data"], training=False), framing=seen
    ),
    layout=layout,
    rows=range(share.index * rows, (share.index + 1) * rows),
  )


def _held_out_worlds(
  config: Mapping[str, Any], trained: set[str]
) -> tuple[str, ...]:
  """The evaluation's split of what a stage sees of the world."""
  from emma_jax.data.loading import sources

  worlds = sorted(s for s in trained if s.startswith("world:"))
  tasks = (sources.SourceSpec.parse(spec).task for spec in worlds)
  return tuple(f"world:{t}:{config['evaluate']['split']}" for t in tasks)


def mesh_of(config: Mapping[str, Any]) -> jax.sharding.Mesh:
  """The config's mesh over the devices that are here.

  Raises:
    ConfigError: it does not use them exactly.
  """
  sizes = make(sharding.MeshConfig, config["mesh"], "mesh")
  try:
    return sharding.make_mesh(sizes)
  except ValueError as error:
    raise ConfigError(str(error)) from error


def _share(
  config: Mapping[str, Any], name: str, sizes: Layout
) -> sharding.Share:
  """Of a batch's rows, those of this process's devices."""
  mesh = mesh_of(config)
  section, where = config["stages"][name], f"stages.{name}"
  try:
    sharding.check_rows(sizes.rows, where, mesh, section["accumulation"])
  except ValueError as error:
    raise ConfigError(f"config.{error}") from error
  return sharding.share_of_rows(sharding.rows(mesh), sizes.rows)


def phase_options(
  section: Mapping[str, Any], options: Iterable[Mapping[str, Any]]
) -> dict[str, Any]:
  """What a phase says of its own over what its stage says."""
  out = {
    "unit": section["mixture_unit"],
    "even_buckets": section["mixture_even_buckets"],
    "row": {},
  }
  for option in options:
    out |= option
  return out


def phases(section: Mapping[str, Any], where: str) -> tuple[mixture.Phase, ...]:
  """Of (share of the stage done, weights) or (share, weights, options)."""
  steps = section["steps"]
  if not section["mixture"]:
    raise ConfigError(
      f"config.{where}.mixture is empty: the sources that it had are left out "
      f"of config.data.sources. Give it others (--config.{where}.mixture="
      "NAME=1), or leave the stage out."
    )
  starts = [round(phase[0] * steps) for phase in section["mixture"]]
  if starts[0] != 0:
    raise ConfigError(
      "The first phase of a mixture starts at 0.0, not "
      f"{section['mixture'][0][0]}."
    )
  out = []
  for (_, parts, *options), start, stop in zip(
    section["mixture"], starts, [*starts[1:], steps]
  ):
    if stop <= start:
      continue
    out.append(
      make(
        mixture.Phase,
        phase_options(section, options),
        f"{where}.mixture",
        weights=dict(parts),
        steps=stop - start,
      )
    )
  return tuple(out)
