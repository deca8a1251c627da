"""The train step for every shape that the rows of a stage have."""

from collections.abc import Mapping, Sequence
import dataclasses
import json
from typing import Any

import jax

from emma_jax.build import sections
from emma_jax.planner import jobs


def train(
  config: Mapping[str, Any], stage: str, devices: Sequence[jax.Device]
) -> list[jobs.Job]:
  """The train step of one stage for each shape that its phases' rows have, the
  largest first.

  Raises:
    PlanError: see `train`.
  """
  plain = sections.plain(config)
  if stage not in plain["stages"]:
    return [jobs.train(config, stage, devices)]  # which says what there is
  shapes: dict[str, tuple[float, dict]] = {}
  for start, _, *options in plain["stages"][stage]["mixture"]:
    row: dict[str, int] = {}
    for option in options:
      row = option.get("row", row)
    shapes.setdefault(json.dumps(row, sort_keys=True), (start, row))
  out = []
  for start, row in shapes.values():
    section = plain["stages"][stage] | row
    own = plain | {"stages": plain["stages"] | {stage: section}}
    job = jobs.train(own, stage, devices)
    if len(shapes) > 1:
      job = dataclasses.replace(job, name=f"{job.name} from {100 * start:.4g}%")
    out.append(job)
  return sorted(out, key=lambda job: -job.tokens)
