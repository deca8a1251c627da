"""What a stage's finite check, validation and samples cost, measured in pairs.

Everything is the training's own: its step, its validator, its sampler. What is
compared runs in turn, the order changing from pair to pair, so that a machine
that is slower for a while is slower for both.
"""

from collections.abc import Callable, Mapping, Sequence
import contextlib
import pathlib
import random
import statistics
import tempfile
import time
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp

from emma_jax import rules, sharding
from emma_jax.build import run as build_run
from emma_jax.evals import samples
from emma_jax.speed import synthetic
from emma_jax.training import finite, metrics, objectives, validation
from emma_jax.training import looks as looks_lib
from emma_jax.training import step as step_lib

HEADER = (
  f"{'part':24} {'seconds':>9} {'of':>9} {'share':>9}   95% of shares' medians"
)
_DRAWN = 1000  # of a bootstrap
_STEPS = 5  # in a row, of a pair


def measure(
  config: Mapping[str, Any], stage: str, pairs: int
) -> list[dict[str, Any]]:
  """Shares of a step's time, of the stage `stage` of a whole config.

  Args:
    config: with `train.validate_every` and `sample_every`, by which the costs
      of a look are spread over steps; what is 0 is not measured.
    stage: its name.
    pairs: how often each is measured.

  Raises:
    ValueError: a config that does not fit, or has no held-out records.
  """
  run = build_run.run(config)
  found, mesh = run.stage(stage), sharding.make_mesh(run.mesh)
  checked = _Steps(run, found, config, mesh)
  with _without_check():
    bare = _Steps(run, found, config, mesh)
  out = [_paired("finite check", checked.some, bare.some, pairs, 1.0, True)]
  train = config["train"]
  if train["validate_every"]:
    objective = found.objective
    if found.validation is None or not isinstance(
      objective, objectives.SummedObjective
    ):
      raise ValueError(f"Stage {stage} has nothing to be validated on.")
    validator = validation.Validator(objective, found.validation, mesh)
    look = lambda: validator.values(checked.state)
    every = train["validate_every"] / _STEPS
    out.append(_paired("validation", look, checked.some, pairs, every))
  if train["sample_every"]:
    with (
      tempfile.TemporaryDirectory() as folder,
      _sampler(config, stage, checked, mesh, pathlib.Path(folder)) as look,
    ):
      every = train["sample_every"] / _STEPS
      out.append(_paired("samples", look, checked.some, pairs, every))
  return out


class _Steps:
  """A compiled step with a state and a batch of its own."""

  def __init__(self, run: Any, stage: Any, config: Mapping, mesh: Any):
    jitted, *abstract = step_lib.abstract_step(run, stage, mesh)
    self._step = jitted.lower(*abstract).compile()
    host, _ = synthetic.batch(
      stage.layout, config["model"]["llm"]["vocab_size"]
    )
    self._batch = sharding.place_rows(host, mesh)
    begin = jax.jit(
      lambda: stage.begin(synthetic.weights(rules.flatten(run.shapes))),
      out_shardings=jax.tree.map(lambda x: x.sharding, abstract[0]),
    )
    self.state = begin()

  def some(self) -> None:
    """A few steps, waited for."""
    for _ in range(_STEPS):
      self.state, told = self._step(self.state, self._batch)
    jax.block_until_ready(told)


@contextlib.contextmanager
def _without_check():
  """Steps that are traced here are always applied, and say so."""

  def judge(loss, norm, refused, most):
    del loss, norm, most
    yes = jnp.bool_(True)
    return _Always(yes, yes, jnp.zeros_like(refused))

  with mock.patch.object(finite, "judge", judge):
    yield


class _Always(finite.Verdict):
  def kept(self, new: Any, old: Any) -> Any:
    return new


@contextlib.contextmanager
def _sampler(
  config: Mapping[str, Any],
  stage: str,
  steps: _Steps,
  mesh: Any,
  folder: pathlib.Path,
):
  """What draws, edits and answers as a run does, into a folder."""
  make, count = samples.RunSamples(folder, config), 0
  with metrics.MetricWriter(folder) as writer:

    def look() -> None:
      nonlocal count
      count += 1
      make(
        looks_lib.Look(
          stage=stage,
          step=count,
          last=False,
          samples=True,
          router_trained=False,
          params=lambda averaged: steps.state.params(averaged=averaged),
          mesh=mesh,
          writer=writer,
        )
      )

    yield look


def _paired(
  name: str,
  part: Callable[[], Any],
  steps: Callable[[], Any],
  pairs: int,
  every: float,
  added: bool = False,
) -> dict[str, Any]:
  """`part` against `steps`, which it comes once in `every` of.

  added: `part` is steps with something more; its share is what is more.
  """
  for work in (part, steps):  # compiles
    work()
  seconds: list[tuple[float, float]] = []
  for n in range(pairs):
    took = {}
    for work in (part, steps) if n % 2 else (steps, part):
      start = time.perf_counter()
      work()
      took[work] = time.perf_counter() - start
    seconds.append((took[part], took[steps]))
  shares = [a / b / every - added for a, b in seconds]
  low, high = interval(shares)
  return dict(
    part=name,
    seconds=statistics.median(a for a, _ in seconds),
    steps_seconds=statistics.median(b for _, b in seconds) * every,
    share=statistics.median(shares),
    low=low,
    high=high,
    pairs=pairs,
  )


def interval(shares: Sequence[float]) -> tuple[float, float]:
  """The middle 95% of medians of `shares`, drawn again with replacement.

  >>> interval([0.5] * 9)
  (0.5, 0.5)
  """
  chance = random.Random(0)
  medians = sorted(
    statistics.median(chance.choices(shares, k=len(shares)))
    for _ in range(_DRAWN)
  )
  return medians[_DRAWN // 40], medians[-1 - _DRAWN // 40]


def line(result: Mapping[str, Any]) -> str:
  """A row below `HEADER`."""
  return (
    f"{result['part']:24} {result['seconds']:9.4f} "
    f"{result['steps_seconds']:9.4f} {result['share']:9.3%}   "
    f"{result['low']:.3%} to {result['high']:.3%} ({result['pairs']} pairs)"
  )
