"""Phases of one plan with rows of their own shapes."""

from collections import Counter
import dataclasses

import numpy as np
import pytest

from emma_jax.data.batching import plan as plan_lib
from emma_jax.data.batching import summary
from emma_jax.data.batching.row_layout import CAPACITIES
from tests import neutral
from tests.data.batching import simulated

LAYOUT = dataclasses.replace(
  simulated.LAYOUT, rows=3, und_tokens=5120, und_patches=16384
)
COUNTS = {"understanding": 400, "drawing": 150, "editing": 80}
PAIRS = {"understanding": 1, "drawing": 1}
LARGE = {"und_tokens": 9216, "und_patches": 32768, "references": 0}
SMALL = {"und_tokens": 4800, "targets": 2, "references": 1}
PHASES = (
  neutral.phase(PAIRS, steps=4, row=LARGE),
  neutral.phase(PAIRS, steps=5, row=LARGE, even_buckets=True),
  neutral.phase(simulated.WEIGHTS, steps=6, row=SMALL),
  neutral.phase(PAIRS),
)


def _plan(folder, phases=PHASES, segment=4) -> plan_lib.Plan:
  config = simulated.config(LAYOUT, simulated.BUCKETS, phases, segment=segment)
  out = plan_lib.Plan(config, str(folder))
  out.use(_drawer(config))
  return out


def _drawer(config: plan_lib.PlanConfig) -> plan_lib.SegmentPlanner:
  from emma_jax.data.batching import row_cost

  return plan_lib.SegmentPlanner(
    config,
    [
      row_cost.count(
        simulated.lengths(s.name, COUNTS[s.name]), config.limits(s.name)
      )
      for s in config.sources
    ],
  )


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> plan_lib.Plan:
  return _plan(tmp_path_factory.mktemp("plan"))


def _capacities(made: plan_lib.Plan, phase: int) -> np.ndarray:
  row = made.config.phases[phase].row
  return np.array(
    [row.get(k, getattr(LAYOUT, k)) for k in CAPACITIES], np.int64
  )


def test_rows_hold_what_those_of_their_phase_have_room_for(made):
  over_base = 0
  for step in range(20):
    phase = [4, 9, 15, 99].index(next(n for n in (4, 9, 15, 99) if step < n))
    assert made.config.phase(step) == phase
    room = _capacities(made, phase)
    for row in made.batch(step).rows:
      need = sum(
        made.drawer.tables[made.drawer.names.index(d.name)].need[d.index]
        for d in row
      )
      assert (need <= room).all(), (step, need, room)
      over_base += need[0] > LAYOUT.und_tokens
  assert over_base > 5  # the first phases' rows are larger than the layout's


def test_nothing_is_lost_or_seen_twice_where_a_shape_ends(made):
  """Every element that fits is drawn, once an epoch, across all borders; but
  for those that wait where no row holds them any more, which are counted."""
  seen: Counter = Counter()
  for step in range(20):
    for draw in (d for row in made.batch(step).rows for d in row):
      seen[draw[:3]] += 1
  last = made.segment(4).after  # 20 batches
  waiting = last.waiting
  for source, epoch, index in zip(waiting.source, waiting.epoch, waiting.index):
    seen[made.drawer.names[source], int(epoch), int(index)] += 1
  assert set(seen.values()) == {1}
  # What the lanes gave so far is what was seen, and what was left out.
  drawn = int(last.drawn.sum())
  passed = sum(made.batch(step).passed for step in range(20)) + last.passed
  assert drawn == len(seen) + passed


def test_what_no_row_holds_any_more_is_counted(tmp_path):
  """Edits that wait when the phase without references begins."""
  phases = (
    neutral.phase({"editing": 1, "drawing": 1}, steps=2),
    neutral.phase({"drawing": 1}, row={"references": 0}),
  )
  made = _plan(tmp_path, phases)
  before = made.segment(0)
  edits = made.drawer.names.index("editing")
  placed = int(np.count_nonzero(before.samples.source == edits))
  assert not any(
    d.name == "editing"
    for step in (2, 3)
    for row in made.batch(step).rows
    for d in row
  )
  drawn = int(
    before.after.drawn[[x.source == edits for x in made.drawer.lanes]].sum()
  )
  left_out = [made.batch(step).passed for step in range(4)]
  assert sum(left_out) + before.after.passed >= drawn - placed > 0


@pytest.mark.parametrize("segment", [1, 3, 7, 20])
def test_borders_of_segments_change_nothing(made, tmp_path, segment):
  other = _plan(tmp_path, segment=segment)
  for step in range(20):
    assert other.batch(step) == made.batch(step)


def test_every_phase_counts_its_shares_anew(tmp_path):
  """What a source had too much of in one is not taken from it in the next."""
  phases = (
    neutral.phase({"understanding": 9, "drawing": 1}, steps=12),
    neutral.phase({"understanding": 1, "drawing": 1}),
  )
  made = _plan(tmp_path, phases, segment=20)
  found = summary.summarise(made, batches=44).phases[1]
  # What waited when it began, 64 rows at most, is of the phase before.
  assert found.samples["understanding"] == pytest.approx(0.5, abs=0.08)


def test_a_source_is_the_same_in_all_its_phases(made):
  """Its elements have to fit the smallest of its phases' rows."""
  limits = made.config.limits("understanding")
  room = [_capacities(made, i) for i in range(4)]
  assert limits.capacities == tuple(np.min(room, axis=0))
  assert made.config.limits("editing").capacities == tuple(room[2])


def test_a_summary_tells_of_each_phase(made):
  found = summary.summarise(made, batches=20)
  assert [p.batches for p in found.phases] == [4, 5, 6, 5]
  tokens = samples = rooms = 0
  for i, phase in enumerate(found.phases):
    first = [0, 4, 9, 15][i]
    n = t = room = 0
    for step in range(first, first + phase.batches):
      batch = made.batch(step)
      layout = made.config.rules.with_row(made.config.phases[i].row)
      room += 3 * layout.layouts[batch.bucket].slots
      for draw in (d for row in batch.rows for d in row):
        table = made.drawer.tables[made.drawer.names.index(draw.name)]
        n, t = n + 1, t + int(table.tokens[draw.index])
    assert phase.row_samples == pytest.approx(n / (3 * phase.batches))
    assert phase.fill["slots"] == pytest.approx(t / room)
    tokens, samples, rooms = tokens + t, samples + n, rooms + room
  assert (found.samples, found.tokens) == (samples, tokens)
  assert found.fill["slots"] == pytest.approx(tokens / rooms)


def test_rows_that_cannot_be_are_refused():
  make = lambda row: simulated.config(
    LAYOUT, phases=(neutral.phase(simulated.WEIGHTS, row=row),)
  )
  with pytest.raises(ValueError, match="row names \\['slots'\\]; a row has"):
    make({"slots": 7})
  with pytest.raises(ValueError, match="und_patches=0, the stage has 16384"):
    make({"und_patches": 0})
  with pytest.raises(ValueError, match="targets=-1"):
    make({"targets": -1})
