"""The train step that `training.loop` runs, on random weights and samples."""

from collections.abc import Mapping
import pathlib
import time
from typing import Any

import jax

from emma_jax import flops, rules, sharding
from emma_jax.build import model as build_model
from emma_jax.build import run as build_run
from emma_jax.planner import chips
from emma_jax.speed import clock, synthetic, trace
from emma_jax.training import goodput, objectives
from emma_jax.training import step as step_lib

_TRACED = 2  # steps of a profile


def measure(
  config: Mapping[str, Any],
  stage: str,
  *,
  warmup: int,
  steps: int,
  profile: str = "",
) -> dict[str, Any]:
  """Compiles and times a stage's step on the devices that are here.

  Args:
    config: a whole one.
    stage: its name.
    warmup: steps that do not count.
    steps: steps that do.
    profile: a folder for a trace of some further steps; empty: none.

  Raises:
    ValueError: a config that does not fit the devices.
  """
  run = build_run.run(config, data=False)
  mesh = sharding.make_mesh(run.mesh, _devices(run.mesh))
  of_stage = run.stage(stage)
  jitted, *abstract = step_lib.abstract_step(run, of_stage, mesh)
  start = time.perf_counter()
  compiled = jitted.lower(*abstract).compile()
  compile_seconds = time.perf_counter() - start
  host, info = synthetic.batch(
    of_stage.layout, config["model"]["llm"]["vocab_size"]
  )
  batch = sharding.place_rows(host, mesh)
  begin = jax.jit(
    lambda: of_stage.begin(synthetic.weights(rules.flatten(run.shapes))),
    out_shardings=jax.tree.map(lambda x: x.sharding, abstract[0]),
  )
  state = begin()
  metrics: dict[str, Any] = {}

  def launch():
    nonlocal state, metrics
    state, metrics = compiled(state, batch)
    return metrics["loss/total"].total

  times = clock.intervals(
    launch, jax.block_until_ready, warmup=warmup, count=steps
  )
  peak = goodput.peak_memory()
  model = _model_flops(config, of_stage, state, host)
  return report(
    clock.summary(times),
    tokens=of_stage.layout.rows * of_stage.layout.slots,
    fill=info.fill,
    model_flops=model,
    device=mesh.devices.flat[0],
    devices=mesh.size,
  ) | {
    "loss": float(metrics["loss/total"].value),
    "compile_seconds": compile_seconds,
    "peak_bytes": peak,
    "compiled_bytes": compiled_bytes(compiled.memory_analysis()),
    "parameters": sum(x.size for x in jax.tree.leaves(run.shapes)),
    "kernels": _profile(launch, profile) if profile else [],
  }


def report(
  seconds: Mapping[str, float],
  *,
  tokens: int,
  fill: float,
  model_flops: float,
  device: jax.Device,
  devices: int,
) -> dict[str, Any]:
  """A step's speed: rates, and the share of the chip's peak if it is known."""
  peak = peak_flops(device.device_kind)
  rate = model_flops / seconds["seconds"]
  return dict(seconds) | {
    "tokens": tokens,
    "fill": fill,
    "model_flops": model_flops,
    "tokens_per_second": tokens / seconds["seconds"],
    "flops_per_second": rate,
    "mfu": rate / devices / peak if peak else None,
  }


def peak_flops(kind: str) -> float | None:
  """Of a device by its name, dense, bfloat16; None: not in the table.

  >>> peak_flops("NVIDIA H100 80GB HBM3")
  989400000000000.0
  """
  known = chips.of_kind(kind)
  return known.peak_flops if known else None


def compiled_bytes(stats: Any) -> int:
  """What the compiler reserves on a device, arguments included."""
  return int(
    stats.argument_size_in_bytes
    + stats.temp_size_in_bytes
    + stats.generated_code_size_in_bytes
    + max(stats.output_size_in_bytes - stats.alias_size_in_bytes, 0)
  )


def _devices(mesh: sharding.MeshConfig) -> list[jax.Device]:
  """As many as the mesh names, or all."""
  sizes = (mesh.slice, mesh.data, mesh.fsdp, mesh.tensor)
  count = None
  if min(sizes) > 0:
    count = mesh.slice * mesh.data * mesh.fsdp * mesh.tensor
  return jax.devices()[:count]


def _model_flops(config, stage, state, batch) -> float:
  """By formula; of attention the pairs that this batch's masks leave."""
  objective = stage.objective
  sizes = build_model.emma_config(config["model"])
  if isinstance(objective, objectives.RouterObjective):
    return flops.total(flops.router_step(sizes, stage.layout))
  return flops.total(
    flops.step(
      sizes,
      stage.layout,
      list(rules.flatten(state.trained)),
      live=synthetic.live_share(batch),
      draws=objective.draws,
      route=objective.route,
    )
  )


def _profile(launch, folder: str) -> list[dict[str, Any]]:
  profile = goodput.Profile(1, _TRACED, pathlib.Path(folder))
  for step in range(1, _TRACED + 1):
    profile.before(step)
    profile.after(step, launch())
  return trace.costliest(pathlib.Path(folder), steps=_TRACED)
