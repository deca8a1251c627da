"""Rows of the full-size configs, filled with lengths like the paper's data."""

import dataclasses
import itertools

import pytest

from configs import stages
from emma_jax.build import config_file, sections
from emma_jax.build import data as build_data
from emma_jax.data.batching import (
  first_fit,
  plan,
  row_cost,
  row_shapes,
  summary,
)
from tests.data.batching import simulated

# What the understanding of the first stages is: see simulated.published.
CAPTIONS = {"0_alignment": "sentences", "1_pretraining": "captions"}


def planned(spec: str, stage: str | None) -> tuple[dict, plan.Plan]:
  """(stage's section, a plan of it); of small batches, to be quick."""
  config = sections.plain(config_file.load(spec))
  name = stage or next(iter(config["stages"]))
  section = config["stages"][name]
  layout = dataclasses.replace(
    build_data.stage_layout(config, name), rows=first_fit.OPEN_ALL
  )
  framing = build_data.framing(config["data"], native=layout.und_patches > 0)
  phases = build_data.phases(section, f"stages.{name}")
  made = plan.PlanConfig(
    seed=0,
    sources=tuple(
      plan.PlannedSource(name=n, folder=n, digest=n)
      for n in sorted({n for p in phases for n in p.weights})
    ),
    phases=phases,
    rules=row_cost.RowLimits(
      layouts=tuple(
        dataclasses.replace(layout, height=y, width=x) for y, x in framing.sizes
      ),
      framing=framing,
      max_turns=None,
    ),
    rows=layout.rows,
    segment=8,
  )
  out = plan.Plan(made)
  out.use(
    plan.SegmentPlanner(
      made,
      [
        row_cost.count(
          simulated.published(
            CAPTIONS.get(name, "understanding")
            if s.name == "understanding"
            else s.name,
            6000,
          ),
          made.limits(s.name),
        )
        for s in made.sources
      ],
    )
  )
  return section, out


WHOLE = [("emma_4b.py", stage) for stage in stages.NAMES]
ALONE = [
  (f"emma_4b.py:{word}", None)
  for word in (
    "stage0",
    "stage1",
    "stage2",
    "stage2,fixed",
    "stage3",
    "stage3,fixed",
    "stage4a",
    "stage4a,fixed",
    "stage4b",
    "stage4b,fixed",
  )
]


@pytest.mark.parametrize("spec, stage", [*ALONE, *WHOLE])
def test_every_phase_fills_its_rows_and_they_hold_what_is_expected(spec, stage):
  section, made = planned(spec, stage)
  phases = summary.of_phases(made, 30_000)
  assert len(phases) == len(section["mixture"])
  for phase in phases:
    assert phase.fill["slots"] >= 0.92, phase
  # As the batch and the number of steps are for: by shares of the samples.
  starts = [phase[0] for phase in section["mixture"]] + [1.0]
  shares = [b - a for a, b in itertools.pairwise(starts)]
  held = 1 / sum(s / p.row_samples for s, p in zip(shares, phases))
  assert section["row_samples"] == pytest.approx(held, rel=0.03)
  # Nearly no record is too large, and nearly no picture is cropped too much.
  for name, table in zip(made.drawer.names, made.drawer.tables):
    assert table.fits.mean() > 0.99, name


def test_other_rows_would_be_told():
  """Without references' places, finetuning's first phase has fuller ones."""
  _, made = planned("emma_4b.py:stage2", None)
  phases = tuple(
    dataclasses.replace(phase, row={}) for phase in made.config.phases
  )
  config = dataclasses.replace(made.config, phases=phases)
  before = plan.Plan(config)
  before.use(plan.SegmentPlanner(config, made.drawer.tables))
  first, *_, last = summary.of_phases(before, 30_000)
  assert first.fill["slots"] < 0.8 and last.fill["slots"] > 0.92
  found = row_shapes.best(before.drawer, 0)
  assert found.fill > 0.97 and found.row["references"] == 0
  assert found.slots <= max(x.slots for x in config.rules.layouts)
  # A record that fits now still does.
  limits = config.rules.with_row(found.row)
  for table in made.drawer.tables:
    assert (table.need[table.fits].max(axis=0)[0]) <= limits.capacities[0]
