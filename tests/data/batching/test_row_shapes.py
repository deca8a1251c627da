"""Shapes of rows are proposed that samples really fill."""

import dataclasses

import numpy as np
import pytest

from emma_jax.data.batching import plan, row_cost, row_shapes, summary
from emma_jax.data.batching.row_layout import CAPACITIES
from tests import neutral
from tests.data.batching import simulated

# Too many targets beside its text.
LAYOUT = dataclasses.replace(
  simulated.LAYOUT,
  rows=32,
  und_tokens=5120,
  und_patches=16384,
  references=0,
  targets=10,
)
PHASES = (
  neutral.phase({"understanding": 1, "drawing": 1}, steps=100),
  neutral.phase({"understanding": 1}),
)
MIXTURE = [[0.0, {"understanding": 1, "drawing": 1}], [0.5, {"x": 1}, {}]]


def planner(phases=PHASES) -> plan.SegmentPlanner:
  config = simulated.config(LAYOUT, phases=phases, segment=8)
  counts = dict.fromkeys(("understanding", "drawing"), 2000)
  tables = [
    row_cost.count(
      simulated.lengths(s.name, counts[s.name]), config.limits(s.name)
    )
    for s in config.sources
  ]
  return plan.SegmentPlanner(config, tables)


@pytest.fixture(scope="module")
def made() -> plan.SegmentPlanner:
  return planner()


def test_a_plan_with_the_proposed_rows_is_as_full_as_told(made):
  then, ((now, best), (text, same)) = row_shapes.mixture(made, MIXTURE, 0.92)
  assert now.fill < 0.8 and best.fill > 0.95
  assert best.slots <= LAYOUT.slots
  assert text == same  # rows of one buffer are full
  assert then[1] == MIXTURE[1] and then[0][:2] == MIXTURE[0]
  (option,) = then[0][2:]
  assert option["row"].items() <= best.row.items()
  first = dataclasses.replace(PHASES[0], row=option["row"])
  other = plan.Plan(dataclasses.replace(made.config, phases=(first, PHASES[1])))
  other.use(plan.SegmentPlanner(other.config, made.tables))
  (found, _) = summary.of_phases(other, 30_000)
  assert found.fill["slots"] == pytest.approx(best.fill, abs=0.02)
  assert found.row_samples == pytest.approx(best.row_samples, rel=0.02)


def test_records_that_fit_still_fit(made):
  best = row_shapes.best(made, 0)
  for table in made.tables:
    largest = table.need[table.fits].max(axis=0)
    assert (largest <= [best.row[k] for k in CAPACITIES]).all()
  # Places of native pictures cost nothing.
  assert best.row["und_pictures"] == LAYOUT.und_pictures


def test_pictures_of_one_size_are_as_many_as_are_shown():
  """The vision tower computes each place, used or not."""
  layout = dataclasses.replace(LAYOUT, und_patches=0, und_pictures=20)
  config = simulated.config(layout, phases=PHASES[:1], segment=8)
  tables = [
    row_cost.count(simulated.lengths(s.name, 2000), config.limits(s.name))
    for s in config.sources
  ]
  best = row_shapes.best(plan.SegmentPlanner(config, tables), 0)
  per_sample = np.mean(tables[1].need[:, 1]) / 2
  assert best.row["und_pictures"] < 20
  assert best.row["und_pictures"] >= best.row_samples * per_sample * 0.9
