"""What is kept in fewer bits while it is frozen changes no result.

The dtypes are those of the full-size config, the widths tiny.
"""

from collections.abc import Iterator
import dataclasses
import functools
from typing import Any

import jax
from jax.extend.core import Literal
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from configs import emma_4b
from emma_jax import flow, rules, sharding
from emma_jax import optimizer as optim
from emma_jax.build import model as build_model
from emma_jax.build import run as build_run
from emma_jax.build.sections import ConfigError
from emma_jax.models import partition
from emma_jax.models.emma import Emma
from emma_jax.sampling import context, image, text
from emma_jax.training import objectives, state
from emma_jax.training.run import Run
from emma_jax.training.step import abstract_state, make_step
from tests import neutral, tiny

ROUTES = ("versatile", "stem", "router")
BOTH = [tiny.editing(), tiny.drawing(1)]
# The same without what is to be made.
PROMPTS = [dataclasses.replace(s, parts=s.parts[:-1]) for s in BOTH]
STEPS = 2  # of each stage


def config(variant: str = "paper") -> ml_collections.ConfigDict:
  """The full-size config but for widths, data and rows."""
  c, small = emma_4b.get_config(), tiny.model(variant)
  small.dtype = c.model.dtype
  small.llm.remat = c.model.llm.remat
  small.vision.encoder.remat = c.model.vision.encoder.remat
  c.model = small
  c.data, c.mesh = tiny.config().data, tiny.config().mesh
  c.optimizer.eps = 1e-3  # no step of the whole rate on a gradient of noise
  for name, section in c.stages.items():
    drawn = name[0] in "123"
    section.update(
      rows=2,
      samples_per_batch=2,
      steps=STEPS,
      warmup_steps=0,
      learning_rate=1e-2,
      und_tokens=32,
      und_pictures=1,
      references=2 * drawn,
      targets=2 * drawn,
    )
  c.stages["0_alignment"].load = ((".*", "random"),)
  return c


@functools.cache
def run() -> Run:
  """Without deep blocks, which are shallow ones with more to themselves: half
  as much to compile."""
  c = config()
  c.model.llm.num_shallow = c.model.llm.num_layers
  return build_run.run(c, data=False)


@functools.cache
def emma(variant: str = "paper") -> tuple[Emma, dict]:
  """The model in the full-size config's dtype, and its abstract weights."""
  made = build_model.model(config(variant).model)
  assert isinstance(made.module, Emma) and made.dtype == "bfloat16"
  return made.module, made.shapes


# ------------------------------------------------------- all stages in a row


@functools.cache
def compiled(name: str) -> tuple[Any, Any]:
  """(a stage's step, a batch for it), on latents made beforehand."""
  stage = run().stage(name)
  samples = [tiny.understanding(i, stem=i) for i in range(2)]
  if stage.layout.targets:
    samples.append(tiny.drawing(1))
  batch = tiny.packed(samples, references=0, targets=stage.layout.targets)
  batch = batch.replace(latents=tiny.latents(batch))
  step = make_step(
    stage.objective,
    stage.transformation(),
    ema_decay=stage.ema_decay,
    seed=0,
    name=name,
    accumulation=1,
    max_skipped_steps=0,
  )
  lowered = step.lower(jax.eval_shape(stage.begin, run().shapes), batch)
  return lowered.compile(compiler_options=tiny.QUICK), batch


@functools.cache
def trained() -> dict[str, dict]:
  """Weights after each stage, as it hands them on.

  1 to 3 differ in numbers alone: they are of one program.
  """
  out: dict[str, dict] = {}
  params = None
  for stage in run().stages:
    random = lambda: jax.tree.map(jnp.asarray, tiny.filled(run().shapes))
    params = state.load(stage.load, run().shapes, params, None, random)
    s = stage.begin(params)
    drawn = stage.name[0] in "123"
    step, batch = compiled("3_quality" if drawn else stage.name)
    for _ in range(STEPS):
      s, metrics = step(s, batch)
    assert metrics["norm/update"].value > 0
    params = s.params(averaged=stage.next_stage_weights == "ema")
    out[stage.name] = params
  return out


def pictures(params: dict) -> np.ndarray:
  """Latents of an edit and a drawing of fixed noise, float32."""
  module = run().stage("4a_expert").objective.model
  room = dict(rows=1, und_pictures=0, references=1, targets=0)
  layout = tiny.layout(**room)
  batch = context.one_per_row(PROMPTS, 2, layout)
  batch = batch.replace(latents=tiny.latents(batch))
  quick = lambda f, *a: f.lower(*a).compile(compiler_options=tiny.QUICK)
  prefill = (module, params, batch, "versatile")
  _, cache = quick(context.prefill, *prefill)(*prefill[1:3])
  walk = (
    params,
    cache,
    np.ones(1, np.float32),
    context.keys(0, "drawing", range(2)),
    image.padded_times(2, 3.0),
    np.int32(2),
  )
  made = quick(image.sample_latents, module, *walk, tiny.GRID)(*walk)
  return np.asarray(made)


