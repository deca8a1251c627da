"""What is planned: the programs that training and sampling run, not compiled.

Each is traced for the devices of a topology from shapes alone, by the functions
that `training.loop` and `sampling.session` call.
"""

from collections.abc import Collection, Mapping, Sequence
import copy
import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from emma_jax import rules, sharding
from emma_jax.build import data as build_data
from emma_jax.build import model as build_model
from emma_jax.build import run as build_run
from emma_jax.build import sections
from emma_jax.models import partition
from emma_jax.models.emma import PIXELS_PER_TOKEN, Emma
from emma_jax.planner import counts, recipe
from emma_jax.planner.chips import PlanError
from emma_jax.planner.recipe import Recipe
from emma_jax.sampling import context, image, placement, text
from emma_jax.structs import Batch
from emma_jax.training import state
from emma_jax.training import step as step_lib

WHOLE_WEIGHT = 2**20  # bytes that no device should hold in full


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
  """One program, traced.

  `arguments` are bytes on a device by kind, `accumulated` those of the sums of
  gradients that micro-batches add to; `tokens` those of one round over all
  devices; `share` that of a stage's steps which are so; `lengths` what a row's
  tokens may be counted as (to find arrays of their square); `model` is without
  recomputation, `asked` with it, both of train steps without what a TPU
  multiplies in excess (`partition.for_tpu`).
  """

  name: str
  traced: Any  # jax.stages.Traced
  mesh: Mesh
  arguments: Mapping[str, int]
  parameters: int
  tokens: int
  lengths: Collection[int]
  model: counts.Counts
  asked: counts.Counts
  whole_weights: tuple[str, ...]
  remat: str
  accumulated: int = 0
  share: float = 1.0
  recipe: Recipe | None = None  # of a train step


def train(
  config: Mapping[str, Any], stage: str, devices: Sequence[jax.Device]
) -> Job:
  """The train step of one stage.

  Raises:
    PlanError: a stage, mesh or batch that does not exist or fit.
  """
  platform = _platform(devices)
  made, abstract, mesh, of_stage = _train_step(config, stage, devices)
  with partition.equations():
    asked, model = (
      counts.count(_train_step(c, stage, devices)[0].jaxpr, platform)
      for c in (config, _without_recomputation(config))
    )
  train_state, batch = abstract
  U, G = (x.segment.shape[1] for x in (batch.und_ids, batch.gen_ids))
  layout = of_stage.layout
  again = getattr(of_stage.objective, "draws", 1) - 1
  again *= layout.targets * layout.tokens_per_picture
  return Job(
    name=f"train {stage}",
    traced=made,
    mesh=mesh,
    arguments=dict(
      parameters=_bytes((train_state.trained, train_state.frozen)),
      optimizer=_bytes(train_state.opt_state),
      average=_bytes(train_state.ema),
      batch=_bytes(batch),
    ),
    parameters=_count((train_state.trained, train_state.frozen)),
    tokens=batch.tokens_BU.shape[0] * (U + G),
    lengths={U + G, U + G + again},
    model=model,
    asked=asked,
    whole_weights=_whole(
      rules.merge(train_state.trained, train_state.frozen), mesh
    ),
    remat=_remat(config),
    # Float32, as the trained weights are.
    accumulated=(
      _bytes(train_state.trained) if of_stage.accumulation > 1 else 0
    ),
    recipe=recipe.of_stage(config, stage),
  )


def _train_step(config, stage: str, devices):
  """(traced step, (abstract state, abstract batch), mesh, stage)."""
  try:
    run = build_run.run(config, data=False)
    mesh = sharding.make_mesh(run.mesh, devices)
    found = run.stage(stage)
    jitted, *abstract = step_lib.abstract_step(run, found, mesh)
  except (ValueError, state.LoadError) as error:
    raise PlanError(str(error)) from error
  return jitted.trace(*abstract), abstract, mesh, found


def _without_recomputation(config: Mapping[str, Any]) -> dict:
  plain = copy.deepcopy(sections.plain(config))
  for section in _remat_sections(plain):
    section["remat"] = "none"
  return plain


