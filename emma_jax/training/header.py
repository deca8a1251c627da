"""What a run says before its first step: on what, of what, where."""

from collections.abc import Iterator
import math
import os
import pathlib
import shlex

import jax
from jax.sharding import Mesh

from emma_jax import rules
from emma_jax.training.run import Run, Stage


def lines(
  run: Run, workdir: pathlib.Path, mesh: Mesh, done: int, resumed: str
) -> Iterator[str]:
  """The header.

  Args:
    run: the whole one.
    workdir: its folder.
    mesh: of all devices.
    done: steps of the run that are done.
    resumed: "stage S, step N"; "" for a run that begins.
  """
  total = sum(s.steps for s in run.stages)
  count = len(run.stages)
  yield f"{run.name}: {total:,} steps in {count} stage{'s' * (count > 1)}"
  row = lambda name, text: f"  {name:8}{text}"
  yield row("device", device())
  axes = ", ".join(f"{k}={n}" for k, n in mesh.shape.items() if n > 1)
  if mesh.size > 1:
    hosts = jax.process_count()
    yield row("mesh", axes + (f"; {hosts} processes" if hosts > 1 else ""))
  yield row("model", f"{size(parameters(run))} parameters")
  for i, text in enumerate(_data(run)):
    yield row("data" if i == 0 else "", text)
  yield row("folder", str(workdir))
  if resumed:
    yield row("goes on", f"at {resumed}: {done:,} of {total:,} steps are done")
  quoted = shlex.quote(str(workdir)), shlex.quote(str(workdir / "tensorboard"))
  yield row("watch", f"tensorboard --logdir {quoted[1]}")
  yield row("", f"python -m emma_jax.cli.train status {quoted[0]} --watch")


def stage_line(run: Run, stage: Stage, step: int) -> str:
  """Of a stage that begins, or goes on after `step`."""
  trained = trained_parameters(run, stage)
  frozen = parameters(run) - trained
  steps = f"{stage.steps:,} steps"
  if step:
    steps = f"steps {step + 1:,} to {stage.steps:,}"
  moves = f"trains {size(trained)} parameters, freezes {size(frozen)}"
  return f"Stage {stage.name}: {steps}; {moves}."


def device() -> str:
  """Those of all processes, "256 x TPU v5 lite"; of a CPU its cores."""
  kinds: dict[str, int] = {}
  for one in jax.devices():
    kinds[one.device_kind] = kinds.get(one.device_kind, 0) + 1
  out = ", ".join(f"{n} x {kind}" for kind, n in kinds.items())
  return out if set(kinds) != {"cpu"} else f"{out} ({_cores()} cores)"


def _cores() -> int:
  """That this process may use."""
  if hasattr(os, "sched_getaffinity"):
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1


def parameters(run: Run) -> int:
  """Of the whole model, autoencoder included."""
  return sum(math.prod(x.shape) for x in jax.tree.leaves(run.shapes))


def trained_parameters(run: Run, stage: Stage) -> int:
  """Of those, what a stage trains."""
  flat = rules.flatten(run.shapes)
  decided = rules.resolve(stage.policy, flat, "policy")
  return sum(
    math.prod(flat[path].shape)
    for path, what in decided.items()
    if what == "train"
  )


def size(count: int) -> str:
  """A number of parameters.

  >>> [size(n) for n in (0, 950, 61_440, 3_456_789, 4_022_000_000)]
  ['0', '950', '61.4 K', '3.46 M', '4.02 G']
  """
  for unit, factor in (("G", 1e9), ("M", 1e6), ("K", 1e3)):
    if count >= factor:
      return f"{count / factor:.3g} {unit}"
  return str(count)


def _data(run: Run) -> list[str]:
  """A line a source that any stage uses."""
  sources = run.config.get("data", {}).get("sources", {})
  used = {
    name
    for stage in run.config.get("stages", {}).values()
    for _, weights, *_ in stage.get("mixture", ())
    for name in weights
  }
  return [f"{name}: {spec}" for name, spec in sources.items() if name in used]
