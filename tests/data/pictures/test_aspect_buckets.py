"""The table of picture sizes is what it says, and nearest is nearest."""

import numpy as np
import pytest

from emma_jax.data.pictures import aspect_buckets

# Three in use, and pictures with their bucket.
SOME = ((64, 64), (64, 128), (128, 64))


def test_the_table():
  """33 sizes of about one megapixel, multiples of 64, in order of ratio."""
  table = aspect_buckets.TABLE_1024
  assert len(set(table)) == 33
  assert all(side % 64 == 0 for size in table for side in size)
  ratios = [y / x for y, x in table]
  assert ratios == sorted(ratios) and (ratios[0], ratios[-1]) == (0.25, 4.0)
  for y, x in table:
    assert abs(y * x / 2**20 - 1) < 0.1
    # As square as a ratio of this table can be: no side fits 64 more.
    assert (y / 32) * (x / 32) <= 1088
  assert {(1024, 1024), (512, 2048), (2048, 512), (832, 1216)} <= set(table)


def test_every_size_is_its_own_bucket():
  sizes = np.array(aspect_buckets.TABLE_1024)
  assert aspect_buckets.nearest(
    3 * sizes, aspect_buckets.TABLE_1024
  ).tolist() == list(range(33))


def test_nearest_is_by_the_ratio_of_ratios_whatever_the_order():
  rng = np.random.default_rng(0)
  sizes = rng.integers(10, 3000, (500, 2))
  for table in (aspect_buckets.TABLE_1024, SOME, SOME[::-1], SOME[:1]):
    found = aspect_buckets.nearest(sizes, table)
    for (y, x), bucket in zip(sizes, found):
      far = [abs(np.log(y / x) - np.log(a / b)) for a, b in table]
      assert far[bucket] == min(far)
  # What lies goes where what stands goes, on its side.
  turned = aspect_buckets.nearest(sizes[:, ::-1], [s[::-1] for s in SOME])
  assert (turned == aspect_buckets.nearest(sizes, SOME)).all()


@pytest.mark.parametrize(
  "wrong, words",
  [
    (aspect_buckets.TABLE_1024[:9], "9 buckets .* at most 8"),
    (((64, 64), (64, 64)), "twice"),
    (((64, 128), (32, 64)), r"\(64, 128\) and \(32, 64\) have one"),
  ],
)
def test_wrong_buckets_are_named(wrong, words):
  with pytest.raises(ValueError, match=words):
    aspect_buckets.check(wrong)
