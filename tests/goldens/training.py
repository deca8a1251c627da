"""Three steps of the micro EMMA through each stage's tables, and variants.

Of every step all metrics; of the state after three, leaf by leaf, how far
weights, averages and moments went (a norm and a product with fixed signs), so
that a leaf that moves otherwise shows whatever its size. The stages are those
of configs/tiny.py with every number off its default. Adam's eps is large: a
gradient that is zero but for rounding must not move its weight by a whole step.
"""

from collections.abc import Mapping
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from configs import tiny as tiny_config
from emma_jax import flow, optimizer, rules, sharding
from emma_jax.build import run as build_run
from emma_jax.structs import Batch
from emma_jax.training import finite, objectives, state
from emma_jax.training.run import Run, Stage
from emma_jax.training.state import TrainState
from emma_jax.training.step import abstract_step, make_step
from tests import neutral, tiny
from tests.goldens import store

KEPT = 10
STEPS = 3
# Of one program each: 1 and 2 are 3 with other numbers, see test_step.py.
STAGES = ("0_alignment", "3_quality", "4a_expert", "4b_router")


@functools.cache
def run() -> Run:
  """The stages of configs/tiny.py, on the world's data, at micro size."""
  c = tiny.config()
  c.data.text_dropout = c.data.reference_dropout = 0.0
  # The world's pictures as these numbers were made: shrunk, on white.
  c.data.fit = "pad_learned"
  c.optimizer.update(eps=1e-3, b1=0.8, b2=0.9, weight_decay=0.02, clip_norm=0.7)
  c.train.seed = 5
  c.stages = tiny_config.tiny_stages(c.model)
  for name, s in c.stages.items():
    drawn = name < "4"
    s.update(
      rows=1,
      samples_per_batch=3,
      und_tokens=320,
      und_pictures=3,
      references=int(drawn),
      targets=2 * drawn,
      warmup_steps=2,
      steps=6,
      text_weight=0.3,
      velocity_weight=0.7,
      time_mean=0.4,
      time_std=0.8,
      shift=3.0,
      time_bins=2,
      draws=2,
      ema_decay=0.8,
    )
  return build_run.run(c)


def compiled(stage: Stage) -> Any:
  """The step that the loop runs, for one device."""
  mesh = sharding.make_mesh(run().mesh, jax.devices()[:1])
  jitted, *abstract = abstract_step(run(), stage, mesh)
  return jitted.lower(*abstract).compile(compiler_options=tiny.QUICK)


@functools.cache
def trained(name: str) -> tuple[TrainState, list[dict]]:
  """(state, metrics of each step) after three steps; the expert's stage starts
  as the versatile one, the router's where the expert's ended."""
  stage = run().stage(name)
  step = compiled(stage)
  s, measured = stage.begin(jax.tree.map(jnp.array, start(name))), []
  for i in range(STEPS):
    host = stage.source[i]
    assert not host.info.unusable
    s, metrics = step(s, host.batch)
    measured.append(jax.device_get(metrics))
  return s, measured


@functools.cache
def start(name: str) -> dict:
  """The weights that a stage begins with."""
  before = (
    trained("4a_expert")[0].params() if name == "4b_router" else (tiny.params())
  )
  if name[0] != "4":
    return before
  return state.load(run().stage(name).load, tiny.shapes(), before, None, None)


def moved(begin: Mapping[str, Any], now: Mapping[str, Any]) -> dict:
  """Of each leaf's way in the order of the paths: norm and signed sum."""
  ways = [
    store.sketch(np.asarray(now[p], np.float64) - np.asarray(begin[p]))
    for p in sorted(now)
  ]
  size = [max(np.size(now[p]), 1) ** 0.5 for p in sorted(now)]
  return {
    key: np.float64([w[key] for w in ways]) / size for key in ("norm", "signed")
  }


def summary(begin: dict, after: TrainState, measured: list[dict]) -> dict:
  """What the golden holds of three steps."""
  begin = rules.flatten(begin)
  moments = {
    f"{key}/{p}": x
    for key in ("mu", "nu")
    for p, x in rules.flatten(getattr(after.opt_state[1], key)).items()
  }
  zero = {p: np.float32(0) for p in moments}
  return {
    "metrics": {
      key: np.float64(
        [[float(m[key].total), float(m[key].count)] for m in measured]
      )
      for key in sorted(measured[0].keys() - {finite.REFUSED})
    },
    "trained": moved(begin, rules.flatten(after.trained)),
    "ema": moved(begin, rules.flatten(after.ema)),
    "moments": moved(zero, moments),
    "leaves": {
      part: len(rules.flatten(getattr(after, part)))
      for part in ("trained", "frozen", "ema")
    },
    "step": int(after.step),
    "paths": store.digest("\n".join(sorted(rules.flatten(after.saved())))),
  }


# -------------------------------------------------------------- variants


def objective(variant: str) -> objectives.EmmaObjective:
  return neutral.objective(
    model=tiny.emma(variant),
    route="versatile",
    text_weight=0.25,
    velocity_weight=1.0,
    time_bins=2,
    flow=flow.FlowConfig(time_mean=0.0, time_std=1.0, shift=1.0),
  )


def batch(variant: str) -> Batch:
  return tiny.packed(
    [tiny.understanding(), tiny.editing(), tiny.drawing(1)], variant
  )


@functools.cache
def varied(variant: str) -> tuple[TrainState, list[dict]]:
  """(state, metrics) of the stage that trains all but the autoencoder, each
  step with the same times and noise."""
  policy = tiny_config.tiny_stages(tiny.model(variant))["3_quality"].policy
  transformation = optimizer.build(
    neutral.optimizer_config(learning_rate=1e-3, total_steps=STEPS, eps=1e-3),
    ((".*", 1.0),),
  )
  s = state.begin(
    jax.tree.map(jnp.array, tiny.params(variant)),
    policy,
    transformation,
    "float32",
  )
  step = make_step(
    objective(variant),
    transformation,
    ema_decay=0.9,
    seed=0,
    name="all",
    accumulation=1,
    max_skipped_steps=0,
  )
  step = step.lower(s, batch(variant)).compile(compiler_options=tiny.QUICK)
  measured = []
  for _ in range(STEPS):
    s, metrics = step(s.replace(step=jnp.int32(0)), batch(variant))
    measured.append(jax.device_get(metrics))
  return s, measured


def cases() -> dict[str, dict]:
  out = {name: summary(start(name), *trained(name)) for name in STAGES}
  return out | {
    name: summary(tiny.params(name), *varied(name)) for name in tiny.MIXTURES
  }
