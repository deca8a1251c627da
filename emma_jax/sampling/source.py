"""Where a sampling session's weights come from, checked before use."""

from collections.abc import Callable, Mapping
import dataclasses
import importlib.resources
import pathlib
from typing import Any

from emma_jax import rules
from emma_jax.build import data as build_data
from emma_jax.build import sections
from emma_jax.sampling.context import SampleError
from emma_jax.training.checkpoint import restore_params
from emma_jax.training.integrity import CheckpointDamaged
from emma_jax.training.weights import load_weights

REFERENCE = "reference"
# A run's config -> the one to sample with.
Change = Callable[[dict], dict]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
  """Weights with all that belongs to them.

  route: the expert understanding pictures take, see `_route`.
  """

  config: dict
  params: dict
  name: str
  step: int
  route: str


def read(source: str, change: Change | None = None) -> Source:
  """Reads the shipped weights, a .safetensors file or a training run.

  Args:
    source: "reference"; a weight file; a working directory of a training, its
      folder checkpoints/, or the folder of one step in there.
    change: makes the config to sample with from the one that was trained.

  Raises:
    SampleError: nothing is there, or another preprocessing or tokenizer.
    CheckpointError: what is there is damaged.
  """
  change = change or (lambda config: config)
  if source == REFERENCE:
    with importlib.resources.as_file(
      importlib.resources.files("emma_jax.assets").joinpath(
        f"{REFERENCE}.safetensors"
      )
    ) as path:
      if not path.is_file():
        raise SampleError(
          "This installation ships no reference weights; name a weight file "
          "or the working directory of a training instead."
        )
      return _from_file(path, REFERENCE, change)
  path = pathlib.Path(source).expanduser()
  if path.is_file():
    return _from_file(path, source, change)
  if (path / "checkpoints").is_dir():
    path = path / "checkpoints"
  if path.name.isdigit() and (path / "state").is_dir():
    return _from_step(path.parent, int(path.name), source, change)
  steps = sorted(int(p.name) for p in path.glob("*") if p.name.isdigit())
  if not steps:
    raise SampleError(
      f"No weights at {source}: name {REFERENCE!r}, a .safetensors file, or "
      "the working directory of a training that has saved a checkpoint."
    )
  for step in reversed(steps):
    try:
      return _from_step(path, step, source, change)
    except CheckpointDamaged as error:  # said aloud where it was found
      damage = error
  raise damage


def _from_file(path: pathlib.Path, name: str, change: Change) -> Source:
  params, meta = load_weights(path, dtype="float32")
  missing = {"config", "fingerprints", "step", "routed"} - set(meta)
  if missing:
    raise SampleError(
      f"{path} lacks the metadata {sorted(missing)}; export "
      "it again from a training."
    )
  config = _checked(name, meta, change)
  return Source(
    config=config,
    params=params,
    name=name,
    step=meta["step"],
    route=_route(config, meta["routed"]),
  )


def _from_step(
  directory: pathlib.Path, step: int, name: str, change: Change
) -> Source:
  _, meta = restore_params(directory, (), step)
  config = _checked(name, meta, change)
  learned = "ema" if config["sample"]["averaged"] else "trained"
  parts, _ = restore_params(directory, (learned, "frozen"), step)
  return Source(
    config=config,
    params=rules.merge(parts[learned], parts["frozen"]),
    name=name,
    step=step,
    route=_route(config, meta["stage"].startswith("4b")),
  )


def trained_native(config: Mapping[str, Any]) -> bool:
  """Whether a stage of the training saw native understanding pictures."""
  # Weights from elsewhere know no stages, and older ones no native sizes.
  stages = config.get("stages", {}).values()
  return any(stage.get("und_patches", 0) for stage in stages)


def _route(config: Mapping[str, Any], routed: bool) -> str:
  """ "router" once it is trained. Before, it would send pictures at random to
  an expert that is the versatile one's copy of long ago."""
  model = config["model"]
  experts = model["kind"] == "emma" and model["vision"]["experts"]
  return "router" if experts and routed else "versatile"


def _checked(name: str, meta: Mapping[str, Any], change: Change) -> dict:
  """The config to sample with, if it shows the model what training showed.

  Native size is the one choice that is left to the sampler.
  """
  trained = meta["config"]
  config = sections.plain(change(sections.plain(trained)))
  data = config["data"] | {"native": trained["data"]["native"]}
  now = build_data.fingerprints(data)
  wrong = [
    f"{key}: trained with {meta['fingerprints'].get(key)}, now {value}"
    for key, value in now.items()
    if meta["fingerprints"].get(key) != value
  ]
  if wrong:
    raise SampleError(
      f"{name} saw its data prepared in another way: {'; '.join(wrong)}. Use "
      "the data section and the version of the code it was trained with."
    )
  return config
