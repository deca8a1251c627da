"""Which samples of a batch stand in which of its rows."""

from collections.abc import Sequence

from emma_jax.data.batching.pack_info import Dropped
from emma_jax.data.batching.row_layout import CAPACITIES, Layout
from emma_jax.data.transforms import Sample


def first_fit(
  samples: Sequence[Sample | None], layout: Layout
) -> tuple[list[list[int]], list[Dropped]]:
  """The samples of each row: each in the first with room; None is a hole."""
  full = [getattr(layout, name) for name in CAPACITIES]
  free = [list(full) for _ in range(layout.rows)]
  rows: list[list[int]] = [[] for _ in range(layout.rows)]
  dropped = []
  for i, sample in enumerate(samples):
    if sample is None:
      continue
    reason = layout.too_large_reason(sample)
    if reason:
      dropped.append(Dropped(i, sample.id, reason, True))
      continue
    u, n, r, m, w = layout.row_cost(sample).values()
    for row, left in zip(rows, free):
      # Spelled out: this runs for every row of every sample.
      if (
        u <= left[0]
        and n <= left[1]
        and r <= left[2]
        and m <= left[3]
        and w <= left[4]
      ):
        row.append(i)
        left[:] = (
          left[0] - u,
          left[1] - n,
          left[2] - r,
          left[3] - m,
          left[4] - w,
        )
        break
    else:
      dropped.append(Dropped(i, sample.id, "no row has room left", False))
  return rows, dropped


def as_planned(
  samples: Sequence[Sample | None],
  layout: Layout,
  planned: Sequence[Sequence[int]],
) -> tuple[list[list[int]], list[Dropped]]:
  """The plan, without what turns out to be longer than its lengths said."""
  rows, dropped = [], []
  for row in planned:
    kept: list[int] = []
    used: dict[str, int] = {}
    for i in row:
      sample = samples[i]
      if sample is None:
        continue
      reason = layout.too_large_reason(sample)
      after = {
        name: count + used.get(name, 0)
        for name, count in layout.row_cost(sample).items()
      }
      if not reason and any(n > getattr(layout, k) for k, n in after.items()):
        reason = (
          "is longer than its data set says; count again with `emma-data "
          "lengths`"
        )
      if reason:
        dropped.append(Dropped(i, sample.id, reason, True))
        continue
      kept.append(i)
      used = after
    rows.append(kept)
  return rows, dropped
