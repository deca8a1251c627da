"""Rows hold what they have room for, all of it once, whenever one stops."""

import numpy as np
import pytest

from emma_jax.data.batching import first_fit
from emma_jax.data.batching.row_cost import ANY_BUCKET

pytestmark = pytest.mark.smoke

CAPACITIES = (70_000, 5, 2**40, 0, 3)


def _samples(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
  rng = np.random.default_rng(seed)
  need = np.stack(
    [
      rng.integers(1, 40_000, count),
      rng.integers(0, 6, count),
      rng.integers(0, 2**39, count),
      np.zeros(count, int),
      rng.integers(0, 2, count),
    ],
    axis=1,
  )
  bucket = np.where(need[:, 4] > 0, rng.integers(0, 3, count), ANY_BUCKET)
  return need, bucket


def _rows(need: np.ndarray) -> first_fit.Rows:
  return first_fit.Rows(CAPACITIES, 3, 4, need.min(axis=0))


def test_rows_hold_what_fits_and_are_of_one_bucket():
  need, bucket = _samples(3000)
  rows = _rows(need)
  full = list(rows.fill(0, need, bucket))
  assert len(full) > 100
  for batch in full:
    assert len(batch.rows) == 4
    for row in batch.rows:
      assert (need[row].sum(axis=0) <= CAPACITIES).all() and row
      assert set(bucket[row]) <= {batch.bucket, ANY_BUCKET}
  open_rows, kinds, closed = rows.waiting()
  placed = [i for b in full for row in b.rows for i in row]
  placed += [i for row in open_rows for i in row]
  assert sorted(placed) == list(range(3000))
  assert len(open_rows) - sum(closed) <= 4 * first_fit.BATCHES
  # No sample waits for long: the oldest row closes first.
  assert min(i for row in open_rows for i in row) > 2500
  assert set(kinds) <= {0, 1, 2}


@pytest.mark.parametrize("stop", [1, 2, 17, 90])
def test_a_restored_packer_goes_on_as_if_nothing_happened(stop):
  need, bucket = _samples(2000, seed=1)
  whole = [(b.bucket, b.rows) for b in _rows(need).fill(0, need, bucket)]
  first, got = _rows(need), []
  for batch in first.fill(0, need, bucket):
    got.append((batch.bucket, batch.rows))
    if len(got) == stop:
      break
  held, kinds, closed = first.waiting()
  second = _rows(need)
  second.restore(held, kinds, closed, need, first.last)
  rest = slice(batch.placed, None)
  got += [
    (b.bucket, b.rows)
    for b in second.fill(batch.placed, need[rest], bucket[rest])
  ]
  assert got == whole


def test_one_bucket_fits_tightly():
  """Halves and quarters: first fit leaves nothing free."""
  need = np.array([[2, 0], [1, 1], [1, 1]] * 400)
  rows = first_fit.Rows((4, 2), 1, 2, (1, 0))
  full = list(rows.fill(0, need, np.zeros(1200, int)))
  used = [need[row].sum(axis=0).tolist() for b in full for row in b.rows]
  assert used and all(u == [4, 2] for u in used)