def test_after_stage_4_drawings_and_edits_are_those_of_before_bit_for_bit():
  """Paper section 3.4, with the dtypes of the full size, EMA handed over."""
  assert [s.next_stage_weights for s in run().stages] == ["ema"] * 6
  after = trained()
  quality = pictures(after["3_quality"])
  assert np.isfinite(quality).all() and quality.std() > 0.1
  velocity = after["3_quality"]["heads"]["velocity"]["kernel"]
  rounded = jnp.asarray(velocity, jnp.bfloat16).astype(jnp.float32)
  assert np.abs(rounded - velocity).max() > 0  # else nothing could be lost
  for name in ("4a_expert", "4b_router"):
    np.testing.assert_array_equal(pictures(after[name]), quality)
    kinds = {str(x.dtype) for x in jax.tree.leaves(after[name])}
    assert kinds == {"bfloat16", "float32"}
  ask = lambda name, part: after[name]["vision"][part]
  for part, last in (("stem", "4a_expert"), ("router", "4b_router")):
    moved = jax.tree.map(
      lambda a, b: bool(jnp.any(a != b)),
      ask(last, part),
      ask("3_quality", part),
    )
    assert any(jax.tree.leaves(moved))  # what was trained is another


# -------------------------------------------------- what the programs round


# Moves values about; what follows may still round them.
MOVES = {
  "broadcast_in_dim",
  "concatenate",
  "copy",
  "device_put",
  "dynamic_slice",
  "gather",
  "optimization_barrier",
  "pad",
  "reshape",
  "sharding_constraint",
  "slice",
  "split",
  "squeeze",
  "transpose",
}
Uses = dict[str, set[str]]  # path -> dtypes it is rounded to, or primitives


def inner(eqn: Any) -> Iterator[tuple[Any, list[Any]]]:
  """(jaxpr, what is given to it) of an equation that has any."""
  given = list(eqn.invars)
  if eqn.primitive.name == "while":
    n, m = eqn.params["cond_nconsts"], eqn.params["body_nconsts"]
    yield eqn.params["cond_jaxpr"], given[:n] + given[n + m :]
    yield eqn.params["body_jaxpr"], given[n:]
  elif eqn.primitive.name == "cond":
    for branch in eqn.params["branches"]:
      yield branch, given[1:]
  elif eqn.primitive.name != "pallas_call":
    for name in ("jaxpr", "call_jaxpr", "fun_jaxpr"):
      if name in eqn.params:
        yield eqn.params[name], given
        return


def walk(jaxpr: Any, given: list[frozenset[str]], uses: Uses) -> list:
  """Follows weights into the program; returns which ones its results are."""
  jaxpr = getattr(jaxpr, "jaxpr", jaxpr)
  assert len(jaxpr.invars) == len(given)
  held = {v: w for v, w in zip(jaxpr.invars, given) if w}
  empty: frozenset[str] = frozenset()
  of = lambda v: empty if isinstance(v, Literal) else held.get(v, empty)
  for eqn in jaxpr.eqns:
    weights = empty.union(*map(of, eqn.invars))
    if not weights:
      continue
    parts, name = list(inner(eqn)), eqn.primitive.name
    if parts:
      for part, seen in parts:
        outs = walk(part, [of(v) for v in seen], uses)
        if len(outs) == len(eqn.outvars):
          held |= {v: of(v) | w for v, w in zip(eqn.outvars, outs) if w}
    elif name in MOVES:
      held |= {v: weights for v in eqn.outvars}
    else:
      kind = name
      if name == "convert_element_type":
        kind = str(eqn.params["new_dtype"])
      for path in weights:
        uses.setdefault(path, set()).add(kind)
  return [of(v) for v in jaxpr.outvars]


def uses_in(program: Any, shapes: dict, *arguments: Any) -> Uses:
  """What `program(params, *arguments)` does first to each of its weights."""
  flat = rules.flatten(shapes)
  traced = jax.make_jaxpr(
    lambda leaves, *a: program(rules.unflatten(dict(zip(flat, leaves))), *a)
  )(list(flat.values()), *arguments)
  rest = len(traced.jaxpr.invars) - len(flat)
  uses: Uses = {}
  walk(traced, [frozenset([p]) for p in flat] + [frozenset()] * rest, uses)
  return uses


