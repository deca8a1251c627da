"""From weights, with the config that they were trained by, to a session."""

from collections.abc import Callable, Mapping
import contextlib
import dataclasses
from typing import Any

from emma_jax import rules, sharding
from emma_jax.build import data as build_data
from emma_jax.build import memory
from emma_jax.build import model as build_model
from emma_jax.build.sections import plain
from emma_jax.checkpoints import locate
from emma_jax.checkpoints.by_leaf import Keep
from emma_jax.data.pictures.framing import Framing
from emma_jax.models.emma import Emma
from emma_jax.sampling.context import SampleError
from emma_jax.sampling.placement import Placement
from emma_jax.sampling.requests import Requests
from emma_jax.sampling.runner import Runner
from emma_jax.sampling.session import Session

# A run's config -> the one to sample with.
Change = Callable[[dict], dict]
DTYPES = ("float32", "bfloat16")


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Source:
  """Weights with all that belongs to them.

  route: the expert understanding pictures take, see `_route`.
  meta: what was written beside the weights, such as their scores.
  """

  config: dict
  params: dict
  name: str
  step: int
  route: str
  meta: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def read(
  name: str,
  change: Change | None = None,
  keep: Callable[[dict], Keep] = lambda config: Keep(),
) -> Source:
  """Weights by `locate.read`, and the config to use them with.

  Args:
    name: see `checkpoints.locate`.
    change: makes the config to sample with from the one that was trained.
    keep: of the config to sample with, how the weights are kept.

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

  found = locate.read(name, choose, lambda meta: keep(config))
  return Source(
    config=config,
    params=found.params,
    name=name,
    step=found.meta["step"],
    route=_route(config, found.meta["router_trained"]),
    meta=found.meta,
  )


def config_of(name: str) -> dict:
  """The config that weights were trained by, without reading them.

  Raises:
    CheckpointError, SampleError: as `read`.
  """

  class _Known(Exception):
    pass

  config: dict = {}

  def choose(meta: Mapping[str, Any]) -> bool:
    config.update(_checked(name, meta, lambda config: config))
    raise _Known

  with contextlib.suppress(_Known):
    locate.read(name, choose)
  return config


def load(
  name: str,
  *,
  route: str | None = None,
  change: Change | None = None,
  batch: int = 32,
  fill: bool = False,
  mesh: sharding.MeshConfig | None = None,
  dtype: str = "float32",
) -> Session:
  """A session of "reference" (shipped), a weight file or a training's folder.

  Args:
    name: see `checkpoints.locate`.
    route: overrides the trained router.
    change: overrides the trained config.
    batch, fill: see `session`.
    mesh: over all devices of all processes, which all have to load; weights go
      straight to the devices that hold them. None: on the first device.
    dtype: "bfloat16" computes in it, and keeps in it all that is rounded to it
      before every use: half the memory, and of a model that was trained to
      compute in it the same results. "float32": as the weights are stored.

  Raises:
    SampleError: a mesh that does not use all devices exactly, or one that would
      leave a large weight whole on each of them; and as `read`.
    CheckpointError: weights that are not the model's; and as `read`.
    TooLittleMemory: the weights do not fit the devices; they are not read.
  """
  if dtype not in DTYPES:
    raise SampleError(f"{dtype=}: choose float32 or bfloat16.")
  place = Placement.over(mesh)
  if fill:
    place.check_rows(batch)  # now: weights may take minutes

  def changed(config: dict) -> dict:
    config = change(config) if change else config
    memory.check_sampling(config, name, mesh=place.mesh, dtype=dtype)
    if dtype == "float32":
      return config
    return config | {"model": config["model"] | {"dtype": dtype}}

  found = read(name, changed, lambda config: kept(config, place, dtype))
  return session(
    found.config,
    found.params,
    found.name,
    found.step,
    route or found.route,
    batch,
    fill,
    place,
  )


def kept(config: Mapping[str, Any], place: Placement, dtype: str) -> Keep:
  """How weights of this config are kept, for `locate.read`; see `load`.

  Raises:
    SampleError: a mesh that would leave a large weight whole on each device.
  """
  model = build_model.model(config["model"])
  shardings: Mapping[str, Any] = {}
  if place.mesh is not None:
    try:
      shardings = sharding.weights(model.shapes, model.axes, place.mesh)
    except ValueError as error:
      raise SampleError(str(error)) from error
  rounded = {p: d for p, d in model.rounded_to.items() if d == dtype}
  return Keep(
    on_devices=True,
    shardings=shardings,
    dtypes={} if dtype == "float32" else rounded,
    shapes={p: x.shape for p, x in rules.flatten(model.shapes).items()},
  )


def session(
  config: Mapping[str, Any],
  params: dict,
  name: str,
  step: int,
  route: str | None = None,
  batch: int = 32,
  fill: bool = False,
  place: Placement | None = None,
) -> Session:
  """A session of weights that are in memory, or on their devices.

  Args:
    config: all sections of a run's config.
    params: nested dicts of arrays.
    name: what to call the weights.
    step: how long they were trained.
    route: the expert understanding pictures take, "versatile" unless given
      (an untrained router would choose at random).
    batch: samples computed at once; a power of two.
    fill: see `Runner`.
    place: where the weights are to lie; None: on the first device.

  Raises:
    ConfigError: a section that does not fit.
    SampleError: a batch that is no power of two, or does not fit the devices.
  """
  config = plain(config)
  model = config["model"]
  place = place or Placement()
  asked = requests(config)  # a mistake in it should not wait for weights
  keep = kept(config, place, "float32")
  flat = rules.flatten(params)
  keep.check({path: x.shape for path, x in flat.items()})
  runner = Runner(
    emma=Emma(build_model.emma_config(model))
    if model["kind"] == "emma"
    else None,
    autoencoder=build_model.autoencoder_config(model).module(),
    params=rules.unflatten(
      {path: keep.put(path, x) for path, x in flat.items()}
    ),
    dtype=model["dtype"],
    route=route or "versatile",
    batch=batch,
    fill=fill,
    name=name,
    place=place,
  )
  return Session(
    config=config,
    name=name,
    step=step,
    defaults=config["sample"],
    requests=asked,
    runner=runner,
  )


def requests(config: Mapping[str, Any]) -> Requests:
  """How a model of this config sees what it is asked."""
  data, shown = config["data"], framing(config)
  stages = config.get("stages", {}).values()  # from elsewhere: none
  return Requests(
    tokenizer=build_data.tokenizer(data, config["model"]),
    framing=shown,
    to_sample=dataclasses.replace(
      build_data.to_sample(data, training=False), framing=shown
    ),
    row=build_data.row(config, data["height"], data["width"]),
    max_pixels=data["max_pixels"],
    max_context=config["sample"]["max_context"],
    longest_row=max(
      (s["und_tokens"] for s in stages if "und_tokens" in s), default=None
    ),
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
