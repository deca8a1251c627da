"""Rows hold what their samples' lengths let them: a batch and its steps follow.

A config of planned rows says how many samples it expects in one (`row_samples`)
and its rows, micro-batches, steps, rate, warm-up and average are for as many.
Where `measure_rows` says so, they are made to fit what rows of these lengths
hold: the batch, and the samples of the stage, of its phases, of the warm-up and
of the average's half-life stay what they were.
"""

from collections.abc import Mapping, Sequence
import hashlib
import json
import math
import os
from typing import Any

from emma_jax import batches, files, sharding
from emma_jax.build import data as build_data
from emma_jax.build.sections import ConfigError, make, plain
from emma_jax.data.batching import summary

# Samples that are planned of each phase: what rows hold is known to a percent.
SAMPLES = 50_000


def config(
  given: Mapping[str, Any], plans: str | None, only: str | None = None
) -> tuple[Mapping[str, Any], tuple[str, ...]]:
  """(the config with measured rows, what there is to say of it).

  Args:
    given: a whole config.
    plans: the folder of the run's plans, where the answer is kept: rows are
      those that a run began with, on whichever machine it goes on.
    only: a stage; None: all of them.

  Raises:
    ConfigError: data that cannot be planned.
  """
  wanted = [
    name
    for name, section in given["stages"].items()
    if section["measure_rows"] and only in (None, name)
  ]
  if not wanted:
    return given, ()
  out, notes = plain(given), []
  for name in wanted:
    section = out["stages"][name]
    where = f"config.stages.{name}"
    if section["samples_per_batch"] or not section["row_samples"]:
      raise ConfigError(
        f"{where}.measure_rows is for planned rows: set {where}."
        f"samples_per_batch=0 (now {section['samples_per_batch']}) and "
        f"{where}.row_samples to what a row may hold (now "
        f"{section['row_samples']}); or set measure_rows=False."
      )
    shards = _shards(out)
    fits = max(1, section["rows"] // (section["accumulation"] * shards))
    found = _decided(out, name, plans, shards, fits)
    notes.append(_told(name, section, found))
    section |= found
    section["accumulation"] = _micro_batches(section["rows"], shards, fits)
    section["measure_rows"] = False
  return out, tuple(notes)


def _decided(
  config: Mapping[str, Any],
  name: str,
  plans: str | None,
  shards: int,
  fits: int,
) -> dict[str, Any]:
  """The stage's other values: as the run began with them, or computed now."""
  source = build_data.batches(config, name, plans)
  section = dict(config["stages"][name])
  del section["accumulation"]  # which may change where the run goes on
  asked = json.dumps([section, source.plan.key])
  key = hashlib.sha256(asked.encode()).hexdigest()[:16]
  path = os.path.join(plans, f"rows-{key}.json") if plans else None
  if path and os.path.exists(path):
    with open(path, encoding="utf-8") as file:
      return json.load(file)
  phases = summary.of_phases(source.plan, SAMPLES)
  held = [phase.row_samples for phase in phases]
  found = _fitted(config["stages"][name], held, shards, fits)
  if path:  # which processes of many hosts may write at once
    with files.atomic_write(path, "w", shared=True) as out:
      json.dump(found, out, indent=1)
  return found


def _fitted(
  section: Mapping[str, Any], held: Sequence[float], shards: int, fits: int
) -> dict[str, Any]:
  """Its values for rows that hold so many samples in each phase."""
  expected = section["rows"] * section["row_samples"]  # of a step
  samples = section["steps"] * expected  # of the stage
  starts = [phase[0] for phase in section["mixture"]]
  shares = [b - a for a, b in zip(starts, [*starts[1:], 1.0])]
  # Steps are in proportion to samples over what a row holds.
  relative = [share / n for share, n in zip(shares, held)]
  mean = 1 / sum(relative)
  batch = section["batch_samples"]
  rows, _ = batches.fit(batch / mean, shards, fits)
  step = rows * mean
  factor = batches.rate_factor(step / batch)
  steps = max(1, round(samples / step))
  begins, done = [], 0.0
  for part in relative:
    begins.append(round(done * mean * steps) / steps)
    done += part
  half_life = expected * batches.half_life_steps(section["ema_decay"])
  return dict(
    rows=rows,
    row_samples=mean,
    steps=steps,
    learning_rate=section["learning_rate"] / section["rate_factor"] * factor,
    rate_factor=factor,
    warmup_steps=min(
      steps, max(1, round(section["warmup_steps"] * expected / step))
    ),
    ema_decay=batches.decay(step, half_life) if half_life else 0.0,
    mixture=[
      [start, *phase[1:]] for start, phase in zip(begins, section["mixture"])
    ],
  )


def _micro_batches(rows: int, shards: int, fits: int) -> int:
  """The fewest that a device has room for, and that split the rows evenly."""
  each = max(1, rows // shards)
  for parts in range(math.ceil(each / fits), each + 1):
    if each % parts == 0:
      return parts
  return each


def _shards(config: Mapping[str, Any]) -> int:
  mesh = sharding.make_mesh(make(sharding.MeshConfig, config["mesh"], "mesh"))
  return sharding.row_shards(mesh)


def _told(
  name: str, section: Mapping[str, Any], found: Mapping[str, Any]
) -> str:
  step = found["rows"] * found["row_samples"]
  return (
    f"Stage {name}: a row of these lengths holds {found['row_samples']:.2f} "
    f"samples ({section['row_samples']:.2f} were expected). So a batch of "
    f"{section['batch_samples']:,} samples is {found['rows']} rows ({step:.0f} "
    f"samples), and the stage's {found['steps'] * step / 1e6:.3f} M are "
    f"{found['steps']:,} steps; with "
    f"--config.stages.{name}.measure_rows=False they are as the config says."
  )