def _remat_sections(config: Mapping[str, Any]) -> list[dict]:
  model = config["model"]
  if model["kind"] != "emma":
    return []
  return [s for s in (model["llm"], model["vision"]["encoder"]) if "remat" in s]


def _remat(config: Mapping[str, Any]) -> str:
  found = _remat_sections(config)
  return found[0]["remat"] if found else "none"


# ---------------------------------------------------------------- sampling


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
  """What is sampled: pictures of `height` x `width` after `text` tokens.

  `rows` pictures or conversations at once, over all devices. A picture is an
  edit of a reference, or drawn from the text alone.
  """

  rows: int
  height: int
  width: int
  text: int
  edit: bool
  answer: int = 32  # tokens of room for what is said


def sample(
  config: Mapping[str, Any], request: Request, devices: Sequence[jax.Device]
) -> list[Job]:
  """One denoising step (all guidance contexts) and one token's decoding.

  The whole loops are compiled, as sampling runs them. They go on until the
  request's end, so their length is no part of the program; costs are of one
  round, and of what surrounds the loop.
  """
  config = sections.plain(config)
  if config["model"]["kind"] != "emma":
    raise PlanError(
      "An autoencoder by itself has nothing to sample: "
      "config.model.kind must be emma."
    )
  try:
    run = build_run.run(config, data=False)
    mesh = sharding.make_mesh(run.mesh, devices)
    sharding.check_rows(request.rows, "the request's", mesh)
    places = sharding.weights(run.shapes, run.axes, mesh)
  except ValueError as error:
    raise PlanError(str(error)) from error
  kept = run.stages[0].frozen_dtypes if run.stages else {}
  params = rules.unflatten(
    {
      path: jax.ShapeDtypeStruct(
        x.shape, kept.get(path, x.dtype), sharding=places[path]
      )
      for path, x in rules.flatten(run.shapes).items()
    }
  )
  emma = Emma(build_model.emma_config(config["model"]))
  make = (_denoise, _decode)
  return [f(config, emma, params, request, mesh) for f in make]


