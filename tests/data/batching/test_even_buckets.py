"""Even buckets are of what is drawn: questions come as the data has them."""

import numpy as np

from emma_jax.data.batching import order, plan, row_cost
from emma_jax.data.batching.row_layout import CAPACITIES
from emma_jax.data.records.lengths import Length, Lengths
from emma_jax.structs import STEM_UNKNOWN
from tests import neutral

BUCKETS = ((32, 64), (64, 32))


def _lengths(task: str, wide: int, tall: int) -> Lengths:
  rows = [
    Length(
      task=task,
      stem=STEM_UNKNOWN,
      weight=1.0,
      turn_tokens=((2, 2 if task == "understanding" else 0),),
      sizes=(size,),
    )
    for size in [BUCKETS[0]] * wide + [BUCKETS[1]] * tall
  ]
  return Lengths.of(rows, "t")


def test_questions_of_one_size_keep_their_shares():
  layout = neutral.layout(
    rows=1,
    und_tokens=20,
    und_pictures=2,
    references=0,
    targets=2,
    height=32,
    width=64,
  )
  config = plan.PlanConfig(
    seed=1,
    rows=1,
    segment=10,
    sources=tuple(
      plan.PlannedSource(name=n, folder=n, digest=n) for n in ("ask", "draw")
    ),
    phases=(neutral.phase({"ask": 1, "draw": 1}, even_buckets=True),),
    rules=row_cost.RowLimits(
      layouts=tuple(
        neutral.layout(
          **{name: getattr(layout, name) for name in ("rows", *CAPACITIES)},
          height=y,
          width=x,
        )
        for y, x in BUCKETS
      ),
      framing=neutral.framing(BUCKETS, height=32, width=64),
      max_turns=None,
    ),
  )
  tables = [
    row_cost.count(_lengths(task, 30, 10), config.rules)
    for task in ("understanding", "drawing")
  ]
  planner = plan.SegmentPlanner(config, tables)
  (phase,) = config.phases
  shares = dict(zip([x.name for x in planner.lanes], planner.weights(phase)))
  assert shares == {
    "ask/32x64": 0.75,
    "ask/64x32": 0.25,
    "draw/32x64": 0.5,
    "draw/64x32": 0.5,
  }
  assert [x.draws for x in planner.lanes] == [False, False, True, True]
  assert isinstance(planner.order, order.FairQueue)
  assert np.isclose(sum(shares.values()), 2)