def programs(variant: str) -> Iterator[tuple[Any, tuple]]:
  """(function of all weights, its other arguments): training and sampling."""
  module, shapes = emma(variant)
  c = module.config
  asked = tiny.understanding()
  batch = tiny.packed([asked, *BOTH], variant)
  prompt = tiny.packed([asked, *PROMPTS], variant, targets=0)
  draw = lambda name: jax.random.key(0)
  routes = ROUTES if c.vision.experts else ROUTES[:1]
  for route in [r for r in routes if r != "router"]:
    objective = neutral.objective(
      model=module,
      route=route,
      text_weight=1.0,
      velocity_weight=1.0,
      time_bins=2,
      loss_chunk=24,
      flow=flow.FlowConfig(time_mean=0.0, time_std=1.0, shift=1.0),
    )
    yield (lambda p, b, o=objective: o(p, b, draw)), (batch,)
  if c.vision.experts:
    router = objectives.RouterObjective(model=module)
    yield (lambda p, b: router(p, b, draw)), (batch,)
  for route in routes:
    start = lambda p, b, r=route: text.start(module, p, b, r, 4)
    yield start, (prompt,)
  dialogue = jax.eval_shape(
    lambda p, b: text.start(module, p, b, "versatile", 4), shapes, prompt
  )
  allowed_V = np.ones(c.llm.vocab_size, bool)
  scalars = (1.0, 1.0, 1, 0, allowed_V)
  answer = lambda p, d: text.answer(
    module,
    p,
    d,
    np.ones(2, bool),
    context.keys(0, "drawing", range(2)),
    *scalars,
    4,
  )
  yield answer, (dialogue,)
  cache = dialogue.cache
  walk_ode = lambda p, kv: image.sample_latents(
    module,
    p,
    kv,
    np.ones(1, np.float32),
    context.keys(0, "drawing", range(2)),
    image.padded_times(2, 3.0),
    2,
    tiny.GRID,
  )
  yield walk_ode, (cache,)
  yield (
    (lambda p, z: image.decode(module, p, z, tiny.GRID)),
    (np.zeros((1, 2, c.autoencoder.latent_channels), np.float32),),
  )


@pytest.mark.parametrize(
  "variant, platform",
  [("paper", "cpu"), ("paper", "tpu"), ("token_all_shared", "cpu")],
)
def test_weights_say_what_all_their_uses_round_them_to(variant, platform):
  """By the programs themselves: no use at full precision of a weight that may
  be kept rounded, and no matrix kept at it that none uses so."""
  _, shapes = emma(variant)
  made = build_model.model(config(variant).model)
  declared = {p for p, dtype in made.rounded_to.items() if dtype == made.dtype}
  found: Uses = {}
  with partition.compiled_for(platform):
    for program, arguments in programs(variant):
      for path, kinds in uses_in(program, shapes, *arguments).items():
        found.setdefault(path, set()).update(kinds)
  assert found.keys() == rules.flatten(shapes).keys()  # no use is overlooked
  assert all(found[p] == {made.dtype} for p in declared)
  exact = {p for p, kinds in found.items() if kinds != {made.dtype}}
  matrices = {p for p, x in rules.flatten(shapes).items() if optim.decays(p, x)}
  assert matrices - declared == matrices & exact
  assert {"heads/velocity/kernel", "vision/embed/position"} <= exact


def test_a_stage_is_planned_with_what_stays_in_float32():
  """The abstract state, of which plans are made, has the state's dtypes."""
  stage = run().stage("4a_expert")
  mesh = sharding.make_mesh(run().mesh, jax.devices()[:1])
  frozen = rules.flatten(abstract_state(run(), stage, mesh).frozen)
  kinds = {p: str(x.dtype) for p, x in frozen.items()}
  assert kinds["heads/velocity/kernel"] == "float32"
  assert kinds["vision/embed/position"] == "float32"
  assert kinds["vision/router/fc1/kernel"] == "float32"
  assert kinds["llm/embed"] == "bfloat16"
  begun = jax.eval_shape(stage.begin, run().shapes).frozen
  assert kinds == {p: str(x.dtype) for p, x in rules.flatten(begun).items()}


def test_a_frozen_dtype_that_would_round_the_computation_is_refused():
  c = config()
  c.model.dtype = "float32"
  with pytest.raises(ConfigError, match="frozen_dtype='bfloat16' would round"):
    build_run.run(c, data=False)
  c.train.frozen_dtype = "float16"
  with pytest.raises(ConfigError, match="choose float32 or bfloat16"):
    build_run.run(c, data=False)
