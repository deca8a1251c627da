"""Shares are exact at every moment, epochs whole, answers pure."""

import numpy as np
import pytest

from emma_jax.data.batching import order
from emma_jax.data.batching.row_cost import ANY_BUCKET, RowCost
from emma_jax.data.batching.row_layout import CAPACITIES

COUNTS = {"a": 40, "b": 25, "c": 7}


def _table(count: int, seed: int) -> RowCost:
  """Elements of 1 to 60 tokens in two buckets or none; a sixth does not fit."""
  rng = np.random.default_rng(seed)
  tokens = rng.integers(1, 61, count).astype(np.int32)
  return RowCost(
    need=np.pad(tokens[:, None], ((0, 0), (0, len(CAPACITIES) - 1))),
    tokens=tokens,
    turns=np.zeros(count, np.int32),
    limited=np.zeros(count, bool),
    cropped=np.zeros(count, np.float32),
    too_cropped=np.zeros(count, bool),
    bucket=rng.integers(ANY_BUCKET, 2, count).astype(np.int8),
    fits=np.arange(count) % 6 != 3,
  )


TABLES = [_table(n, i) for i, n in enumerate(COUNTS.values())]


def _order(buckets=1) -> order.FairQueue:
  sizes = [(64, 64), (64, 96)][:buckets]
  lanes = order.lanes(tuple(COUNTS), TABLES, sizes)
  return order.FairQueue(lanes, TABLES, seed=5)


def _start(made: order.FairQueue) -> order.Position:
  zeros = np.zeros(len(made.lanes), np.int64)
  return order.Position(zeros, zeros)


def _draw(made, weights, unit, count, wish=100, position=None) -> order.Chunk:
  """The first `count` samples, put together from chunks."""
  position, parts, have = position or _start(made), [], 0
  while have < count:
    chunk = made.chunk(position, np.array(weights), unit, wish)
    chunk = chunk.first(count - have)
    position, have = position.after(chunk), have + chunk.lane.size
    parts.append(chunk)
  names = vars(parts[0])
  out = order.Chunk(
    **{name: np.concatenate([vars(p)[name] for p in parts]) for name in names}
  )
  out.__dict__["end"] = position
  return out


@pytest.mark.parametrize("unit", ["samples", "tokens"])
@pytest.mark.parametrize("weights", [(1, 1, 1), (0.7, 0.2, 0.1), (97, 2, 1)])
def test_every_share_is_exact_at_every_moment(unit, weights):
  drawn = _draw(_order(), weights, unit, 3000)
  cost = 59 if unit == "tokens" else 1
  used = np.cumsum(drawn.cost[:, None] * (drawn.lane[:, None] == range(3)), 0)
  for lane, name in enumerate(COUNTS):
    share = weights[lane] / sum(weights)
    off = np.abs(used[:, lane] - used.sum(axis=1) * share)
    assert off.max() <= cost * (1 + 3 * share) / 2 + 1e-9, name


def test_an_epoch_has_every_record_that_fits_once_and_orders_differ():
  drawn = _draw(_order(), (3, 2, 1), "samples", 1500)
  for lane, table in enumerate(TABLES):
    mine = drawn.lane == lane
    orders = []
    for epoch in range(3):
      elements = drawn.element[mine & (drawn.epoch == epoch)]
      assert sorted(elements) == np.flatnonzero(table.fits).tolist()
      orders.append(elements.tolist())
    assert orders[0] != orders[1] != orders[2] != orders[0]
    # All that was passed over, none of it twice.
    running = drawn.running[mine]
    assert drawn.passed[mine].sum() + mine.sum() == running[-1] + 1


@pytest.mark.parametrize("unit", ["samples", "tokens"])
def test_chunks_of_any_size_are_one_order(unit):
  whole = _draw(
    _order(2), np.arange(1, 10)[: len(_order(2).lanes)], unit, 600, wish=5000
  )
  for wish in (1, 7, 64):
    again = _draw(
      _order(2), np.arange(1, 10)[: len(_order(2).lanes)], unit, 600, wish=wish
    )
    for name in ("lane", "running", "epoch", "element", "cost", "passed"):
      np.testing.assert_array_equal(getattr(whole, name), getattr(again, name))


def test_lanes_that_play_no_part_stand_still_and_go_on_later():
  made = _order()
  first = _draw(made, (1, 0, 1), "samples", 30)
  assert set(first.lane) == {0, 2} and not first.end.drawn[1]
  position = order.Position(first.end.drawn, np.zeros(3, np.int64))
  second = _draw(made, (1, 1, 0), "samples", 40, position=position)
  for lane in (0, 1):
    mine = second.running[second.lane == lane]
    assert mine[0] >= first.end.drawn[lane]
  a = np.concatenate(
    [x.element[(x.lane == 0) & (x.epoch == 0)] for x in (first, second)]
  )
  assert sorted(a) == np.flatnonzero(TABLES[0].fits).tolist()


def test_lanes_are_the_buckets_of_a_source():
  lanes = order.lanes(tuple(COUNTS), TABLES, [(64, 64), (64, 96)])
  for source, (name, table) in enumerate(zip(COUNTS, TABLES)):
    mine = [x for x in lanes if x.source == source]
    assert [x.name for x in mine] == [
      f"{name}/any",
      f"{name}/64x64",
      f"{name}/64x96",
    ]
    together = np.concatenate([x.elements for x in mine])
    assert sorted(together) == list(range(len(table)))
    for lane in mine:
      assert (table.bucket[lane.elements] == lane.bucket).all()


def test_a_source_of_which_nothing_fits_is_named():
  table = _table(5, 0)
  table.fits[:] = False
  with pytest.raises(ValueError, match="source 'b' fits"):
    order.lanes(("a", "b"), [TABLES[0], table], [(64, 64)])