def _denoise(config, emma: Emma, params, request: Request, mesh: Mesh) -> Job:
  c = config["sample"]
  contexts = (
    image.editing_contexts(c["edit_text_guidance"], c["edit_image_guidance"])
    if request.edit
    else image.drawing_contexts(c["text_guidance"])
  )
  rows = len(contexts) * request.rows
  batch = _prefix(config, request, rows, mesh, references=int(request.edit))
  grid = (request.height // PIXELS_PER_TOKEN, request.width // PIXELS_PER_TOKEN)
  cache = _cache(emma, params, batch, mesh)
  times = image.padded_times(int(c["steps"]), float(c["shift"]))
  arguments = (
    emma,
    params,
    cache,
    _rows((len(contexts),), jnp.float32, mesh, None),
    _keys(request.rows, mesh),
    _rows(times.shape, jnp.float32, mesh, None),
    _rows((), jnp.int32, mesh, None),
    grid,
  )
  tokens = rows * grid[0] * grid[1]
  return _job(
    "denoise",
    image.sample_latents,
    arguments,
    params,
    cache,
    tokens,
    mesh,
    {grid[0] * grid[1], cache.ids.segment.shape[1]},
  )


def _decode(config, emma: Emma, params, request: Request, mesh: Mesh) -> Job:
  batch = _prefix(config, request, request.rows, mesh, und_pictures=1)
  with sharding.program(mesh):
    dialogue = jax.eval_shape(
      lambda p, b: text.start(emma, p, b, "versatile", request.answer),
      params,
      batch,
    )
  dialogue = jax.tree.map(lambda x: x, dialogue).replace(
    cache=_place_cache(dialogue.cache, mesh),
    column=_rows((), jnp.int32, mesh, None),
    length_B=_rows(dialogue.length_B.shape, jnp.int32, mesh, 0),
    logits_BV=_rows(dialogue.logits_BV.shape, jnp.float32, mesh, 0),
  )
  scalar = lambda dtype: _rows((), dtype, mesh, None)
  arguments = (
    emma,
    params,
    dialogue,
    _rows((request.rows,), jnp.bool, mesh, 0),
    _keys(request.rows, mesh),
    scalar(jnp.float32),
    scalar(jnp.float32),
    scalar(jnp.int32),
    scalar(jnp.int32),
    _rows((emma.config.llm.vocab_size,), jnp.bool, mesh, None),
    request.answer,
  )
  return _job(
    "decode",
    text.answer,
    arguments,
    params,
    dialogue.cache,
    request.rows,
    mesh,
    {dialogue.cache.ids.segment.shape[1]},
  )


def _job(name, function, arguments, params, cache, tokens, mesh, lengths):
  with sharding.program(mesh):
    traced = function.trace(*arguments)
  model = counts.count(traced.jaxpr, _platform(mesh.devices.flat))
  inputs = [
    x
    for x in jax.tree.leaves(arguments[3:])
    if isinstance(x, jax.ShapeDtypeStruct)
  ]
  return Job(
    name=name,
    traced=traced,
    mesh=mesh,
    arguments=dict(
      parameters=_bytes(params), cache=_bytes(cache), inputs=_bytes(inputs)
    ),
    parameters=_count(params),
    tokens=tokens,
    lengths=lengths,
    model=model,
    asked=model,
    whole_weights=_whole(params, mesh),
    remat="none",
  )


def _prefix(
  config,
  request: Request,
  rows: int,
  mesh: Mesh,
  *,
  references: int = 0,
  und_pictures: int = 0,
) -> Batch:
  """A batch of contexts: text, and a reference or a picture to look at."""
  none = dict(
    rows=rows,
    und_tokens=request.text,
    und_pictures=und_pictures,
    references=references,
    targets=0,
    und_patches=0,
  )
  layout = build_data.layout(
    config, none, "sample", height=request.height, width=request.width
  )
  visual = layout.clean_cost * und_pictures
  if layout.reference_branch == "und":
    visual += layout.clean_cost * references
  layout = dataclasses.replace(
    layout, und_tokens=context.padded_size(request.text + visual, 32)
  )
  return step_lib.abstract_batch(layout, mesh)


def _cache(emma: Emma, params, batch: Batch, mesh: Mesh):
  with sharding.program(mesh):
    _, cache = jax.eval_shape(
      lambda p, b: context.prefill(emma, p, b, "versatile"), params, batch
    )
  return _place_cache(cache, mesh)


def _place_cache(cache, mesh: Mesh):
  """Shapes of a cache, each in its place."""
  return jax.tree.map(
    lambda x, where: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where),
    cache,
    placement.of_cache(cache, mesh),
  )


def _keys(rows: int, mesh: Mesh) -> jax.ShapeDtypeStruct:
  key = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), rows))
  return _rows(key.shape, key.dtype, mesh, 0)


def _rows(shape, dtype, mesh: Mesh, axis: int | None) -> jax.ShapeDtypeStruct:
  """An array whose `axis` is split as a batch's rows are; None: whole."""
  where = placement.split(shape, mesh, axis)
  return jax.ShapeDtypeStruct(shape, dtype, sharding=where)


# ---------------------------------------------------------------- measures


def _platform(devices) -> str:
  kind = next(iter(devices)).platform
  return "cuda" if kind == "gpu" else kind


def _bytes(tree: Any) -> int:
  """On one device, without the padding of layouts."""
  return sum(
    math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize
    for x in jax.tree.leaves(tree)
  )


def _count(tree: Any) -> int:
  return sum(math.prod(x.shape) for x in jax.tree.leaves(tree))


def _whole(params: Any, mesh: Mesh) -> tuple[str, ...]:
  """Large weights that every device holds in full."""
  if mesh.size == 1:
    return ()
  return tuple(
    f"{path} {x.dtype}{list(x.shape)}"
    for path, x in rules.flatten(params).items()
    if math.prod(x.shape) * x.dtype.itemsize > WHOLE_WEIGHT
    and x.sharding.is_fully_replicated
  )
