"""The train step for every shape that the rows of a stage have."""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any

import jax

from emma_jax.build import data as build_data
from emma_jax.build import sections
from emma_jax.planner import jobs


def train(
  config: Mapping[str, Any], stage: str, devices: Sequence[jax.Device]
) -> list[jobs.Job]:
  """The train step of one stage for each shape that its phases' rows have, the
  largest first.

  Raises:
    PlanError: see `jobs.train`.
  """
  out = []
  shapes = _shapes(config, stage)
  for start, share, own in shapes:
    job = dataclasses.replace(jobs.train(own, stage, devices), share=share)
    if len(shapes) > 1:
      job = dataclasses.replace(job, name=f"{job.name} from {100 * start:.4g}%")
    out.append(job)
  return sorted(out, key=lambda job: -job.tokens)


def largest(
  config: Mapping[str, Any], stage: str, devices: Sequence[jax.Device]
) -> jobs.Job:
  """That of the largest alone: no other is traced.

  Raises:
    PlanError: see `jobs.train`.
  """
  shapes = _shapes(config, stage)
  if len(shapes) > 1:
    slots = lambda shape: build_data.stage_layout(shape[-1], stage).slots
    shapes = [max(shapes, key=slots)]
  return jobs.train(shapes[0][-1], stage, devices)


def _shapes(
  config: Mapping[str, Any], stage: str
) -> list[tuple[float, float, Mapping[str, Any]]]:
  """(share of the stage done where it begins, share that has such rows, the
  config with these rows)."""
  plain = sections.plain(config)
  if stage not in plain["stages"]:
    return [(0.0, 1.0, config)]  # the job says what there is
  section, rows = plain["stages"][stage], []
  starts, shares = [], []
  ends = [start for start, *_ in section["mixture"][1:]] + [1.0]
  for (start, _, *options), end in zip(section["mixture"], ends, strict=True):
    row = build_data.phase_options(section, options)["row"]
    if row not in rows:
      rows.append(row)
      starts.append(start)
      shares.append(0.0)
    shares[rows.index(row)] += end - start
  stages = plain["stages"]
  return [
    (start, share, plain | {"stages": stages | {stage: section | row}})
    for start, share, row in zip(starts, shares, rows, strict=True)
  ]
