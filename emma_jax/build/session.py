"""From weights, with the config that they were trained by, to a session."""

from collections.abc import Callable, Mapping
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from emma_jax.build import data as build_data
from emma_jax.build import memory
from emma_jax.build import model as build_model
from emma_jax.build.sections import plain
from emma_jax.checkpoints import locate
from emma_jax.data.pictures.framing import Framing
from emma_jax.models.dcae import Autoencoder
from emma_jax.models.emma import Emma
from emma_jax.sampling.context import SampleError
from emma_jax.sampling.requests import Requests
from emma_jax.sampling.runner import Runner
from emma_jax.sampling.session import Session

# A run's config -> the one to sample with.
Change = Callable[[dict], dict]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Source:
  """Weights with all that belongs to them.

  route: the expert understanding pictures take, see `_route`.
  """

  config: dict
  params: dict
  name: str
  step: int
  route: str


def read(name: str, change: Change | None = None) -> Source:
  """Weights by `locate.read`, and the config to use them with.

  Args:
    name: see `checkpoints.locate`.
    change: makes the config to sample with from the one that was trained.

  Raises:
    SampleError: metadata is lacking, or `change` asks for another preprocessing
      or tokenizer than the training's.
    CheckpointError: nothing is there, or it is damaged.
  """
  config: dict = {}

  def choose(meta: Mapping[str, Any]) -> bool:
    nonlocal config  # of the step that is read in the end
    config = _checked(name, meta, change or (lambda config: config))
    return config["sample"]["averaged"]

  found = locate.read(name, choose)
  return Source(
    config=config,
    params=found.params,
    name=name,
    step=found.meta["step"],
    route=_route(config, found.meta["router_trained"]),
  )


def load(
  name: str,
  *,
  route: str | None = None,
  change: Change | None = None,
  batch: int = 32,
  fill: bool = False,
) -> Session:
  """A session of "reference" (shipped), a weight file or a training's folder.

  `route` and `change` override the trained router and config; for errors and
  folders see `read`.

  Raises:
    TooLittleMemory: the weights do not fit the device; they are not read.
  """

  def checked(config: dict) -> dict:
    config = change(config) if change else config
    memory.check_sampling(config, name)
    return config

  found = read(name, checked)
  return session(
    found.config,
    found.params,
    found.name,
    found.step,
    route or found.route,
    batch,
    fill,
  )


def session(
  config: Mapping[str, Any],
  params: dict,
  name: str,
  step: int,
  route: str | None = None,
  batch: int = 32,
  fill: bool = False,
) -> Session:
  """A session of weights that are in memory.

  Args:
    config: all sections of a run's config.
    params: nested dicts of arrays.
    name: what to call the weights.
    step: how long they were trained.
    route: the expert understanding pictures take, "versatile" unless given
      (an untrained router would choose at random).
    batch: samples computed at once; a power of two.
    fill: see `Runner`.

  Raises:
    ConfigError: a section that does not fit.
    SampleError: a batch that is no power of two.
  """
  config = plain(config)
  model = config["model"]
  runner = Runner(
    emma=Emma(build_model.emma_config(model))
    if model["kind"] == "emma"
    else None,
    autoencoder=Autoencoder(build_model.dcae_config(model)),
    params=jax.tree.map(jnp.asarray, params),
    dtype=model["dtype"],
    route=route or "versatile",
    batch=batch,
    fill=fill,
    name=name,
  )
  return Session(
    config=config,
    name=name,
    step=step,
    defaults=config["sample"],
    requests=requests(config),
    runner=runner,
  )


def requests(config: Mapping[str, Any]) -> Requests:
  """How a model of this config sees what it is asked."""
  data, shown = config["data"], framing(config)
  return Requests(
    tokenizer=build_data.tokenizer(data, config["model"]),
    framing=shown,
    to_sample=dataclasses.replace(
      build_data.to_sample(data, training=False), framing=shown
    ),
    row=build_data.row(config, data["height"], data["width"]),
    max_pixels=data["max_pixels"],
  )


def framing(config: Mapping[str, Any]) -> Framing:
  """How a sampler frames pictures: as the training did.

  Where no stage has seen native sizes, `data.native` is the sampler's own
  choice, for all that it shows: what is edited keeps its size too.
  """
  found = build_data.framing(config["data"])
  if not config["data"]["native"] or _trained_native(config):
    return found
  return dataclasses.replace(found, generation=found.understanding, buckets=())


def _trained_native(config: Mapping[str, Any]) -> bool:
  """Whether a stage of the training saw native understanding pictures."""
  stages = config.get("stages", {}).values()  # weights from elsewhere have none
  return any(stage["und_patches"] for stage in stages)


def _route(config: Mapping[str, Any], trained: bool) -> str:
  """The router once it is trained. Before, it would send pictures at random to
  an expert that is the versatile one's copy of long ago."""
  model = config["model"]
  experts = model["kind"] == "emma" and model["vision"]["experts"]
  return "router" if experts and trained else "versatile"


def _checked(name: str, meta: Mapping[str, Any], change: Change) -> dict:
  """The config to sample with, if it shows the model what training showed.

  Native size is the one choice that is left to the sampler.
  """
  missing = {"config", "fingerprints", "step", "router_trained"} - set(meta)
  if meta.get("exported"):  # it has the config alone, which says as much
    missing -= {"fingerprints"}
  if missing:
    raise SampleError(
      f"{name} lacks the metadata {sorted(missing)}; export it again from a "
      "training."
    )
  trained = meta["config"]
  config = plain(change(plain(trained)))
  data = config["data"] | {"native": trained["data"]["native"]}
  now = build_data.fingerprints(data)
  then = meta.get("fingerprints") or build_data.fingerprints(trained["data"])
  wrong = [
    f"{key}: trained with {then.get(key)}, now {value}"
    for key, value in now.items()
    if then.get(key) != value
  ]
  if wrong:
    raise SampleError(
      f"{name} saw its data prepared in another way: {'; '.join(wrong)}. Use "
      "the data section and the version of the code it was trained with."
    )
  return config
