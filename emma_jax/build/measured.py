"""Rows hold what their samples' lengths let them: a batch and its steps follow.

A config of planned rows says how many samples it expects in one (`row_samples`)
and its rows, micro-batches, steps, rate, warm-up and average are for as many.
Where `measure_rows` says so, they are made to fit what rows of these lengths
hold: the batch, and the samples of the stage, of its phases, of the warm-up and
of the average's half-life stay what they were.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import hashlib
import json
import math
import os
from typing import Any

from emma_jax import batches, files, sharding
from emma_jax.build import data as build_data
from emma_jax.build.sections import ConfigError, plain
from emma_jax.data.batching import summary

# Samples that are planned of each phase: what rows hold is known to a percent.
SAMPLES = 50_000


def config(
  given: Mapping[str, Any],
  plans: str | None,
  only: str | None = None,
  keep: bool = True,
) -> tuple[Mapping[str, Any], tuple[str, ...]]:
  """(the config with measured rows, what there is to say of it).

  Args:
    given: a whole config.
    plans: the folder of the run's plans, where the answer is kept: rows are
      those that a run began with, on whichever machine it goes on.
    only: a stage; None: all of them.
    keep: whether an answer that is found now is kept there.

  Raises:
    ConfigError: data that cannot be planned, or a stage that says itself how
      many steps or rows it has.
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
    _check(section, where)
    shards = sharding.row_shards(build_data.mesh_of(out))
    fits = max(1, section["rows"] // (section["accumulation"] * shards))
    try:
      found = _decided(out, name, plans, shards, fits, keep)
    except ConfigError:
      raise
    except ValueError as error:
      raise ConfigError(f"{where}: {error}") from error
    notes.append(_told(name, section, found))
    section |= found
    section["accumulation"] = _micro_batches(section["rows"], shards, fits)
    section["measure_rows"] = False
  return out, tuple(notes)


def _check(section: Mapping[str, Any], where: str) -> None:
  """Raises ConfigError for a stage that is not planned, does not say its
  samples, or whose steps were set by hand: they would not be taken."""
  for key in ("row_samples", "batch_samples", "stage_samples"):
    if not section[key]:
      raise ConfigError(
        f"{where}.measure_rows needs {where}.{key}, now {section[key]}; or set "
        "measure_rows=False."
      )
  if section["samples_per_batch"]:
    raise ConfigError(
      f"{where}.measure_rows is for planned rows: set {where}."
      f"samples_per_batch=0 (now {section['samples_per_batch']}), or "
      "measure_rows=False."
    )
  step = section["rows"] * section["row_samples"]
  steps = max(1, round(section["stage_samples"] / step))
  if section["steps"] != steps:
    raise ConfigError(
      f"{where}: {section['steps']:,} steps of {section['rows']} rows with "
      f"{section['row_samples']} samples are not the stage's "
      f"{section['stage_samples']:,} samples ({steps:,} steps). With "
      "measure_rows steps and rows follow from what rows hold: set "
      f"{where}.stage_samples or batch_samples; or set measure_rows=False to "
      "say them yourself."
    )


def _decided(
  config: dict[str, Any],
  name: str,
  plans: str | None,
  shards: int,
  fits: int,
  keep: bool,
) -> dict[str, Any]:
  """The stage's other values: as the run began with them, or computed now."""
  section = config["stages"][name]
  # So many steps that each phase has some.
  long = config["stages"] | {name: section | {"steps": 10**6}}
  source = build_data.batches(config | {"stages": long}, name, None)
  file_name = f"rows-{_key(section, source)}.json"
  path = os.path.join(plans, file_name) if plans else ""
  if os.path.exists(path):
    with open(path, encoding="utf-8") as file:
      found = json.load(file)
    if found["rows"] % shards:
      raise ConfigError(
        f"{found['rows']} rows a batch, as {path} says, do not split over "
        f"{shards} devices. A run that has begun with them goes on on a "
        "divisor of them; if none has, remove that file."
      )
    return found
  phases = summary.of_phases(source.plan, SAMPLES)
  held = [phase.row_samples for phase in phases]
  found = _fitted(section, held, shards, fits)
  if path and keep:  # which processes of many hosts may write at once
    with files.atomic_write(path, "w", shared=True) as out:
      json.dump(found, out, indent=1)
  return found


def _key(section: Mapping[str, Any], source: Any) -> str:
  """Of all that decides the answer, but for the machine."""
  plan = source.plan.config
  anywhere = dataclasses.replace(
    plan,
    rows=1,
    segment=1,
    phases=tuple(dataclasses.replace(p, steps=1) for p in plan.phases),
  )
  keys = ("batch_samples", "stage_samples", "warmup_samples", "half_life")
  asked = [anywhere.fingerprint(), section["mixture"]]
  asked += [section[key] for key in keys]
  asked.append(f"{section['learning_rate'] / section['rate_factor']:.9g}")
  return hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:16]


def _fitted(
  section: Mapping[str, Any], held: Sequence[float], shards: int, fits: int
) -> dict[str, Any]:
  """Its values for rows that hold so many samples in each phase."""
  starts = [phase[0] for phase in section["mixture"]]
  shares = [b - a for a, b in zip(starts, [*starts[1:], 1.0])]
  # Steps are in proportion to samples over what a row holds.
  relative = [share / n for share, n in zip(shares, held, strict=True)]
  mean = 1 / sum(relative)
  batch = section["batch_samples"]
  rows, _ = batches.fit(batch / mean, shards, fits)
  step = rows * mean
  factor = batches.rate_factor(step / batch)
  steps = max(1, round(section["stage_samples"] / step))
  begins, done = [], 0.0
  for part in relative:
    begins.append(round(done * mean * steps) / steps)
    done += part
  half_life, warmup = section["half_life"], section["warmup_samples"]
  return dict(
    rows=rows,
    row_samples=mean,
    steps=steps,
    learning_rate=section["learning_rate"] / section["rate_factor"] * factor,
    rate_factor=factor,
    warmup_steps=min(steps, max(warmup > 0, round(warmup / step))),
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
