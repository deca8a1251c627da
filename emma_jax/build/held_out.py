"""Records that a run looks at while it trains, and never trains on.

For every source of a mixture: what `train.validate_sources` names for it; else,
of the world, its split `evaluate.split`; of files of the name of a task, what
`evaluate.sources` names for that task; else none, which is said.
"""

from collections.abc import Mapping
import dataclasses
from typing import Any

from emma_jax import sharding
from emma_jax.build import data as build_data
from emma_jax.build.sections import ConfigError
from emma_jax.data.loading import sources
from emma_jax.data.loading.held_out_batches import HeldOutBatches

_OFF = "or set config.train.validate_every=0 and sample_every=0"


def specs(
  config: Mapping[str, Any], stage: str | None = None
) -> tuple[dict[str, str], list[str]]:
  """(source -> spec of its held-out records, sources that have none).

  `stage`: of its mixture alone; None: of all stages'.

  Raises:
    ConfigError: records that are trained on, or a name that is no source.
  """
  given = dict(config["train"]["validate_sources"])
  unknown = sorted(set(given) - set(config["data"]["sources"]))
  if unknown:
    raise ConfigError(
      f"config.train.validate_sources names {unknown}, which config.data."
      f"sources lacks; it has {sorted(config['data']['sources'])}."
    )
  trained = {
    config["data"]["sources"][name]
    for section in config["stages"].values()
    for name in _names(section)
    if name in config["data"]["sources"]
  }
  sections = [config["stages"][stage]] if stage else config["stages"].values()
  found: dict[str, str] = {}
  without: dict[str, None] = {}
  for name in dict.fromkeys(n for s in sections for n in _names(s)):
    spec = given.get(name) or _usual(config, name)
    if not spec:
      without[name] = None
    elif spec in trained:
      raise ConfigError(
        f"The held-out records of {name!r}, {spec}, are trained on; name "
        f"others in config.train.validate_sources.{name}, {_OFF}."
      )
    else:
      found[name] = spec
  return found, list(without)


def batches(
  config: Mapping[str, Any], name: str
) -> tuple[HeldOutBatches | None, tuple[str, ...]]:
  """(what validates a stage, what there is to say of it); None: nothing does.

  Raises:
    ConfigError: held-out records that are not there, or were trained on.
  """
  train = config["train"]
  if not train["validate_every"]:
    return None, ()
  if train["validate_samples"] < 1:
    raise ConfigError(
      f"config.train.validate_samples={train['validate_samples']} must be at "
      "least 1; validate_every=0 validates nothing."
    )
  whole = build_data.stage_layout(config, name)
  seen = build_data.framing(config["data"], native=whole.und_patches > 0)
  latents = None
  if whole.latent_channels:
    latents = dataclasses.replace(
      build_data.latent_settings(config), framing=seen
    )
  found, without = specs(config, name)
  if latents is not None:  # nothing can make them here
    for other in [n for n, s in found.items() if not s.startswith("records:")]:
      del found[other]
      without.append(other)
  opened: dict[str, sources.Source] = {}
  for source, spec in found.items():
    try:
      opened[source] = sources.open_source(spec, latents=latents)
    except (OSError, ValueError) as error:
      if source in train["validate_sources"] or train["evaluate"]:
        raise ConfigError(
          f"The held-out records of {source!r} do not open: {error} Make them, "
          f"name others in config.train.validate_sources.{source}, {_OFF}."
        ) from error
      without.append(source)  # nobody has asked for them by name
  notes = _notes(name, bool(opened), without)
  if not opened:
    return None, notes
  section = config["stages"][name]
  # A micro-batch of the stage: what it has room for on every device.
  rows = whole.rows // section["accumulation"]
  mesh = build_data.mesh_of(config)
  sharding.check_rows(
    whole.rows, f"stages.{name}", mesh, section["accumulation"]
  )
  share = sharding.share_of_rows(sharding.rows(mesh), rows)
  own = rows // share.count
  to_sample = dataclasses.replace(
    build_data.to_sample(config["data"], training=False), framing=seen
  )
  if config["data"]["buckets"]:  # one size, so that it is one program
    to_sample = to_sample.sized(whole.height, whole.width)
  return HeldOutBatches(
    sources=opened,
    samples=train["validate_samples"],
    to_sample=to_sample,
    layout=dataclasses.replace(whole, rows=rows),
    rows=range(share.index * own, (share.index + 1) * own),
  ), notes


def _names(section: Mapping[str, Any]) -> list[str]:
  """Sources of a stage's mixture, in all of its phases."""
  return [name for _, weights, *_ in section["mixture"] for name in weights]


def _usual(config: Mapping[str, Any], name: str) -> str:
  """Where a source's held-out records are if nothing else is said; or ""."""
  spec = config["data"]["sources"].get(name, "")
  if spec.startswith("world:"):
    task = sources.SourceSpec.parse(spec).task
    return f"world:{task}:{config['evaluate']['split']}"
  return config["evaluate"]["sources"].get(name, "")


def _notes(stage: str, found: bool, without: list[str]) -> tuple[str, ...]:
  if not without:
    return ()
  what = "leaves out" if found else "is off: it has none for"
  return (
    f"Validation of stage {stage} {what} {', '.join(without)}; held-out "
    "records are named in config.train.validate_sources.",
  )
